"""`hobbyhorse state`: the group and its help."""

from __future__ import annotations

from tests.conftest import Run


def test_the_help_of_the_group_lists_its_commands(run: Run) -> None:
    done = run("state", "--help")
    assert (done.status, done.err) == (0, "")
    assert {"show", "check", "export"} <= set(done.out.split())
