"""`hobbyhorse conformance client`: the options of the suite for clients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.client_player import (
    CommandArgument,
    LimitOption,
    ParallelOption,
    PythonOption,
    ResumeOption,
    SpeedOption,
    open_player,
)
from hobbyhorse.cli.client_progress import progress
from hobbyhorse.cli.client_verdicts import show_result
from hobbyhorse.cli.options import (
    BaselineOption,
    ContractsOption,
    ModelOption,
    ProviderOption,
    ReportOption,
    keep_hypothesis_away,
    load_contracts,
    model_of,
    one_of,
)
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.html_report import write_page
from hobbyhorse.conformance.client.judge import BROKEN, PASSED
from hobbyhorse.conformance.client.report import ReportError, read_baseline, write_report
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import CannotRun, Plan, Search
from hobbyhorse.contract.values import Contract

PROFILE_RUNS = {"ci": (500, 150), "full": (10_000, 2_000)}
"""How many runs a profile has: of a Python callable, and of a command."""


def command(
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
    with open_player(contract, chosen, python, command, *options) as (play, kinds, name):
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


def _with_baseline(result: Result, accepted: dict[str, str]) -> Result:
    """Return a result in which known findings are accepted, and those that are known and were not found are stale."""
    broken = {one.rule.id for one in result.verdicts if one.verdict == BROKEN}
    passed = {one.rule.id for one in result.verdicts if one.verdict == PASSED}
    stale = tuple(sorted(set(accepted) & passed))
    return replace(result, accepted={rule: why for rule, why in accepted.items() if rule in broken}, stale=stale)


def _write(result: Result, contract: Contract, folder: Path) -> None:
    try:
        write_report(result, folder)
        write_page(result, contract, folder)
    except OSError as error:
        raise UsageError(f"--report {str(folder)!r} cannot be written: {error.strerror}") from None
