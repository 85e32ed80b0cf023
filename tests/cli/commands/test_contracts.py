"""`hobbyhorse contracts`: the group and its help."""

from __future__ import annotations

from tests.conftest import Run


def test_the_help_of_the_group_lists_its_commands(run: Run) -> None:
    done = run("contracts", "--help")
    assert (done.status, done.err) == (0, "")
    assert "Work on contracts." in done.out
    assert "lint" in done.out.split()


def test_an_unknown_command_of_the_group_is_one_line_and_exit_status_2(run: Run) -> None:
    done = run("contracts", "lin")
    assert (done.status, done.out, done.err) == (2, "", "hobbyhorse: No such command 'lin'. Did you mean 'lint'?\n")
