"""The verdicts of the client suite, as tables; the parts that the server suite prints in the same form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hobbyhorse.conformance.client.report import case_of
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Verdict

COLOURS = {PASSED: "green", BROKEN: "bold red", NOT_OBSERVED: "yellow", NOT_APPLICABLE: "dim"}
# Messages printed of one finding: they come from the same exchanges, and the report has them all.
MOST_MESSAGES = 3


def show_verdicts(verdicts: Sequence[Verdict], accepted: Mapping[str, str] | None = None) -> None:
    """Print a table of rules and verdicts, then the findings that are not accepted."""
    accepted = accepted or {}
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rule", "level", "verdict", "observed in", "broken in"):
        table.add_column(name, no_wrap=True)
    # Broken rules come first: a reader of a CI log sees them without scrolling.
    for one in [one for word in (BROKEN, PASSED) for one in verdicts if one.verdict == word]:
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
    console.print(table)
    for word in (NOT_OBSERVED, NOT_APPLICABLE):
        if ids := [one.rule.id for one in verdicts if one.verdict == word]:
            console.print(f"[{COLOURS[word]}]{word.replace('-', ' ')}: {', '.join(ids)}[/{COLOURS[word]}]")
    for one in verdicts:
        if one.rule.id not in accepted:
            _show_findings(console, one)


def _show_findings(console: Console, verdict: Verdict) -> None:
    for finding in verdict.findings:
        console.print(f"\n[bold red]{verdict.rule.id}[/bold red] {escape(verdict.rule.says)}")
        if finding.trace.runs:
            console.print(f"  server: {escape(str(case_of(finding.trace)))}")
        for message in finding.messages[:MOST_MESSAGES]:
            console.print(f"  client: {escape(message)}")


def show_result(result: Result, report: Path | None) -> None:
    """Print the verdicts and the summary of the suite."""
    show_verdicts(result.verdicts, result.accepted)
    console = Console(highlight=False)
    coverage = result.coverage
    rate = result.runs / result.seconds if result.seconds else 0.0
    console.print(
        f"\n{result.runs} runs in {result.seconds:.1f} s ({rate:.1f} a second), seed {result.seed}; "
        f"{coverage.met} of {coverage.total} single faults reached"
    )
    if coverage.untried:
        console.print(
            f"[yellow]{len(coverage.untried)} of them were not tried, because the runs were used up; "
            "--runs N allows more[/yellow]"
        )
    show_baseline(console, result.accepted, result.stale)
    if report is not None:
        console.print(f"report: {report / 'index.html'}")
    words = [one.verdict for one in result.verdicts]
    rest = f"{words.count(PASSED)} passed, {words.count(NOT_OBSERVED)} not observed"
    rest = f"{len(result.accepted)} accepted, {rest}" if result.accepted else rest
    console.print(f"{summed(len(result.broken), len(result.stale), 'no finding')}, {rest}")


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
