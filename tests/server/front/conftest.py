"""Fixtures for tests of the front."""

from __future__ import annotations

import logging
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
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that are logged meanwhile. Not by a handler: uvicorn removes those of others at its start."""
    found: list[str] = []

    def keep(self: logging.Logger, record: logging.LogRecord) -> None:
        found.append(record.getMessage() + (" (with a traceback)" if record.exc_info else ""))

    monkeypatch.setattr(logging.Logger, "handle", keep)
    return found
