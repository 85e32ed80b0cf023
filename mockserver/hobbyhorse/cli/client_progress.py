"""The progress of the client suite on stderr: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from hobbyhorse.conformance.client.search import Progress

# Twenty lines for the 1,000 runs of `--profile ci`: enough to see in a CI log that the suite goes on, and how fast.
RUNS_PER_LINE = 50


@contextmanager
def progress(client: str) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of the search until the context ends."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        yield _BarUpdate(bar, bar.add_task(client, total=None))


class _BarUpdate:
    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def __call__(self, now: Progress) -> None:
        broken = f" [red]broken: {', '.join(now.broken)}[/red]" if now.broken else ""
        words = f"{now.phase or 'first runs'}{broken}"
        self._bar.update(self._task, completed=now.runs, total=_total(now), description=words)


class _Lines:
    """Prints a line when the phase or the findings change, and every RUNS_PER_LINE runs."""

    def __init__(self) -> None:
        self._last: tuple[str, tuple[str, ...]] = ("", ())
        self._printed_runs = 0
        self._started = time.monotonic()

    def __call__(self, now: Progress) -> None:
        if (now.phase, now.broken) == self._last and now.runs < self._printed_runs + RUNS_PER_LINE:
            return
        self._last, self._printed_runs = (now.phase, now.broken), now.runs
        seconds = time.monotonic() - self._started
        broken = f"; broken: {', '.join(now.broken)}" if now.broken else ""
        line = f"{now.runs} of {_total(now)} runs, {seconds:.0f} s: {now.phase or 'first runs'}{broken}"
        print(line, file=sys.stderr, flush=True)


def _total(now: Progress) -> int:
    # Shrinking a finding takes runs beyond the plan, and a bar must not be more than full.
    return max(now.planned, now.runs)
