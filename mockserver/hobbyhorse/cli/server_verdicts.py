"""The output of the server suite: the plan, the verdicts and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hobbyhorse.cli.verdicts import show_baseline, show_verdicts, summed
from hobbyhorse.conformance.server.report import server_amounts, server_headline
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.contract.values import Contract

# Probes printed of one reason: a suite without a budget leaves most of them out, and the report has them all.
MOST_LISTED = 5

# A probe's name, its family, its greatest cost in USD, and its description.
PlanRow = tuple[str, str, Decimal, str]


def show_plan(rows: Sequence[PlanRow], total: Decimal, budget: Decimal | None) -> None:
    """Print each probe with its greatest cost in USD, and the total."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("probe", "family", "USD at most", "description"):
        table.add_column(name, justify="right" if name.startswith("USD") else "left", overflow="fold")
    for name, family, cost, description in rows:
        table.add_row(escape(name), family, f"{cost:.2f}" if cost else "", escape(description))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(rows)} probes, {total:.2f} USD at most, if every billable request is billed")
    if budget is None:
        free = sum(1 for row in rows if not row[2])
        console.print(f"without --budget, only the free probes are sent ({free}), for 0.00 USD")
    else:
        console.print(f"with --budget {budget:.2f}, never more than {min(total, budget):.2f} USD")


def show_server_result(result: ServerResult, contract: Contract, report: Path | None) -> None:
    """Print the verdicts, the breaches, the lessons and the cost."""
    console = Console(highlight=False)
    if result.unjudged is not None:
        console.print(f"[bold red]nothing could be judged:[/bold red] {escape(result.unjudged)}")
    else:
        head, amounts = server_headline(result), server_amounts(result)
        show_verdicts(result.verdicts, result.accepted, side="server", contract=contract, head=head, amounts=amounts)
    for why, names in _skipped_probes(result).items():
        more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
        console.print(f"[dim]left out: {escape(', '.join(names[:MOST_LISTED]))}{more}: {escape(why)}[/dim]")
    budget = "no budget was given" if result.budget is None else f"of {result.budget:.2f} USD"
    console.print(
        f"\n{len(result.trace.exchanges)} requests in {result.seconds:.1f} s, seed {result.seed}; "
        f"at most {result.spent:.2f} USD spent, {budget}"
    )
    if result.interrupted:
        console.print("[red]interrupted: only the requests until then were judged[/red]")
    for error in result.errors:
        console.print(f"[bold red]internal error:[/bold red] {escape(str(error))}; please report it")
    show_baseline(console, result.accepted, result.stale)
    if report is not None:
        console.print(f"report: {escape(str(report / 'index.html'))}")
    if result.unjudged is None:
        console.print(summed(len(result.broken), len(result.stale), "nothing broken"))


def _skipped_probes(result: ServerResult) -> dict[str, list[str]]:
    """Return the names of the skipped probes by reason."""
    found: dict[str, list[str]] = {}
    for note in result.notes:
        found.setdefault(note.why, []).append(note.probe)
    return found
