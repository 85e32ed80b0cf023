"""The progress of a run of the client suite, on stderr: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from hobbyhorse.conformance.client.search import Progress

RUNS_A_LINE = 50


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
