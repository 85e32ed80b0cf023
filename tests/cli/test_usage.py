"""Errors and warnings are one line on stderr."""

from __future__ import annotations

import pytest
import typer

from hobbyhorse.cli.usage import UsageError, complain, reports_internal_errors


def test_a_message_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a message\n  with  breaks\tin it")
    assert capsys.readouterr() == ("", "hobbyhorse: a message with breaks in it\n")


def test_an_unexpected_error_is_one_line_with_its_place_and_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    @reports_internal_errors
    def command(name: str) -> str:
        return {"a": "b"}[name]

    assert command("a") == "b"
    with pytest.raises(typer.Exit) as ended:
        command("stage")
    assert ended.value.exit_code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hobbyhorse: internal error: KeyError: 'stage' (in ")
    assert "test_usage.py, line " in line


@pytest.mark.parametrize("error", [UsageError("x"), typer.Exit(1), typer.Abort(), typer.BadParameter("x")])
def test_errors_that_the_entry_point_knows_pass(error: Exception) -> None:
    @reports_internal_errors
    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        command()
