"""The self-check finds out whether virtual time works before a client runs in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hobbyhorse.runners.virtual import self_check
from hobbyhorse.runners.virtual.compiled import Unavailable


def test_the_tracer_passes_its_own_probe(tracer: Path) -> None:
    assert self_check.checked_tracer() == tracer


def fake(tmp_path: Path, body: str) -> Path:
    """Return a tracer that runs a shell script instead."""
    program = tmp_path / "tracer"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


def test_a_tracer_that_does_not_start_the_program_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake(tmp_path, "exit 1")
    monkeypatch.setattr(self_check, "tracer", lambda: program)
    with pytest.raises(Unavailable, match="the tracer ended before the program began"):
        self_check.checked_tracer.__wrapped__()


@pytest.mark.parametrize(("status", "message"), [(1, "a wait takes the wrong time"), (77, "exit status 77")])
def test_a_probe_that_fails_says_why(status: int, message: str, tracer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "tracer", lambda: tracer)
    monkeypatch.setattr(self_check, "_probe", lambda program: status)
    with pytest.raises(Unavailable, match=message):
        self_check.checked_tracer.__wrapped__()


def test_a_probe_that_does_not_end_is_given_up(tracer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "tracer", lambda: tracer)
    monkeypatch.setattr(self_check, "_probe", lambda program: None)
    with pytest.raises(Unavailable, match="did not end"):
        self_check.checked_tracer.__wrapped__()
