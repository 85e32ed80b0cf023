"""`hobbyhorse conformance client`: checks the options, and runs the client suite and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.client_progress import progress
from hobbyhorse.cli.client_runner import (
    DEFAULT_LIMIT,
    DEFAULT_SPEED,
    ClientOptions,
    CommandArgument,
    LimitOption,
    ParallelOption,
    PythonOption,
    ResumeOption,
    SpeedOption,
    open_runner,
    option_names,
    replay_options,
    warn_of_misplaced_options,
)
from hobbyhorse.cli.client_verdicts import show_result
from hobbyhorse.cli.options import (
    BaselineOption,
    ContractsOption,
    ModelOption,
    ProvidersOption,
    ReportOption,
    keep_hypothesis_files_in_cache,
    load_contracts,
    providers_of,
)
from hobbyhorse.cli.rule_options import AllowNotObservedOption, chosen_rules
from hobbyhorse.cli.usage import UsageError, reports_internal_errors
from hobbyhorse.conformance.client.during import OPERATIONS
from hobbyhorse.conformance.client.html_report import write_page
from hobbyhorse.conformance.client.report import write_report
from hobbyhorse.conformance.client.results import Result, with_baseline
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import CannotRun, Plan, Search
from hobbyhorse.conformance.judge import InternalError
from hobbyhorse.conformance.report import ReportError, read_baseline
from hobbyhorse.contract.values import Contract

# Runs of a Python callable, and of a command. A callable runs in virtual time, so that more of its runs fit into the
# few minutes of a CI job; `full` is for a night.
PROFILE_RUNS = {"ci": (1_000, 150), "full": (10_000, 2_000)}
SEARCH = "Search"


@reports_internal_errors
def command(
    context: typer.Context,
    *,
    provider: ProvidersOption,
    command: CommandArgument = None,
    model: ModelOption = None,
    contracts: ContractsOption = None,
    python: PythonOption = None,
    resume_command: ResumeOption = None,
    parallel: ParallelOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    speed: SpeedOption = DEFAULT_SPEED,
    profile: Annotated[
        str,
        typer.Option(metavar="ci|full", help="The number of runs, unless --runs is given.", rich_help_panel=SEARCH),
    ] = "ci",
    runs: Annotated[
        int | None, typer.Option(metavar="N", help="Run the client at most N times.", rich_help_panel=SEARCH)
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Check only this rule (repeatable).", rich_help_panel=SEARCH)
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same seed tries the same test cases.", rich_help_panel=SEARCH)
    ] = 0,
    allow_not_observed: AllowNotObservedOption = False,
    report: ReportOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Run a client against every fault that a provider can cause, and judge its behaviour.

    Exit status 0: no finding; 1: findings; 2: the client could not be tested; 3: internal error; 4: a rule of --rule
    was not observed; 130: interrupted.
    """
    keep_hypothesis_files_in_cache()
    warn_of_misplaced_options(option_names(context), command)
    if profile not in PROFILE_RUNS:
        raise UsageError(f"--profile is {profile!r}; allowed: {', '.join(PROFILE_RUNS)}")
    if runs is not None and runs < 1:
        raise UsageError(f"--runs is {runs}; allowed: 1 or more")
    ids = [one.id for one in rules()]
    chosen_rules(rules(), rule)
    try:
        accepted = read_baseline(baseline, ids, OPERATIONS) if baseline is not None else {}
    except ReportError as error:
        raise UsageError(str(error)) from None
    (contract, chosen), second = providers_of(load_contracts(contracts), provider, model)
    most_runs = runs if runs is not None else PROFILE_RUNS[profile][0 if python is not None else 1]
    client = ClientOptions(command, python, resume_command, seed, speed, limit, parallel, contracts)
    with open_runner(contract, chosen, client, most_runs, second) as runner:
        try:
            with progress(runner.name) as show:
                plan = Plan(most_runs, seed, tuple(rule or ()), runner.kinds)
                search = Search(contract, runner.play, plan, show, fresh=runner.fresh, before=runner.before)
                search.notes += runner.notes
                search.fit = runner.fit
                search.second = None if second is None else second[0]
                result = search.run(runner.name, chosen.id)
                if second is not None:
                    result = replace(result, model=f"{chosen.id},{second[1].id}")
        except CannotRun as error:
            raise UsageError(str(error)) from None
    result = replace(with_baseline(result, accepted), options=replay_options(client))
    if report is not None:  # first, so that a summary is never printed for a report that is not there
        result = _write(result, [contract] if second is None else [contract, second[0]], report)
    show_result(result, contract, report, None if second is None else second[0])
    raise typer.Exit(result.status(frozenset() if allow_not_observed else frozenset(rule or ())))


def _write(result: Result, contracts: Sequence[Contract], folder: Path) -> Result:
    """Write the report, and return the result with the internal error of writing it, if any. Raises UsageError."""
    try:
        write_report(result, folder, *contracts)
        try:
            write_page(result, folder, *contracts)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # The page is the most complex part; the other files are written again, with this error.
            result = replace(result, errors=(*result.errors, InternalError.of("writing index.html", error)))
            write_report(result, folder, *contracts)
    except OSError as error:
        raise UsageError(f"--report: {str(folder)!r} cannot be written: {error.strerror}") from None
    return result
