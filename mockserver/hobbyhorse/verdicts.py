"""What the command line shows of conformance: the rules, progress while the suite runs, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Verdict
from hobbyhorse.conformance.report import drill_of
from hobbyhorse.conformance.results import Result
from hobbyhorse.conformance.rule import CHANNELS, SEVERITIES, Rule
from hobbyhorse.conformance.search import Progress

COLOURS = {PASSED: "green", BROKEN: "bold red", NOT_OBSERVED: "yellow", NOT_APPLICABLE: "dim"}
MOST_UNMET = 12


def show_rules(rules: Sequence[Rule]) -> None:
    """Print a line for each rule."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rule", "level", "severity", "channel", "statement"):
        table.add_column(name, no_wrap=name != "statement")
    for rule in rules:
        table.add_row(f"{rule.id} {rule.name}", rule.level, rule.severity, rule.channel, escape(rule.statement))
    Console(highlight=False).print(table)


def show_rule(rule: Rule) -> None:
    """Print everything about a rule."""
    console = Console(highlight=False, soft_wrap=False)
    console.print(f"[bold]{rule.id} {rule.name}[/bold]")
    console.print(escape(rule.statement))
    console.print(f"\nwhy       {escape(rule.why)}")
    console.print(f"level     {rule.level}")
    console.print(f"severity  {rule.severity}: {SEVERITIES[rule.severity]}")
    console.print(f"channel   {rule.channel}: judged from {CHANNELS[rule.channel]}")
    if rule.timing:
        console.print("timing    a finding counts only if it comes about three times out of three")


@contextmanager
def progress(client: str) -> Iterator[_Bar]:
    """Show how far the suite is, on stderr, for as long as the context lasts."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Bar(bar, bar.add_task(client, total=None))


class _Bar:
    """A progress bar that the search tells how far it is."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def __call__(self, now: Progress) -> None:
        """Show how far the search is."""
        broken = f" [red]broken: {', '.join(now.broken)}[/red]" if now.broken else ""
        words = f"{now.phase or 'first runs'}{broken}"
        self._bar.update(self._task, completed=now.runs, total=max(now.planned, now.runs), description=words)


def show_verdicts(verdicts: Sequence[Verdict], accepted: dict[str, str] | None = None) -> None:
    """Print a table of rules and verdicts, and below it what breaks each rule."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rule", "level", "verdict", "seen in"):
        table.add_column(name, no_wrap=True)
    for one in verdicts:
        if one.verdict == NOT_APPLICABLE:
            continue
        word = f"{one.verdict} (accepted)" if one.verdict == BROKEN and one.rule.id in (accepted or {}) else one.verdict
        seen = f"{one.observed} runs" if one.observed != 1 else "1 run"
        colour = COLOURS[one.verdict]
        table.add_row(
            f"{one.rule.id} {one.rule.name}",
            one.rule.level,
            f"[{colour}]{word}[/{colour}]",
            seen if one.observed else "",
        )
    console.print(table)
    left_out = [one.rule.id for one in verdicts if one.verdict == NOT_APPLICABLE]
    if left_out:
        console.print(f"[dim]not applicable: {', '.join(left_out)}[/dim]")
    for one in verdicts:
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
    if met.unmet:
        more = f" and {len(met.unmet) - MOST_UNMET} more" if len(met.unmet) > MOST_UNMET else ""
        console.print(f"[dim]never met: {escape('; '.join(met.unmet[:MOST_UNMET]))}{more}[/dim]")
    for rule in result.stale:
        console.print(f"[red]{rule} is accepted in the baseline and was not found: take it out[/red]")
    if report is not None:
        console.print(f"report: {report / 'index.html'}")
    words = [one.verdict for one in result.verdicts]
    rest = f"{words.count(PASSED)} passed, {words.count(NOT_OBSERVED)} not observed"
    said = "[green]no finding[/green]" if result.clean else f"[red]{_words(len(result.broken))} broken[/red]"
    console.print(f"{said}, {rest}")


def _words(count: int) -> str:
    return f"{count} rule{'s' if count != 1 else ''}"
