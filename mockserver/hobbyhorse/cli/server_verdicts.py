"""The output of the server suite: the plan, the progress, the verdicts, the lessons and the cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hobbyhorse.cli.client_verdicts import COLOURS, show_baseline, summed
from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rules import family_of

# Breaches printed of one rule, and probes of one reason: an endpoint that is wrong everywhere still fits on a screen,
# and the report has them all.
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


@contextmanager
def probing(base_url: str) -> Iterator[Callable[[str, str], None]]:
    """Show the current probe on stderr until the context ends; show nothing if stderr is not a terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda name, description: None
        return
    with console.status(escape(base_url)) as status:
        yield lambda name, description: status.update(f"{escape(name)} [dim]{escape(description)}[/dim]")


def show_server_result(result: ServerResult, report: Path | None) -> None:
    """Print the verdicts, the breaches, the lessons and the cost."""
    console = Console(highlight=False)
    if result.unjudged is not None:
        console.print(f"[bold red]nothing could be judged:[/bold red] {escape(result.unjudged)}")
    else:
        _show_verdicts(console, result)
        _show_breaches(console, result)
        _show_lessons(console, result)
    for why, names in _skipped_probes(result).items():
        more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
        console.print(f"[dim]left out: {escape(', '.join(names[:MOST_LISTED]))}{more}: {escape(why)}[/dim]")
    budget = "no budget was given" if result.budget is None else f"of {result.budget:.2f} USD"
    console.print(
        f"\n{len(result.trace.exchanges)} requests in {result.seconds:.1f} s, seed {result.seed}; "
        f"at most {result.spent:.2f} USD spent, {budget}"
    )
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


def _show_verdicts(console: Console, result: ServerResult) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rule", "family", "level", "verdict"):
        table.add_column(name, no_wrap=True)
    colours = {**COLOURS, LESSON: "yellow"}
    for one in result.verdicts:
        if one.verdict != NOT_APPLICABLE:
            word = f"{one.verdict} (accepted)" if one.rule.id in result.accepted else one.verdict
            colour = colours[one.verdict]
            table.add_row(
                f"{one.rule.id} {one.rule.name}", family_of(one.rule), one.rule.level, f"[{colour}]{word}[/{colour}]"
            )
    console.print(table)
    if ids := [one.rule.id for one in result.verdicts if one.verdict == NOT_APPLICABLE]:
        console.print(f"[dim]not applicable: {', '.join(ids)}[/dim]")


def _show_breaches(console: Console, result: ServerResult) -> None:
    for one in result.verdicts:
        if one.verdict == BROKEN and one.rule.id not in result.accepted:
            console.print(f"\n[bold red]{one.rule.id}[/bold red] {escape(one.rule.says)}")
            for breach in one.breaches[:MOST_LISTED]:
                console.print(f"  {escape(breach.message)}")
                for place in breach.places[:1]:  # one is enough to find the promise in the contract
                    console.print(f"    [dim]{escape(place)}[/dim]")
            if len(one.breaches) > MOST_LISTED:
                console.print(f"  [dim]and {len(one.breaches) - MOST_LISTED} more[/dim]")


def _show_lessons(console: Console, result: ServerResult) -> None:
    # Apart from the breaches: the contract only assumes these facts, so the endpoint is not at fault.
    if result.lessons:
        console.print("\n[bold]lessons:[/bold] assumptions of the contract that this endpoint contradicts")
    for lesson in result.lessons:
        console.print(f"  [yellow]{lesson.rule}[/yellow] {escape(lesson.message)}")
        console.print(f"    [dim]{escape(', '.join(lesson.places))}: {escape(lesson.why)}[/dim]")
