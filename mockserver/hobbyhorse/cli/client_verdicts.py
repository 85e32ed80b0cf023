"""The verdicts of the client suite, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hobbyhorse.conformance.client.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Verdict
from hobbyhorse.conformance.client.report import drill_of
from hobbyhorse.conformance.client.results import Result

COLOURS = {PASSED: "green", BROKEN: "bold red", NOT_OBSERVED: "yellow", NOT_APPLICABLE: "dim"}


def show_verdicts(verdicts: Sequence[Verdict], accepted: dict[str, str] | None = None) -> None:
    """Print a table of rules and verdicts, and below it what breaks each rule."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rule", "level", "verdict", "observed in", "broken in"):
        table.add_column(name, no_wrap=True)
    shown = [one for word in (BROKEN, PASSED) for one in verdicts if one.verdict == word]
    for one in shown:
        known = one.verdict == BROKEN and one.rule.id in (accepted or {})
        word = f"{one.verdict} (accepted)" if known else one.verdict
        seen = f"{one.observed} runs" if one.observed != 1 else "1 run"
        colour = "yellow" if known else COLOURS[one.verdict]
        bad = str(one.times_broken or "")
        table.add_row(f"{one.rule.id} {one.rule.name}", one.rule.level, f"[{colour}]{word}[/{colour}]", seen, bad)
    console.print(table)
    unseen = [one.rule.id for one in verdicts if one.verdict == NOT_OBSERVED]
    if unseen:
        console.print(f"[yellow]not observed: {', '.join(unseen)}[/yellow]")
    left_out = [one.rule.id for one in verdicts if one.verdict == NOT_APPLICABLE]
    if left_out:
        console.print(f"[dim]not applicable: {', '.join(left_out)}[/dim]")
    for one in verdicts:
        if one.rule.id in (accepted or {}):
            continue
        for finding in one.findings:
            rule = one.rule
            console.print(f"\n[bold red]{rule.id}[/bold red] {escape(rule.statement)}")
            if finding.trace.runs:
                console.print(f"  server: {escape(str(drill_of(finding.trace)))}")
            for message in finding.messages[:3]:
                console.print(f"  client: {escape(message)}")


def show_result(result: Result, report: Path | None) -> None:
    """Print the verdicts and the summary of a run of the suite."""
    show_verdicts(result.verdicts, result.accepted)
    console = Console(highlight=False)
    met = result.coverage
    rate = result.runs / result.seconds if result.seconds else 0.0
    console.print(
        f"\n{result.runs} runs in {result.seconds:.1f} s ({rate:.1f} a second), seed {result.seed}; "
        f"{met.met} of {met.total} single deviations met"
    )
    if met.untried:
        console.print(f"[yellow]{len(met.untried)} of them were not tried: no run was left; --runs gives more[/yellow]")
    show_baseline(console, result.accepted, result.stale)
    if report is not None:
        console.print(f"report: {report / 'index.html'}")
    words = [one.verdict for one in result.verdicts]
    rest = f"{words.count(PASSED)} passed, {words.count(NOT_OBSERVED)} not observed"
    rest = f"{len(result.accepted)} accepted, {rest}" if result.accepted else rest
    console.print(f"{summed(len(result.broken), len(result.stale), 'no finding')}, {rest}")


def show_baseline(console: Console, accepted: Mapping[str, str], stale: Sequence[str]) -> None:
    """Print why each known finding is accepted, and which of the known ones were not found."""
    for rule, why in accepted.items():
        console.print(f"[yellow]{rule} is accepted:[/yellow] {escape(why)}")
    for rule in stale:
        console.print(f"[red]{rule} is accepted in the baseline and was not found: take it out (stale)[/red]")


def summed(broken: int, stale: int, nothing: str) -> str:
    """Return in a few words how many rules are broken, and how many of the baseline are not, or that it is nothing."""
    bad = [f"{counted(broken)} broken"] if broken else []
    bad += [f"{stale} accepted in vain"] if stale else []
    return f"[red]{', '.join(bad)}[/red]" if bad else f"[green]{nothing}[/green]"


def counted(count: int) -> str:
    """Return how many rules, in words."""
    return f"{count} rule{'s' if count != 1 else ''}"
