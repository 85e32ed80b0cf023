"""`hobbyhorse state check`: whether the records of a state agree with each other."""

from __future__ import annotations

from pathlib import Path

from tests.cli.commands.kept_state import write_state
from tests.conftest import Run


def test_a_sound_state_has_no_problems(run: Run, tmp_path: Path) -> None:
    done = run("state", "check", write_state(tmp_path))
    assert (done.status, done.out, done.err) == (0, "no problems\n", "")


def test_each_problem_is_one_line_and_exit_status_1(run: Run, tmp_path: Path) -> None:
    done = run("state", "check", write_state(tmp_path, broken=True))
    assert (done.status, done.out) == (1, "world a-world has no head\n")
