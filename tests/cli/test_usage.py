"""Errors and warnings are one line on stderr."""

from __future__ import annotations

import pytest

from hobbyhorse.cli.usage import complain


def test_a_message_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a message\n  with  breaks\tin it")
    assert capsys.readouterr() == ("", "hobbyhorse: a message with breaks in it\n")
