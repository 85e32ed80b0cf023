"""`hobbyhorse conformance replay`: runs the test case of a finding again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.client_runner import (
    ClientOptions,
    CommandArgument,
    LimitOption,
    PythonOption,
    ResumeOption,
    SpeedOption,
    open_runner,
)
from hobbyhorse.cli.options import ContractsOption, keep_hypothesis_files_in_cache, load_contracts, model_of, one_of
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.cli.verdicts import MOST_MESSAGES
from hobbyhorse.conformance.client.report import read_finding
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.variations import usual_case
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.report import ReportError
from hobbyhorse.conformance.rule import Judgement
from hobbyhorse.traces.annotated import AnnotatedTrace

STILL_BROKEN, FIXED, FLAKY, NOT_REACHED = "still-broken", "fixed", "flaky", "not-reached"


def command(
    *,
    finding: Annotated[Path, typer.Argument(metavar="FINDING", help="A findings/RULE.scenario.json of a report.")],
    command: CommandArgument = None,
    times: Annotated[int, typer.Option(metavar="N", help="Run the client N times.")] = 3,
    contracts: ContractsOption = None,
    python: PythonOption = None,
    resume_command: ResumeOption = None,
    limit: LimitOption = 30.0,
    speed: SpeedOption = 1.0,
) -> None:
    """Run a client against the scenario of a finding: still-broken, fixed, flaky or not-reached.

    Exit status 0: fixed; 1: still broken, flaky, or the rule was not observed; 2: the client could not be run.
    """
    keep_hypothesis_files_in_cache()
    try:
        found = read_finding(finding)
    except ReportError as error:
        raise UsageError(str(error)) from None
    if times < 1:
        raise UsageError(f"--times is {times}; allowed: 1 or more")
    contract = one_of(load_contracts(contracts), found.provider)
    model = model_of(contract, found.model)
    rule = next((one for one in rules() if one.id == found.rule), None)
    if rule is None:
        raise UsageError(f"{finding}: unknown rule {found.rule!r}; `hobbyhorse rules` lists all")
    # One process: a few runs are not worth starting several, and a debugger can follow the client.
    client = ClientOptions(command, python, resume_command, found.seed, speed, limit, 1, contracts)
    results: list[Judgement] = []
    unfinished: list[str] = []
    with open_runner(contract, model, client, times) as runner:
        # A run under variations is compared with the same case without them.
        usual = usual_case(found.case)
        ends = [trace.runs[-1].outcome for trace in runner.play([usual])] if usual is not None else [None]
        for played in runner.play([found.case] * times):
            trace = replace(played, plain=ends[0])
            results.append(check(rule, AnnotatedTrace(contract, trace)))
            unfinished += [
                run.outcome.message for run in trace.runs if run.outcome and run.outcome.kind == "unfinished"
            ]
    broken = [one for one in results if one.breaches]
    verdict = _verdict(results)
    typer.echo(f"{rule.id} {verdict}: broken in {len(broken)} of {times} runs with {found.case}")
    if verdict == NOT_REACHED:
        typer.echo("the client never reached the situation that the rule is about, so this proves nothing")
        if unfinished:
            hint = "--limit allows more time" if python is None else "the limit is twice the contract's longest wait"
            typer.echo(
                f"  {len(unfinished)} of {times} runs did not finish: {unfinished[0] or 'still running'}; {hint}"
            )
    for breach in broken[0].breaches[:MOST_MESSAGES] if broken else ():
        typer.echo(f"  {breach.message}")
    raise typer.Exit(0 if verdict == FIXED else 1)


def _verdict(results: Sequence[Judgement]) -> str:
    """Return the verdict on the runs."""
    # Apart from "fixed": a client that fails early would otherwise pass every replay.
    if not any(one.observed for one in results):
        return NOT_REACHED
    broken = sum(1 for one in results if one.breaches)
    return STILL_BROKEN if broken == len(results) else FLAKY if broken else FIXED
