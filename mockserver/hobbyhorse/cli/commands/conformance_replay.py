"""`hobbyhorse conformance replay`: the test case of a finding, run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.client_player import (
    CommandArgument,
    LimitOption,
    PythonOption,
    ResumeOption,
    SpeedOption,
    open_player,
)
from hobbyhorse.cli.options import ContractsOption, keep_hypothesis_away, load_contracts, model_of, one_of
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.judge import check
from hobbyhorse.conformance.client.report import ReportError, read_finding
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.traces.annotated import AnnotatedTrace


def command(
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
    with open_player(contract, model, python, command, *options) as (play, _, _):
        for trace in play([found.drill] * times):
            words.append(check(rule, AnnotatedTrace(contract, trace)))
            ends += [run.outcome.message for run in trace.runs if run.outcome and run.outcome.kind == "unfinished"]
    broken = [messages for messages in words if messages]
    verdict = "still-broken" if len(broken) == len(words) else "flaky" if broken else "fixed"
    if all(messages is None for messages in words):
        verdict = "not-reached"
    typer.echo(f"{rule.id} {verdict}: broken in {len(broken)} of {len(words)} runs with {found.drill}")
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
