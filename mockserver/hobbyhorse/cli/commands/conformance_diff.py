"""`hobbyhorse conformance diff`: compares two reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from hobbyhorse.cli.usage import UsageError, reports_internal_errors
from hobbyhorse.cli.verdicts import MOST_MESSAGES
from hobbyhorse.conformance.exit_status import exit_status
from hobbyhorse.conformance.report import ReportError
from hobbyhorse.conformance.reports.comparison import Comparison, Report, ReportedFinding, compared, read_report


@reports_internal_errors
def command(
    *,
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The folder of a report, or its report.json.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The report to compare with it.")],
) -> None:
    """Compare two reports: which findings are new, gone or changed, and which rules lost their evidence.

    Exit status 0: no finding is new; 1: a finding is new, and no baseline accepts it; 2: the reports cannot be
    compared; 3: internal error.
    """
    try:
        before, now = read_report(old), read_report(new)
        found = compared(before, now)
    except ReportError as error:
        raise UsageError(str(error)) from None
    _show(found, before, now)
    raise typer.Exit(exit_status(finding=found.has_news))


def _show(found: Comparison, before: Report, now: Report) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for one in found.new:
        _show_finding(console, "[bold red]new[/bold red]", one)
    for one in found.gone:
        console.print(f"[green]gone[/green] {escape(one.name)}{_in_brackets(one.situation)}")
    for earlier, later in found.changed:
        _show_finding(console, "[yellow]changed[/yellow]", later)
        console.print(f"  before: {escape('; '.join([earlier.situation, *earlier.messages[:1]]))}")
    for rule, word in found.lost.items():
        console.print(f"[yellow]lost evidence[/yellow] {escape(rule)}: {word} in OLD, not observed in NEW")
    for name, report in (("OLD", before), ("NEW", now)):
        if report.unfinished is not None:
            console.print(f"[yellow]{name} has only a part of the verdicts: {escape(report.unfinished)}[/yellow]")
    lost = f"{len(found.lost)} without evidence now"
    console.print(f"{len(found.new)} new, {len(found.gone)} gone, {len(found.changed)} changed, {lost}")


def _show_finding(console: Console, word: str, one: ReportedFinding) -> None:
    accepted = f" (accepted: {escape(one.accepted)})" if one.accepted is not None else ""
    console.print(f"{word} {escape(one.name)}{_in_brackets(one.situation)}{accepted}")
    for message in one.messages[:MOST_MESSAGES]:
        console.print(f"  {escape(message)}")


def _in_brackets(situation: str) -> str:
    return f" ({escape(situation)})" if situation else ""
