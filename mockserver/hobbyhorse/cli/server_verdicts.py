"""What the command line shows of an endpoint: the plan, progress, the verdicts, lessons apart, and the money."""

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
from hobbyhorse.conformance.client.judge import BROKEN, NOT_APPLICABLE
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rule import LESSON

MOST_SAID = 5
LedgerRow = tuple[str, str, Decimal, str]


def show_plan(lines: Sequence[LedgerRow], total: Decimal, budget: Decimal | None) -> None:
    """Print each probe and what it may cost, and what all of it may cost."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("probe", "family", "USD at most", "what it is"):
        table.add_column(name, justify="right" if name.startswith("USD") else "left", overflow="fold")
    for name, family, cost, says in lines:
        table.add_row(escape(name), family, f"{cost:.2f}" if cost else "", escape(says))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(lines)} probes, {total:.2f} USD at most if every request were billed that may be")
    if budget is None:
        free = sum(1 for line in lines if not line[2])
        console.print(f"without --budget only what costs nothing is sent: at most {free} of them, 0.00 USD")
    else:
        console.print(f"with --budget {budget:.2f} never more than {min(total, budget):.2f} USD")


@contextmanager
def probing(where: str) -> Iterator[Callable[[str, str], None]]:
    """Show which probe is made, on stderr, for as long as the context lasts."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda name, says: None
        return
    with console.status(escape(where)) as status:
        yield lambda name, says: status.update(f"{escape(name)} [dim]{escape(says)}[/dim]")


def show_server_result(result: ServerResult, report: Path | None) -> None:
    """Print the verdicts, what is broken, the lessons, and what it cost."""
    console = Console(highlight=False)
    if result.unjudged is not None:
        console.print(f"[bold red]nothing could be judged:[/bold red] {escape(result.unjudged)}")
    else:
        _table(console, result)
        _broken(console, result)
        _lessons(console, result)
    for why, names in _left_out(result).items():
        more = f" and {len(names) - MOST_SAID} more" if len(names) > MOST_SAID else ""
        console.print(f"[dim]left out: {escape(', '.join(names[:MOST_SAID]))}{more}: {escape(why)}[/dim]")
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


def _left_out(result: ServerResult) -> dict[str, list[str]]:
    """Return the probes that were left out, by the reason."""
    found: dict[str, list[str]] = {}
    for note in result.notes:
        found.setdefault(note.why, []).append(note.probe)
    return found


def _table(console: Console, result: ServerResult) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rule", "family", "level", "verdict"):
        table.add_column(name, no_wrap=True)
    colours = {**COLOURS, LESSON: "yellow"}
    for one in result.verdicts:
        if one.verdict != NOT_APPLICABLE:
            word = f"{one.verdict} (accepted)" if one.rule.id in result.accepted else one.verdict
            colour = colours[one.verdict]
            table.add_row(
                f"{one.rule.id} {one.rule.name}", one.rule.family, one.rule.level, f"[{colour}]{word}[/{colour}]"
            )
    console.print(table)
    left_out = [one.rule.id for one in result.verdicts if one.verdict == NOT_APPLICABLE]
    if left_out:
        console.print(f"[dim]not applicable: {', '.join(left_out)}[/dim]")


def _broken(console: Console, result: ServerResult) -> None:
    for one in result.verdicts:
        if one.verdict == BROKEN and one.rule.id not in result.accepted:
            console.print(f"\n[bold red]{one.rule.id}[/bold red] {escape(one.rule.statement)}")
            for breach in one.breaches[:MOST_SAID]:
                console.print(f"  {escape(breach.message)}")
                for place in breach.places[:1]:
                    console.print(f"    [dim]{escape(place)}[/dim]")
            if len(one.breaches) > MOST_SAID:
                console.print(f"  [dim]and {len(one.breaches) - MOST_SAID} more[/dim]")


def _lessons(console: Console, result: ServerResult) -> None:
    if result.lessons:
        console.print("\n[bold]lessons:[/bold] what the contract only assumes, and this endpoint does otherwise")
    for lesson in result.lessons:
        console.print(f"  [yellow]{lesson.rule}[/yellow] {escape(lesson.message)}")
        console.print(f"    [dim]{escape(', '.join(lesson.places))}: {escape(lesson.why)}[/dim]")
