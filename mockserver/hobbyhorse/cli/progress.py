"""The progress of a suite on stderr: a bar on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from hobbyhorse.conformance.client.search import Progress

# Real seconds between two lines: a CI job that prints nothing for longer seems to hang.
SECONDS_PER_LINE = 10.0
# Real seconds between two checks of whether a line is due: a line may be late by this much.
LOOK_SECONDS = 0.5

Now = Callable[[], float]


def on_terminal() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    # Not rich's own test: FORCE_COLOR, which many CI services set, makes it take a log for a terminal.
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def progress(client: str, now: Now = time.monotonic) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of a search until the context ends. `now` returns real time in seconds."""
    if not on_terminal():
        with _lines(now) as lines:
            yield lambda state: lines.show(_run_line(state))
        return
    with _bar() as bar:
        task = bar.add_task(escape(client), total=None)
        yield lambda state: _update_bar(bar, task, state)


@contextmanager
def probing(base_url: str, now: Now = time.monotonic) -> Iterator[Callable[[str, str], None]]:
    """Show the current probe until the context ends: the callable takes its name and its description."""
    count = 0
    with _lines(now) if not on_terminal() else _bar() as shown:
        task = shown.add_task(escape(base_url), total=None) if isinstance(shown, Bar) else None

        def show(name: str, description: str) -> None:
            nonlocal count
            count += 1
            if isinstance(shown, Bar) and task is not None:
                # The number of probes is unknown until they have been generated, which takes seconds.
                words = f"{escape(name)} [dim]{escape(description)}[/dim]"
                shown.update(task, completed=count - 1, description=words)
            elif isinstance(shown, Lines):
                shown.show(f"{count} probes: {name}: {description}")

        yield show


def _bar() -> Bar:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bar(*columns, console=Console(stderr=True, highlight=False), transient=True)


def _update_bar(bar: Bar, task: TaskID, state: Progress) -> None:
    broken = f" [red]broken: {', '.join(state.broken)}[/red]" if state.broken else ""
    bar.update(task, completed=state.runs, total=_total(state), description=f"{state.phase or 'first runs'}{broken}")


def _run_line(state: Progress) -> str:
    broken = f"; broken: {', '.join(state.broken)}" if state.broken else ""
    return f"{state.runs} of {_total(state)} runs: {state.phase or 'first runs'}{broken}"


def _total(state: Progress) -> int:
    # Shrinking a finding takes runs beyond the plan, and a bar must not be more than full.
    return max(state.planned, state.runs)


@contextmanager
def _lines(now: Now) -> Iterator[Lines]:
    """Yield lines that are also printed while nothing is shown: one run may take longer than ten seconds."""
    lines, ended = Lines(now), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            lines.print_due()

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        thread.join()


class Lines:
    """Prints the latest text with the elapsed time: the first one at once, then one every SECONDS_PER_LINE."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._started = self._due = now()
        self._text: str | None = None
        self._lock = threading.Lock()

    def show(self, text: str) -> None:
        """Take a text, and print it if a line is due."""
        with self._lock:
            self._text = text
        self.print_due()

    def print_due(self) -> None:
        """Print the latest text if a line is due."""
        with self._lock:
            seconds = self._now()
            if self._text is None or seconds < self._due:
                return
            # From this line on, so that a pause of the machine is not followed by several lines at once.
            self._due = seconds + SECONDS_PER_LINE
            print(f"{_clock(seconds - self._started)} {self._text}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
