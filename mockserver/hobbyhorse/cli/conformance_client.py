"""The commands that test clients; what only one of them needs is imported there, so that `serve` is ready at once."""

# ruff: noqa: PLC0415 - see above
from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hobbyhorse.cli.conformance_server import server
from hobbyhorse.cli.usage import (
    BaselineOption,
    ContractsOption,
    ModelOption,
    ProviderOption,
    ReportOption,
    UsageError,
    keep_hypothesis_away,
    load_contracts,
    model_of,
    one_of,
)
from hobbyhorse.contract.values import Contract, Model

if TYPE_CHECKING:
    from hobbyhorse.conformance.client.results import Result
    from hobbyhorse.conformance.client.search import CaseRunner

app = typer.Typer(help="Find out whether a client, or a server, keeps the contract.")
app.command()(server)

PROFILE_RUNS = {"ci": (500, 150), "full": (10_000, 2_000)}
"""How many runs a profile has: of a Python callable, and of a command."""

CommandArgument = Annotated[
    list[str] | None, typer.Argument(metavar="COMMAND...", help="The client, behind --; see docs/conformance.md.")
]
PythonOption = Annotated[
    str | None,
    typer.Option("--python", metavar="FILE:FUNCTION", help="A Python callable instead of a command: in virtual time."),
]
SpeedOption = Annotated[
    float,
    typer.Option("--speed", metavar="N", help="The server's clock runs N times as fast (for commands that follow it)."),
]
LimitOption = Annotated[
    float, typer.Option("--limit", metavar="SECONDS", help="How long one run of a command may take, in real time.")
]
ParallelOption = Annotated[
    int | None,
    typer.Option(
        "--parallel", metavar="N", help="How many run at once: 8 commands, or a Python process for each core."
    ),
]
ResumeOption = Annotated[
    str | None,
    typer.Option("--resume-command", metavar="CMD", help="How the client is started again after it was killed."),
]


@app.command()
def client(
    provider: ProviderOption,
    command: CommandArgument = None,
    python: PythonOption = None,
    model: ModelOption = None,
    profile: Annotated[str, typer.Option(metavar="ci|full", help="How many runs, if --runs does not say.")] = "ci",
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed finds the same.")] = 0,
    runs: Annotated[int | None, typer.Option(metavar="N", help="How often the client may be run.")] = None,
    rule: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this rule (repeatable).")] = None,
    report: ReportOption = None,
    resume_command: ResumeOption = None,
    baseline: BaselineOption = None,
    speed: SpeedOption = 1.0,
    limit: LimitOption = 30.0,
    parallel: ParallelOption = None,
    contracts: ContractsOption = None,
) -> None:
    """Run a client against every trouble that the provider may make, and judge what it did.

    Exit status 0: no finding; 1: findings; 2: the client could not be tested.
    """
    keep_hypothesis_away()
    from hobbyhorse.cli.client_verdicts import progress, show_result
    from hobbyhorse.conformance.client.report import ReportError, read_baseline
    from hobbyhorse.conformance.client.rules import rules
    from hobbyhorse.conformance.client.search import CannotRun, Plan, Search

    if profile not in PROFILE_RUNS:
        raise UsageError(f"--profile {profile!r}; allowed are {', '.join(PROFILE_RUNS)}")
    if runs is not None and runs < 1:
        raise UsageError(f"--runs {runs}; it is a number from 1")
    known = [one.id for one in rules()]
    if unknown := sorted(set(rule or ()) - set(known)):
        raise UsageError(f"--rule {unknown[0]!r}: there is no such rule; `hobbyhorse rules` lists them")
    try:
        accepted = read_baseline(baseline, known) if baseline is not None else {}
    except ReportError as error:
        raise UsageError(str(error)) from None
    contract = one_of(load_contracts(contracts), provider)
    chosen = model_of(contract, model)
    most = runs if runs is not None else PROFILE_RUNS[profile][0 if python is not None else 1]
    options = (resume_command, seed, speed, limit, parallel, most, contracts)
    with _player(contract, chosen, python, command, *options) as (play, kinds, name):
        try:
            with progress(name) as bar:
                plan = Plan(most, seed, tuple(rule or ()), kinds)
                result = Search(contract, play, plan, bar).run(name, chosen.id)
        except CannotRun as error:
            raise UsageError(str(error)) from None
    result = _with_baseline(result, accepted)
    if report is not None:
        _write(result, contract, report)
    show_result(result, report)
    raise typer.Exit(0 if result.clean else 1)


@contextmanager
def _player(
    contract: Contract,
    model: Model,
    python: str | None,
    command: list[str] | None,
    resume_command: str | None,
    seed: int,
    speed: float,
    limit: float,
    parallel: int | None,
    runs: int,
    contracts: Path | None,
) -> Iterator[tuple[CaseRunner, tuple[str, ...], str]]:
    """Open the arena for a client; gives who plays drills there, which kinds of them, and the client's name."""
    from hobbyhorse.conformance.client.cases import CROWD, KILLED, LONG, MOVED, ONCE, TWICE
    from hobbyhorse.runners.against_fake import PARALLEL, CallableRunner, CommandRunner, FakeSession
    from hobbyhorse.runners.callable import ClientError, find_client
    from hobbyhorse.runners.command import CommandError
    from hobbyhorse.runners.process_pool import ProcessPool, WorkerSetup, processes

    if parallel is not None and parallel < 1:
        raise UsageError(f"--parallel {parallel}; it is a number from 1")
    if (python is None) == (not command):
        raise UsageError("name one client: a command behind --, or --python FILE:FUNCTION")
    kinds: tuple[str, ...] = (ONCE, TWICE, LONG, CROWD)
    try:
        if python is not None:
            if resume_command is not None:
                raise UsageError("--resume-command is for commands: a Python callable cannot be killed")
            found = find_client(python)
            if (size := processes(runs, parallel)) > 1:
                with ProcessPool(WorkerSetup(python, contract.key, model.id, seed, contracts), size) as crew:
                    yield crew, kinds, python
                return
            with FakeSession(contract, model, seed) as arena:
                yield CallableRunner(arena, found), kinds, python
            return
        assert command is not None
        resume = shlex.split(resume_command) if resume_command is not None else None
        kinds = (*kinds, KILLED, MOVED) if resume else kinds
        for name, words in (("the client", command), ("--resume-command", resume)):
            if words is not None and (not words or shutil.which(words[0]) is None):
                raise UsageError(f"{name}: {_no_command(words[0] if words else '')}")
        if not speed > 0 or not limit > 0:
            raise UsageError("--speed and --limit are greater than 0")
        size = parallel or PARALLEL
        with FakeSession(contract, model, seed, "real", speed, "fast") as arena:
            yield CommandRunner(arena, command, resume, limit, size), kinds, shlex.join(command)
    except (ClientError, CommandError, LookupError, ValueError) as error:
        raise UsageError(str(error)) from None


def _no_command(word: str) -> str:
    """Say why a word is no command, and what was probably meant."""
    if re.search(r"\.py:\w+$", word):
        return f"there is no command {word!r}; a Python callable is named with --python {word}"
    if Path(word).is_file():
        return f"{word!r} is a file that cannot be executed; name what runs it before it, or chmod +x it"
    return f"there is no command {word!r}"


def _with_baseline(result: Result, accepted: dict[str, str]) -> Result:
    """Return a result in which known findings are accepted, and those that are known and were not found are stale."""
    from hobbyhorse.conformance.client.judge import BROKEN, PASSED

    broken = {one.rule.id for one in result.verdicts if one.verdict == BROKEN}
    passed = {one.rule.id for one in result.verdicts if one.verdict == PASSED}
    stale = tuple(sorted(set(accepted) & passed))
    return replace(result, accepted={rule: why for rule, why in accepted.items() if rule in broken}, stale=stale)


def _write(result: Result, contract: Contract, folder: Path) -> None:
    from hobbyhorse.conformance.client.html_report import write_page
    from hobbyhorse.conformance.client.report import write_report

    try:
        write_report(result, folder)
        write_page(result, contract, folder)
    except OSError as error:
        raise UsageError(f"--report {str(folder)!r} cannot be written: {error.strerror}") from None


@app.command()
def replay(
    finding: Annotated[Path, typer.Argument(metavar="FINDING", help="A findings/RULE.scenario.json of a report.")],
    command: CommandArgument = None,
    python: PythonOption = None,
    times: Annotated[int, typer.Option(metavar="N", help="How often the client is run.")] = 3,
    resume_command: ResumeOption = None,
    speed: SpeedOption = 1.0,
    limit: LimitOption = 30.0,
    contracts: ContractsOption = None,
) -> None:
    """Run a client against the scenario of a finding: still-broken, fixed, flaky, or not-reached.

    Exit status 0: fixed; 1: still broken, flaky, or it did not come to what the rule is about; 2: it could not be run.
    """
    keep_hypothesis_away()
    from hobbyhorse.conformance.client.judge import check
    from hobbyhorse.conformance.client.report import ReportError, read_finding
    from hobbyhorse.conformance.client.rules import rules
    from hobbyhorse.traces.annotated import AnnotatedTrace

    try:
        found = read_finding(finding)
    except ReportError as error:
        raise UsageError(str(error)) from None
    if times < 1:
        raise UsageError(f"--times {times}; it is a number from 1")
    contract = one_of(load_contracts(contracts), found.provider)
    model = model_of(contract, found.model)
    rule = next((one for one in rules() if one.id == found.rule), None)
    if rule is None:
        raise UsageError(f"{finding}: there is no rule {found.rule!r}; `hobbyhorse rules` lists them")
    words: list[list[str] | None] = []
    ends: list[str] = []
    options = (resume_command, found.seed, speed, limit, 1, times, contracts)
    with _player(contract, model, python, command, *options) as (play, _, _):
        for trace in play([found.case] * times):
            words.append(check(rule, AnnotatedTrace(contract, trace)))
            ends += [run.outcome.message for run in trace.runs if run.outcome and run.outcome.kind == "unfinished"]
    broken = [messages for messages in words if messages]
    verdict = "still-broken" if len(broken) == len(words) else "flaky" if broken else "fixed"
    if all(messages is None for messages in words):
        verdict = "not-reached"
    typer.echo(f"{rule.id} {verdict}: broken in {len(broken)} of {len(words)} runs with {found.case}")
    if verdict == "not-reached":
        typer.echo("the client did not come to what the rule is about: that proves nothing")
        if ends:
            more = "--limit gives more time" if python is None else "it was given twice the longest wait"
            typer.echo(
                f"  {len(ends)} of {len(words)} runs had no end of its own: {ends[0] or 'still running'}; {more}"
            )
    for message in broken[0][:3] if broken else ():
        typer.echo(f"  {message}")
    raise typer.Exit(0 if verdict == "fixed" else 1)


@app.command()
def judge(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A HAR file, or a trace as JSON.")],
    provider: ProviderOption,
    base: Annotated[str | None, typer.Option(metavar="URL", help="The base URL, if it is not the provider's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    contracts: ContractsOption = None,
) -> None:
    """Judge recorded traffic of a client; no server takes part.

    Exit status 0: no finding; 1: findings; 2: the file cannot be judged.
    """
    from hobbyhorse.cli.client_verdicts import show_verdicts
    from hobbyhorse.conformance.client.judge import BROKEN
    from hobbyhorse.conformance.client.judge import judge as judge_traces
    from hobbyhorse.conformance.client.report import judged
    from hobbyhorse.traces.har import HarError, parse_har, read_har
    from hobbyhorse.traces.trace import TraceError, read_trace

    contract = one_of(load_contracts(contracts), provider)
    notes: tuple[str, ...] = ()
    try:
        said = parse_har(file.read_bytes())
        if isinstance(said, dict) and "log" in said:
            read = read_har(said, contract, base)
            trace, notes = read.trace, read.notes
        else:
            trace = read_trace(_valid(said))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (HarError, TraceError) as error:
        raise UsageError(f"{file}: {error}") from None
    verdicts = judge_traces(contract, [trace])
    if as_json:
        typer.echo(json.dumps(judged(contract, trace)))
    else:
        show_verdicts(verdicts)
    for note in notes:
        typer.echo(note, err=True)
    raise typer.Exit(1 if any(one.verdict == BROKEN for one in verdicts) else 0)


def _valid(said: Any) -> Any:
    """Return a trace that keeps the schema of traces. Raises TraceError."""
    import jsonschema

    from hobbyhorse.contract.folder import data_directory
    from hobbyhorse.traces.trace import TraceError

    schema = json.loads((data_directory("fixtures") / "trace.schema.json").read_text())
    wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(said))
    if not isinstance(said, dict) or "format" not in said:
        raise TraceError("neither a HAR file, which has a `log`, nor a trace, which has a `format`")
    if wrong is not None:
        raise TraceError(f"neither a HAR file nor a trace: {wrong.json_path}: {wrong.message[:300]}")
    return said


def rules(
    rule: Annotated[str | None, typer.Argument(metavar="[ID]", help="Explain this rule.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the rules for clients; with an id, everything about one."""
    from hobbyhorse.cli.client_verdicts import show_rule, show_rules
    from hobbyhorse.conformance.client.rules import rules as all_rules

    found = [one for one in all_rules() if rule is None or one.id == rule.upper() or one.family == rule.upper()]
    if not found:
        raise UsageError(f"there is no rule {rule!r}; `hobbyhorse rules` lists them")
    if as_json:
        names = ("id", "name", "level", "severity", "channel", "statement", "why")
        typer.echo(json.dumps([{name: getattr(one, name) for name in names} for one in found]))
    elif len(found) == 1:
        show_rule(found[0])
    else:
        show_rules(found)
