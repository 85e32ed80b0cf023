"""The lines of the log, and the loggers that write to it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from hobbyhorse.cli.usage import complain, inform
from hobbyhorse.server.observing.log import one_log as one_log
from hobbyhorse.server.observing.log import open_log


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Close the log after each test."""
    logger = logging.getLogger("hobbyhorse")
    before = [*logger.handlers], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_record_is_one_json_object_without_empty_values() -> None:
    stream = io.StringIO()
    logger = open_log("json", "debug", stream)
    logger.debug("request", extra={"fields": {"path": "/a b", "job": None, "status": 0, "bad": "\udcff\n"}})
    found = json.loads(stream.getvalue())
    assert found.pop("time").endswith("Z")
    assert found == {"level": "debug", "message": "request", "path": "/a b", "status": 0, "bad": "?\n"}
    assert len(stream.getvalue().splitlines()) == 1


def test_a_record_is_one_line_of_text_whatever_its_values_are() -> None:
    stream = io.StringIO()
    logger = open_log("text", "info", stream)
    logger.info(
        "request", extra={"fields": {"path": "/a\r\nINFO forged", "ms": 1.5, "quoted": 'a"b', "odd": "\x1b[2J"}}
    )
    (line,) = stream.getvalue().splitlines()
    assert " INFO request " in line
    assert r'path="/a\r\nINFO forged" ms=1.5 quoted="a\"b"' in line
    assert "\x1b" not in line


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_message_of_several_lines_is_one_line(form: str) -> None:
    stream = io.StringIO()
    open_log(form, "info", stream).info("two\nlines")
    (line,) = stream.getvalue().splitlines()
    assert "lines" in line


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_stays_in_its_line(form: str) -> None:
    stream = io.StringIO()
    logger = open_log(form, "info", stream)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ZeroDivisionError: division by zero" in line


def test_records_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    logger = open_log("json", "warning", stream)
    logger.info("quiet")
    logger.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_other_loggers_write_in_the_same_form_while_the_server_runs() -> None:
    stream, own = io.StringIO(), io.StringIO()
    uvicorn = logging.getLogger("uvicorn")
    handler = logging.StreamHandler(own)
    before = uvicorn.propagate
    uvicorn.addHandler(handler)
    uvicorn.propagate = False
    try:
        open_log("json", "info", stream)
        with one_log():
            logging.getLogger("uvicorn.error").error("of uvicorn")
            logging.getLogger("another.library").warning("of a library")
        uvicorn.error("afterwards")
    finally:
        uvicorn.removeHandler(handler)
        uvicorn.propagate = before
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(one["logger"], one["message"]) for one in found] == [
        ("uvicorn.error", "of uvicorn"),
        ("another.library", "of a library"),
    ]
    assert own.getvalue() == "afterwards\n"


def test_a_complaint_is_a_record_of_an_open_log(capsys: pytest.CaptureFixture[str]) -> None:
    complain("plain\ntext")
    assert capsys.readouterr().err == "hobbyhorse: plain text\n"
    stream = io.StringIO()
    open_log("json", "info", stream)
    complain("of the\nlog")
    inform("of no\nproblem")
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(one["level"], one["message"]) for one in found] == [("warning", "of the log"), ("info", "of no problem")]
    assert capsys.readouterr().err == ""
