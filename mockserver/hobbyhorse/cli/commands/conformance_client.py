"""`hobbyhorse conformance client`: checks the options, and runs the client suite and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from hobbyhorse.cli.client_runner import (
    DEFAULT_LIMIT,
    ClientOptions,
    CommandArgument,
    LimitOption,
    ParallelOption,
    PythonOption,
    ResumeOption,
    SpeedOption,
    TlsOption,
    VirtualOption,
    open_runner,
    option_names,
    replay_options,
    warn_of_misplaced_options,
)
from hobbyhorse.cli.client_verdicts import show_result, written
from hobbyhorse.cli.interruption import stoppable
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
from hobbyhorse.cli.progress import progress
from hobbyhorse.cli.rule_options import AllowNotObservedOption, chosen_rules
from hobbyhorse.cli.usage import UsageError, reports_internal_errors
from hobbyhorse.conformance.client.during import OPERATIONS
from hobbyhorse.conformance.client.results import Result, with_baseline
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import CannotRun, Plan, Search
from hobbyhorse.conformance.client.shard import Shard, read_shard
from hobbyhorse.conformance.report import ReportError, read_baseline
from hobbyhorse.contract.values import Contract, Model

# Runs of a Python callable, of a command in real time, and of a command in virtual time, as fit into the few minutes of
# a CI job; `full` is for a night.
PROFILE_RUNS = {"ci": (1_000, 150, 600), "full": (10_000, 2_000, 5_000)}
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
    speed: SpeedOption = None,
    virtual: VirtualOption = None,
    tls: TlsOption = False,
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
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Run part K of N of the test cases; `conformance merge` joins the reports.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
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
    virtual_runs = runs if runs is not None else PROFILE_RUNS[profile][2]
    client = ClientOptions(
        command, python, resume_command, seed, speed, limit, parallel, contracts, tls, virtual=virtual
    )
    providers = [(contract, chosen)] if second is None else [(contract, chosen), second]
    plan = Plan(most_runs, seed, tuple(rule or ()), shard=_shard(shard))
    with stoppable():
        result = with_baseline(_searched(providers, client, plan, virtual_runs), accepted)
        required = frozenset[str]() if allow_not_observed else frozenset(rule or ())
        # Another shard may have found an entry of the baseline that this one has not.
        stale = result.stale if plan.shard is None else ()
        result = replace(result, options=replay_options(client), required=required, stale=stale)
        if report is not None:  # first, so that a summary is never printed for a report that is not there
            result = written(result, report, *(one for one, _ in providers))
    show_result(result, contract, report, None if second is None else second[0])
    raise typer.Exit(result.exit_status)


def _searched(
    providers: Sequence[tuple[Contract, Model]], client: ClientOptions, plan: Plan, virtual_runs: int
) -> Result:
    """Run the suite; `virtual_runs` are the runs of a command in virtual time. Raises UsageError."""
    runs = plan.runs if plan.shard is None else plan.shard.share(plan.runs)
    (contract, model), second = providers[0], providers[1] if len(providers) > 1 else None
    with open_runner(contract, model, client, runs, second) as runner:
        try:
            with progress(runner.name) as show:
                plan = replace(plan, kinds=runner.kinds, runs=virtual_runs if runner.virtual else plan.runs)
                search = Search(contract, runner.play, plan, show, fresh=runner.fresh, before=runner.before)
                search.notes += runner.notes
                search.fit = runner.fit
                search.second = None if second is None else second[0]
                result = search.run(runner.name, model.id)
                notes = (*result.notes, *runner.late_notes())
                return replace(result, model=",".join(one.id for _, one in providers), notes=notes)
        except CannotRun as error:
            raise UsageError(str(error)) from None


def _shard(text: str | None) -> Shard | None:
    try:
        return None if text is None else read_shard(text)
    except ValueError as error:
        raise UsageError(f"--shard is {error}") from None
