"""Fixtures for tests of the front."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hobbyhorse.server.front.certificates import Certificates
from tests.front import make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificate of servers on loopback, with its authority."""
    folder: Path = tmp_path_factory.mktemp("certificates")
    return make_certificates(folder)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The messages that servers log meanwhile. Their logger passes none on, so that `caplog` may see nothing."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage() + (" (with a traceback)" if record.exc_info else ""))

    loggers, handler = (logging.getLogger("uvicorn.error"), logging.getLogger("asyncio")), Keep()
    for one in loggers:
        one.addHandler(handler)
    yield found
    for one in loggers:
        one.removeHandler(handler)
