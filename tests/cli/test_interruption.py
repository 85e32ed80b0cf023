"""Ctrl-C while a suite runs: once for the report, twice for the end."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from hobbyhorse.cli.interruption import stoppable


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process would have exited."""
    found: list[int] = []
    monkeypatch.setattr(os, "_exit", found.append)
    return found


def test_the_first_interruption_is_an_exception_and_the_second_one_ends_the_process(
    exits: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with stoppable():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert exits == []
        assert "Ctrl-C again: exit at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):  # only here, where the process goes on
            signal.raise_signal(signal.SIGINT)
        assert exits == [130]
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
