"""`hobbyhorse conformance replay`: runs the test case of a finding again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.client_runner import (
    DEFAULT_LIMIT,
    ClientOptions,
    ClientRunner,
    CommandArgument,
    LimitOption,
    PythonOption,
    ResumeOption,
    SpeedOption,
    TlsOption,
    VirtualOption,
    open_runner,
    option_names,
    warn_of_misplaced_options,
)
from hobbyhorse.cli.interruption import stoppable
from hobbyhorse.cli.options import ContractsOption, keep_hypothesis_files_in_cache, load_contracts, providers_of
from hobbyhorse.cli.rule_options import AllowNotObservedOption
from hobbyhorse.cli.usage import UsageError, complain, reports_internal_errors
from hobbyhorse.cli.verdicts import MOST_MESSAGES
from hobbyhorse.conformance.client.cases import KILLED, MOVED
from hobbyhorse.conformance.client.report import Replay, read_finding
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import CannotRun
from hobbyhorse.conformance.client.variations import usual_case
from hobbyhorse.conformance.exit_status import exit_status
from hobbyhorse.conformance.fallback import check_halves
from hobbyhorse.conformance.judge import InternalError
from hobbyhorse.conformance.report import ReportError
from hobbyhorse.conformance.rule import Judgement, Rule
from hobbyhorse.runners.against_fake import run_limit
from hobbyhorse.runners.command import AT_LIMIT
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.pair import annotated
from hobbyhorse.traces.trace import Trace

STILL_BROKEN, FIXED, FLAKY, NOT_REACHED = "still-broken", "fixed", "flaky", "not-reached"


@reports_internal_errors
def command(
    context: typer.Context,
    *,
    finding: Annotated[Path, typer.Argument(metavar="FINDING", help="A findings/RULE.scenario.json of a report.")],
    command: CommandArgument = None,
    times: Annotated[int, typer.Option(metavar="N", help="Run the client N times.")] = 3,
    contracts: ContractsOption = None,
    python: PythonOption = None,
    resume_command: ResumeOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    speed: SpeedOption = None,
    virtual: VirtualOption = None,
    tls: TlsOption = False,
    allow_not_observed: AllowNotObservedOption = False,
) -> None:
    """Run a client against the scenario of a finding: still-broken, fixed, flaky or not-reached.

    Exit status 0: fixed; 1: still broken or flaky; 2: the client could not be run; 3: internal error; 4: not reached;
    130: interrupted.
    """
    keep_hypothesis_files_in_cache()
    warn_of_misplaced_options(option_names(context), command)
    try:
        found = read_finding(finding)
    except ReportError as error:
        raise UsageError(str(error)) from None
    if times < 1:
        raise UsageError(f"--times is {times}; allowed: 1 or more")
    (contract, model), second = providers_of(load_contracts(contracts), found.provider, found.model)
    rule = next((one for one in rules() if one.id == found.rule), None)
    if rule is None:
        raise UsageError(f"{finding}: unknown rule {found.rule!r}; `hobbyhorse rules` lists all")
    if found.case.kind in (KILLED, MOVED) and resume_command is None:
        raise UsageError(f"{finding}: the client was killed and started again; give --resume-command, and a command")
    # One process: a few runs are not worth starting several, and a debugger can follow the client.
    client = ClientOptions(
        command, python, resume_command, found.seed, speed, limit, 1, contracts, tls, found.fit, virtual
    )
    replayed = _Replayed(rule)
    try:
        read = [contract] if second is None else [contract, second[0]]
        with stoppable(), open_runner(contract, model, client, times, second) as runner:
            for trace in _traces(runner, found, times):
                replayed.add(annotated(read, trace))
    except KeyboardInterrupt:
        replayed.interrupted = True
    except (UsageError, CannotRun) as error:
        raise UsageError(str(error)) from None
    except Exception as error:
        replayed.error = InternalError.of(f"replaying {found.case}", error)
    replayed.show(found, sum(map(run_limit, read)))
    raise typer.Exit(replayed.status(allow_not_observed))


def _traces(runner: ClientRunner, found: Replay, times: int) -> Iterator[Trace]:
    """Run the case of a finding several times, each time after the cases that it needs."""
    # A run under variations is compared with the same case without them.
    usual = usual_case(found.case)
    ends = [trace.runs[-1].outcome for trace in runner.play([usual])] if usual is not None else [None]
    for trace in _played(runner, found, times):
        yield replace(trace, plain=ends[0], patience=found.patience)


def _played(runner: ClientRunner, found: Replay, times: int) -> Iterator[Trace]:
    if not found.after:
        yield from runner.play([found.case] * times)
        return
    cases = [*found.after, found.case]
    for _ in range(times):
        # The state that the preceding runs leave must not reach the next replay. A single replay stays in this process.
        play = runner.play if runner.fresh is None or times == 1 else runner.fresh
        yield list(play(cases))[-1]


def _hint(end: str, limit: float) -> str:
    """Return what gives a run more time that was stopped: nothing does in virtual time."""
    if end.startswith(AT_LIMIT):
        return "; --limit allows more, and so does --speed in real time"
    return f"; the limit is {limit:,.0f} s, which no option changes" if "limit of its virtual time" in end else ""


@dataclass(slots=True)
class _Replayed:
    """The runs of a replay so far."""

    rule: Rule
    results: list[Judgement] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    interrupted: bool = False
    error: InternalError | None = None

    def add(self, halves: Sequence[AnnotatedTrace]) -> None:
        """Judge a run, at each of the client's providers."""
        unjudged = next((half.trace.unjudged for half in halves if half.trace.unjudged), "")
        if unjudged:
            self.unfinished.append(f"the client uses {unjudged}, which virtual time does not cover; use --real-time")
        checked = [] if unjudged else [half.judgement for half in check_halves(self.rule, halves)]
        breaches = tuple(breach for one in checked for breach in one.breaches)
        self.results.append(Judgement(any(one.observed for one in checked), breaches))
        outcomes = [run.outcome for half in halves for run in half.trace.runs if run.outcome is not None]
        self.unfinished += [outcome.message for outcome in outcomes if outcome.kind == "unfinished"]

    @property
    def verdict(self) -> str:
        """The verdict on the runs."""
        broken = sum(1 for one in self.results if one.breaches)
        # Apart from "fixed": a client that fails early would otherwise pass every replay, and so would a client that is
        # stopped before it does what the rule forbids, such as polling for too long.
        if not broken and (self.unfinished or not any(one.observed for one in self.results)):
            return NOT_REACHED
        return STILL_BROKEN if broken == len(self.results) else FLAKY if broken else FIXED

    def status(self, allow_not_observed: bool) -> int:
        """Return the exit status."""
        return exit_status(
            interrupted=self.interrupted,
            internal_error=self.error is not None,
            finding=self.verdict in (STILL_BROKEN, FLAKY),
            not_observed=self.verdict == NOT_REACHED and not allow_not_observed,
        )

    def show(self, found: Replay, limit: float) -> None:
        """Print the verdict. A run may take `limit` seconds of virtual time."""
        runs, broken = len(self.results), [one for one in self.results if one.breaches]
        after = f", each after {len(found.after)} other runs" if found.after else ""
        typer.echo(f"{self.rule.id} {self.verdict}: broken in {len(broken)} of {runs} runs with {found.case}{after}")
        if self.verdict == NOT_REACHED:
            met = any(one.observed for one in self.results)
            end = "was stopped before its end" if met else "never reached the situation that the rule is about"
            typer.echo(f"the client {end}, so this proves nothing")
            if self.unfinished:
                ends = self.unfinished[0] or "still running"
                typer.echo(f"  {len(self.unfinished)} of {runs} runs did not finish: {ends}{_hint(ends, limit)}")
        for breach in broken[0].breaches[:MOST_MESSAGES] if broken else ():
            typer.echo(f"  {breach.message}")
        if self.interrupted:
            typer.echo("interrupted: only the runs until then were judged")
        if self.error is not None:
            complain(f"internal error: {self.error}; please report it")
