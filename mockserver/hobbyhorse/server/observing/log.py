"""The log on stderr: one line for each record, as JSON or as text. Knows no request."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, TextIO

import orjson

FORMS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
NAME = "hobbyhorse"
"""The name of the logger of this project."""
# Loggers that uvicorn gives a handler of their own, in a form of its own.
FOREIGN = ("uvicorn", "uvicorn.error", "uvicorn.access")


class LineFormatter(logging.Formatter):
    """Formats a record as one line, with the values that `extra={"fields": ...}` adds."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._write = _json if form == "json" else _text

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        values: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.name != NAME:
            values["logger"] = record.name
        # A value of None says nothing.
        values |= {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return self._write(values)


def _json(values: Mapping[str, Any]) -> str:
    # A path may have bytes that are not UTF-8, which JSON cannot express.
    cleaned = {name: _clean(value) if isinstance(value, str) else value for name, value in values.items()}
    return orjson.dumps(cleaned, default=str).decode()


def _text(values: Mapping[str, Any]) -> str:
    head = [str(values["time"]), str(values["level"]).upper(), str(values["message"])]
    rest = [f"{name}={_word(value)}" for name, value in values.items() if name not in ("time", "level", "message")]
    # Whatever a client sends, one record stays one line.
    return " ".join(" ".join([*head, *rest]).splitlines())


def _word(value: Any) -> str:
    text = _clean(str(value))
    return text if text.isprintable() and " " not in text and '"' not in text else orjson.dumps(text).decode()


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def open_log(form: str, level: str, stream: TextIO | None = None) -> logging.Logger:
    """Let the project's logger write to a stream, by default stderr; return the logger."""
    logger, handler = logging.getLogger(NAME), logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(form))
    for old in (*logger.handlers,):
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    return logger


@contextmanager
def one_log() -> Iterator[None]:
    """Let all other loggers write through the handlers of the project's, while the context lasts."""
    handlers = logging.getLogger(NAME).handlers
    loggers = [logging.getLogger(), *map(logging.getLogger, FOREIGN)]
    before = [(logger, [*logger.handlers], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers[:], logger.propagate = [], True
    logging.getLogger().handlers[:] = handlers
    try:
        yield
    finally:
        for logger, own, propagate in before:
            logger.handlers[:], logger.propagate = own, propagate
