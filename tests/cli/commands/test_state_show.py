"""`hobbyhorse state show`: what is in a state."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands.kept_state import write_state
from tests.conftest import Run


def test_it_shows_the_facts_and_the_counts(run: Run, tmp_path: Path) -> None:
    done = run("state", "show", write_state(tmp_path))
    assert (done.status, done.err) == (0, "")
    rows = dict(line.rsplit(maxsplit=1) for line in done.out.splitlines())
    assert (rows["seed"], rows["jobs"], rows["running"], rows["contract acme"]) == ("3", "1", "1", "abcdef012345")


def test_it_prints_json(run: Run, tmp_path: Path) -> None:
    found = json.loads(run("state", "show", write_state(tmp_path), "--json").out)
    assert (found["format"], found["worlds"], found["contracts"]) == (1, 1, {"acme": "abcdef0123456789"})


def test_a_place_without_a_state_is_one_line_and_exit_status_2(run: Run, tmp_path: Path) -> None:
    done = run("state", "show", tmp_path)
    assert (done.status, done.out, done.err) == (2, "", f"hobbyhorse: {str(tmp_path)!r} has no state\n")
