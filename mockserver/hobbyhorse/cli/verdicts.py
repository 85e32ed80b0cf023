"""Verdicts on the terminal, in the same form for clients and servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hobbyhorse.conformance.client.cases import case_of
from hobbyhorse.conformance.client.report import preconditions
from hobbyhorse.conformance.judge import (
    BROKEN,
    LESSON,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    Finding,
    Lesson,
    Verdict,
)

COLOURS = {PASSED: "green", BROKEN: "bold red", LESSON: "yellow", NOT_OBSERVED: "yellow", NOT_APPLICABLE: "dim"}
# Messages printed of one finding: an endpoint that is wrong everywhere still fits on a screen, and the report has all.
MOST_MESSAGES = 5


def show_verdicts(verdicts: Sequence[Verdict], accepted: Mapping[str, str] | None = None, side: str = "client") -> None:
    """Print a table of rules and verdicts, the findings that are not accepted, and the lessons.

    `side` is the judged side, "client" or "server"; each message begins with it.
    """
    accepted = accepted or {}
    console = Console(highlight=False)
    console.print(_table(verdicts, accepted))
    _show_unobserved(console, verdicts)
    for one in verdicts:
        shown = [found for found in one.findings if found.rule not in accepted and found.name not in accepted]
        if shown:
            console.print(f"\n[bold red]{one.rule.id}[/bold red] {escape(one.rule.says)}")
        for finding in shown:
            _show_finding(console, finding, side)
    _show_lessons(console, [lesson for one in verdicts for lesson in one.lessons])


def _show_unobserved(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print the rules without evidence, one line for each reason."""
    ids: dict[tuple[str, str | None], list[str]] = {}
    for word in (NOT_OBSERVED, NOT_APPLICABLE):
        for one in verdicts:
            if one.verdict == word:
                ids.setdefault((word, one.why), []).append(one.rule.id)
    for (word, why), named in ids.items():
        reason = f": {escape(why)}" if why is not None else ""
        words = f"{word.replace('-', ' ')}: {', '.join(named)}{reason}"
        console.print(f"[{COLOURS[word]}]{words}[/{COLOURS[word]}]")


def _table(verdicts: Sequence[Verdict], accepted: Mapping[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rule", "level", "verdict", "observed in", "broken in"):
        table.add_column(name, no_wrap=True)
    # Broken rules come first: a reader of a CI log sees them without scrolling.
    for one in [one for word in (BROKEN, LESSON, PASSED) for one in verdicts if one.verdict == word]:
        is_accepted = one.verdict == BROKEN and one.rule.id in accepted
        word = f"{one.verdict} (accepted)" if is_accepted else one.verdict
        colour = "yellow" if is_accepted else COLOURS[one.verdict]
        table.add_row(
            f"{one.rule.id} {one.rule.name}",
            one.rule.level,
            f"[{colour}]{word}[/{colour}]",
            f"{one.observed} runs" if one.observed != 1 else "1 run",
            str(one.times_broken or ""),
        )
    return table


def _show_finding(console: Console, finding: Finding, side: str) -> None:
    # Only a client is run, each time against another server.
    if finding.trace.runs:
        doing = f" (during {finding.during})" if finding.during is not None else ""
        console.print(f"  server: {escape(str(case_of(finding.trace)))}{doing}")
        for sentence in preconditions(finding):
            console.print(f"  [yellow]{escape(sentence)}[/yellow]")
    for breach in finding.breaches[:MOST_MESSAGES]:
        console.print(f"  {side}: {escape(breach.message)}")
        for place in breach.places[:1]:  # one is enough to find the promise in the contract
            console.print(f"    [dim]{escape(place)}[/dim]")
    if len(finding.breaches) > MOST_MESSAGES:
        console.print(f"  [dim]and {len(finding.breaches) - MOST_MESSAGES} more[/dim]")


def _show_lessons(console: Console, lessons: Sequence[Lesson]) -> None:
    # Apart from the findings: the contract only assumes these facts, so the endpoint is not at fault.
    if lessons:
        console.print("\n[bold]lessons:[/bold] assumptions of the contract that this endpoint contradicts")
    for lesson in lessons:
        console.print(f"  [yellow]{lesson.rule}[/yellow] {escape(lesson.message)}")
        console.print(f"    [dim]{escape(', '.join(lesson.places))}: {escape(lesson.why)}[/dim]")


def show_baseline(console: Console, accepted: Mapping[str, str], stale: Sequence[str]) -> None:
    """Print the reason for each accepted finding, and the stale entries of the baseline."""
    for rule, why in accepted.items():
        console.print(f"[yellow]{rule} is accepted:[/yellow] {escape(why)}")
    for rule in stale:
        console.print(f"[red]{rule} is stale: it is in the baseline and was not found; remove it[/red]")


def summed(broken: int, stale: int, nothing: str) -> str:
    """Return the numbers of broken rules and stale entries as markup; `nothing` if both are 0."""
    bad = [f"{broken} rule{'s' if broken != 1 else ''} broken"] if broken else []
    bad += [f"{stale} stale in the baseline"] if stale else []
    return f"[red]{', '.join(bad)}[/red]" if bad else f"[green]{nothing}[/green]"
