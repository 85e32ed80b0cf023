"""`hobbyhorse conformance`: the group and its help."""

from __future__ import annotations

from tests.conftest import Run


def test_the_help_of_the_group_lists_its_commands(run: Run) -> None:
    done = run("conformance", "--help")
    assert (done.status, done.err) == (0, "")
    assert "Test a client or a server against a contract." in done.out
    assert {"client", "judge", "replay", "server"} <= set(done.out.split())


def test_the_group_alone_is_one_line_and_exit_status_2(run: Run) -> None:
    done = run("conformance")
    assert (done.status, done.out, done.err) == (2, "", "hobbyhorse: Missing command.\n")
