"""The choice of observers, and what a server without them imports."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hobbyhorse.server.app import Fake
from hobbyhorse.server.observing import start
from hobbyhorse.server.observing.observed import Observed
from hobbyhorse.server.observing.start import observe


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Close the log after each test."""
    logger = logging.getLogger("hobbyhorse")
    before = [*logger.handlers], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.mark.parametrize(
    ("form", "level", "expected"),
    [("json", None, logging.INFO), (None, "debug", logging.DEBUG), ("text", "error", logging.ERROR)],
)
def test_a_form_or_a_level_opens_the_log(form: str | None, level: str | None, expected: int) -> None:
    assert isinstance(observe(form, level, False)(Fake()), Observed)
    assert logging.getLogger("hobbyhorse").level == expected
    assert len(logging.getLogger("hobbyhorse").handlers) == 1


def test_spans_alone_open_no_log() -> None:
    observe(None, None, True)
    assert logging.getLogger("hobbyhorse").handlers == []


def test_without_the_extra_spans_are_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(start, "import_module", missing)
    with pytest.raises(ImportError):
        observe(None, None, True)


def test_a_server_without_observers_imports_none_and_a_log_imports_no_opentelemetry() -> None:
    code = (
        "import sys, hobbyhorse.cli.commands.serve\n"
        "print(*[name for name in sys.modules if '.observing' in name or name.startswith('opentelemetry')])\n"
        "import hobbyhorse.server.observing.start\n"
        "print(*[name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "\n\n"
