"""`hobbyhorse state check`: whether the records of a state agree with each other."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.cli.commands.kept_state import write_state
from tests.conftest import Run


def test_a_sound_state_has_no_problems(run: Run, tmp_path: Path) -> None:
    done = run("state", "check", write_state(tmp_path))
    assert (done.status, done.out, done.err) == (0, "no problems\n", "")


def test_each_problem_is_one_line_and_exit_status_1(run: Run, tmp_path: Path) -> None:
    done = run("state", "check", write_state(tmp_path, broken=True))
    assert (done.status, done.out) == (1, "world a-world has no head\n")


def damaged(tmp_path: Path, statement: str) -> Path:
    """Write a state, and change it by a statement."""
    folder = write_state(tmp_path)
    with sqlite3.connect(folder / "state.db") as db:
        assert db.execute(statement).rowcount
    db.close()
    return folder


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("update job set record = '{'", "world a-world: the job 0 cannot be read: unexpected end of data: "),
        ("update world set record = '[]'", "world a-world: the head cannot be read: "),
        ("update world set record = '{}'", "world a-world: the head has no 'attempts', 'dues', 'jobs', "),
        (
            """update job set record = '{"number":0,"id":"a-job","provider":"acme"}'""",
            "world a-world: the job 0 has no 'begins', 'callback', ",
        ),
    ],
)
def test_a_record_that_cannot_be_used_is_a_problem(run: Run, tmp_path: Path, statement: str, problem: str) -> None:
    done = run("state", "check", damaged(tmp_path, statement))
    assert (done.status, done.err) == (1, "")
    assert done.out.startswith(problem)
    assert done.out.count("\n") == 1


@pytest.mark.parametrize("command", ["check", "show", "export"])
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("update meta set value = '\"x\"' where name = 'format'", "its format is 'x', not a number"),
        ("update meta set value = '[]' where name = 'contracts'", "its contracts is [], not an object"),
        ("update meta set value = 'null' where name = 'seed'", "its seed is None, not a number"),
        ("delete from meta where name = 'seed'", "its seed is None, not a number"),
        ("update meta set value = '{' where name = 'seed'", "its meta table cannot be read: unexpected end of data"),
    ],
)
def test_facts_that_cannot_be_read_are_one_line(
    run: Run, tmp_path: Path, command: str, statement: str, reason: str
) -> None:
    done = run("state", command, damaged(tmp_path, statement))
    assert (done.status, done.out) == (2, "")
    assert f"the state is damaged: {reason}" in done.err
    assert done.err.count("\n") == 1


def test_an_export_of_a_damaged_state_names_the_record(run: Run, tmp_path: Path) -> None:
    done = run("state", "export", damaged(tmp_path, "update job set record = '{'"))
    assert done.status == 2
    assert "world a-world: the job 0 cannot be read" in done.err
    assert run("state", "show", tmp_path).status == 0, "it counts"
