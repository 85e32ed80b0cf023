"""`hobbyhorse conformance merge`: joins the reports of the shards of a search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.client_verdicts import show_result, written
from hobbyhorse.cli.options import REPORT, BaselineOption, ContractsOption, load_contracts, providers_of
from hobbyhorse.cli.rule_options import AllowNotObservedOption
from hobbyhorse.cli.usage import UsageError, reports_internal_errors
from hobbyhorse.conformance.client.during import OPERATIONS
from hobbyhorse.conformance.client.results import with_baseline
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.report import ReportError, read_baseline
from hobbyhorse.conformance.reports.merging import merged, read_shard_report, write_fits


@reports_internal_errors
def command(
    *,
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="The reports of all shards of a search.")],
    report: Annotated[
        Path, typer.Option("--report", metavar="OUT", help="Write the joined report to OUT.", rich_help_panel=REPORT)
    ],
    baseline: BaselineOption = None,
    allow_not_observed: AllowNotObservedOption = False,
    contracts: ContractsOption = None,
) -> None:
    """Join the reports of the shards of a client's search.

    The exit status equals a single search's: 0: no finding; 1: findings; 2: the reports cannot be
    joined; 3: internal error; 4: a rule of --rule was not observed; 130: a shard was interrupted.
    """
    try:
        accepted = read_baseline(baseline, [one.id for one in rules()], OPERATIONS) if baseline is not None else None
        found = merged([read_shard_report(folder) for folder in folders])
    except ReportError as error:
        raise UsageError(str(error)) from None
    first, second = providers_of(load_contracts(contracts), found.result.provider, found.result.model)
    providers = [first] if second is None else [first, second]
    result = found.result if accepted is None else with_baseline(found.result, accepted)
    if allow_not_observed:
        result = replace(result, required=frozenset())
    result = written(result, report, *(contract for contract, _ in providers))
    write_fits(found, report)
    show_result(result, first[0], report, None if second is None else second[0])
    raise typer.Exit(result.exit_status)
