"""Ctrl-C while a suite runs: once for the report, twice for the end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from hobbyhorse.cli.interruption import stoppable


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The statuses with which the process would have exited. The handler of SIGINT is restored."""
    found: list[int] = []
    monkeypatch.setattr(os, "_exit", found.append)
    before = signal.getsignal(signal.SIGINT)
    yield found
    signal.signal(signal.SIGINT, before)


def test_the_first_interruption_is_an_exception_and_the_second_one_ends_the_process(
    exits: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    with stoppable(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    # Also after the context, while the report is written and Python exits.
    assert exits == []
    assert "Ctrl-C again: exit at once" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):  # only here, where the process goes on
        signal.raise_signal(signal.SIGINT)
    assert exits == [130]


def test_the_handler_is_removed_if_no_signal_came() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stoppable():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_leaves_the_handler_as_it_is() -> None:
    handlers = []

    def run() -> None:
        with stoppable():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
