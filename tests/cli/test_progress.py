"""The progress of a suite: a line every ten seconds in a log, a bar on a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from hobbyhorse.cli.progress import SECONDS_PER_LINE, Lines, on_terminal, probing, progress
from hobbyhorse.conformance.client.search import Progress


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the captured stderr for a terminal."""

    def console(**options: object) -> Console:
        return Console(stderr=True, highlight=False, force_terminal=True, width=80)

    monkeypatch.setattr("hobbyhorse.cli.progress.on_terminal", lambda: True)
    monkeypatch.setattr("hobbyhorse.cli.progress.Console", console)


def test_a_log_has_one_line_for_each_ten_seconds(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("client", watch) as show:
        for runs in range(1, 62):
            show(Progress(runs, 100, ("SUB-01",) if runs > 30 else (), "singles"))
            watch.seconds += 0.5
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "0:00 1 of 100 runs: singles",
        "0:10 21 of 100 runs: singles",
        "0:20 41 of 100 runs: singles; broken: SUB-01",
        "0:30 61 of 100 runs: singles; broken: SUB-01",
    ]


def test_a_line_is_due_also_while_a_single_run_lasts(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(watch)
    lines.print_due()  # nothing is known yet
    lines.show("3 of 100 runs: singles")
    for _ in range(3):
        watch.seconds += 5 * SECONDS_PER_LINE  # a pause of the machine does not make up for the lines that it missed
        lines.print_due()
        lines.print_due()
    assert capsys.readouterr().err.split("\n") == [
        f"{clock} 3 of 100 runs: singles" for clock in ("0:00", "0:50", "1:40", "2:30")
    ] + [""]


def test_the_lines_are_printed_by_a_thread_that_ends_with_them(watch: Watch) -> None:
    with progress("client", watch):
        assert "progress" in {thread.name for thread in threading.enumerate()}
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_runs_beyond_the_plan_raise_the_total(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("client", watch) as show:
        show(Progress(140, 100, (), ""))
    assert capsys.readouterr().err == "0:00 140 of 140 runs: first runs\n"


@pytest.mark.usefixtures("terminal")
def test_a_terminal_has_a_bar_that_is_removed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("my client") as show:
        show(Progress(7, 100, ("SUB-01",), "singles"))
    printed = capsys.readouterr().err
    assert "singles" in printed
    assert "broken: SUB-01" in printed
    assert "7/100" in printed
    assert printed.endswith("\x1b[2K")


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("is_plain", [True, False])
def test_a_bar_has_colours_unless_no_color_is_set(
    is_plain: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1" if is_plain else "")
    with progress("my client") as show:
        show(Progress(7, 100, ("SUB-01",), "singles"))
    assert ("\x1b[31m" in capsys.readouterr().err) is not is_plain


@pytest.mark.parametrize(
    ("is_tty", "variables", "expected"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
    ],
)
def test_a_log_is_not_taken_for_a_terminal(
    is_tty: bool, variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_tty)
    assert on_terminal() is expected


def test_a_log_names_the_current_probe_every_ten_seconds(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    with probing("http://x", watch) as show:
        _probe(show, watch)
    assert capsys.readouterr().err.splitlines() == ["0:00 1 probes: list: lists [all]", "0:12 3 probes: order: orders"]


def _probe(show: Callable[[str, str], None], watch: Watch) -> None:
    for name, description in (("list", "lists [all]"), ("status", "polls"), ("order", "orders")):
        show(name, description)
        watch.seconds += 6


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_the_current_probe_literally(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    with probing("http://x") as show:
        show("list", "lists [all]")
    assert "lists [all]" in capsys.readouterr().err
