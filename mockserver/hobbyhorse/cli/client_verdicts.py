"""What the command line shows of conformance: the rules, progress while the suite runs, and the verdicts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from hobbyhorse.conformance.client.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Verdict
from hobbyhorse.conformance.client.report import case_of
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.client.rule import CHANNELS, SEVERITIES, Rule
from hobbyhorse.conformance.client.search import Progress

RUNS_A_LINE = 50
COLOURS = {PASSED: "green", BROKEN: "bold red", NOT_OBSERVED: "yellow", NOT_APPLICABLE: "dim"}


def show_rules(rules: Sequence[Rule]) -> None:
    """Print each rule; where no terminal reads it, in one line, for grep and the like."""
    console = Console(highlight=False)
    for rule in rules:
        head = f"{rule.id} {rule.name}"
        if not console.is_terminal:
            console.print(
                f"{head} ({rule.level}, {rule.severity}, {rule.channel}): {escape(rule.statement)}", soft_wrap=True
            )
            continue
        console.print(f"[bold]{head}[/bold] [dim]{rule.level}, {SEVERITIES[rule.severity]}, {rule.channel}[/dim]")
        console.print(Padding(escape(rule.statement), (0, 0, 0, 2)))


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
def progress(client: str) -> Iterator[Callable[[Progress], None]]:
    """Show how far the suite is, on stderr, for as long as the context lasts."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
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


class _Lines:
    """The same for what is no terminal, such as a CI's log: a line each time the phase or the findings change."""

    def __init__(self) -> None:
        self._last: tuple[str, tuple[str, ...]] = ("", ())
        self._said = 0
        self._begun = time.monotonic()

    def __call__(self, now: Progress) -> None:
        """Say how far the search is."""
        if (now.phase, now.broken) == self._last and now.runs < self._said + RUNS_A_LINE:
            return
        self._last, self._said = (now.phase, now.broken), now.runs
        seconds = time.monotonic() - self._begun
        broken = f"; broken: {', '.join(now.broken)}" if now.broken else ""
        words = f"{now.runs} of {max(now.planned, now.runs)} runs, {seconds:.0f} s: {now.phase or 'first runs'}{broken}"
        print(words, file=sys.stderr, flush=True)


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
                console.print(f"  server: {escape(str(case_of(finding.trace)))}")
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
