"""A waiting thread or task is named by the innermost function of the client's own code."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hobbyhorse.runners import waiting_places as module
from hobbyhorse.runners.waiting_places import is_client_file, waiting_places
from tests.conftest import ROOT
from tests.runners.conftest import Trial
from tests.runners.test_command import eventually


def take(source: queue.Queue[int]) -> int:
    return source.get()


def test_a_thread_is_named_by_its_innermost_own_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    source: queue.Queue[int] = queue.Queue()
    threads = [threading.Thread(target=take, args=(source,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    line = take.__code__.co_firstlineno + 1
    place = f"2 threads in take (tests/runners/test_waiting_places.py:{line})"
    try:
        assert eventually(lambda: waiting_places([thread.ident or 0 for thread in threads]) == place)
    finally:
        for thread in threads:
            source.put(1)
            thread.join()


def test_an_event_loop_is_named_by_its_tasks(trial: Callable[..., Trial]) -> None:
    async def one(event: asyncio.Event) -> None:
        await event.wait()

    async def client() -> None:
        event = asyncio.Event()
        await asyncio.gather(one(event), one(event), asyncio.wait_for(asyncio.shield(event.wait()), None))

    ran = trial().run(lambda base, key: asyncio.run(client()))
    message = str(ran.error)
    assert message.startswith("every thread of the client waits, and no event is left that could wake one: ")
    assert "2 tasks in one (" in message
    assert "task in client (" in message


def test_many_places_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PLACES", 0)
    assert waiting_places([threading.get_ident()]) == "and 1 more"


def test_a_file_outside_the_current_directory_or_without_one_has_its_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert " (test_waiting_places.py:" in waiting_places([threading.get_ident()])


def test_the_clients_own_files_are_those_outside_python_packages_and_the_suite() -> None:
    assert is_client_file(__file__)
    assert not is_client_file(os.__file__)
    assert not is_client_file(pytest.__file__)
    assert not is_client_file(module.__file__)
    assert not is_client_file("<string>")
