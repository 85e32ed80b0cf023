"""The progress of the client suite: lines in a log, a bar on a terminal."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from hobbyhorse.cli.client_progress import RUNS_PER_LINE, progress
from hobbyhorse.conformance.client.search import Progress


def test_a_log_has_a_line_for_each_change_and_for_every_50_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("client") as show:
        for runs in range(1, RUNS_PER_LINE + 3):
            show(Progress(runs, 100, (), "singles"))
        show(Progress(60, 100, ("SUB-01",), "singles"))
        show(Progress(61, 100, ("SUB-01",), "pairs"))
        show(Progress(101, 100, ("SUB-01",), "pairs"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [re.sub(r"\d+ s", "N s", line) for line in printed.err.splitlines()] == [
        "1 of 100 runs, N s: singles",
        "51 of 100 runs, N s: singles",
        "60 of 100 runs, N s: singles; broken: SUB-01",
        "61 of 100 runs, N s: pairs; broken: SUB-01",
    ]


def test_runs_beyond_the_plan_raise_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("client") as show:
        show(Progress(140, 100, (), ""))
    assert capsys.readouterr().err.startswith("140 of 140 runs, 0 s: first runs")


def test_a_terminal_has_a_bar_that_is_removed_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminal(**options: object) -> Console:
        return Console(stderr=True, highlight=False, force_terminal=True, width=80)

    monkeypatch.setattr("hobbyhorse.cli.client_progress.Console", terminal)
    with progress("my client") as show:
        show(Progress(7, 100, ("SUB-01",), "singles"))
    printed = capsys.readouterr().err
    assert "singles" in printed
    assert "broken: SUB-01" in printed
    assert "7/100" in printed
    assert printed.endswith("\x1b[2K")
