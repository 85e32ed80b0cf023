"""Clients that attack the process in which they run. Each is a callable for `find_client`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import locale
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

HUGE = 50_000_000


class Odd(Exception):
    """An error whose methods all misbehave."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class NotText(Exception):
    """An error whose text is not a string."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class NoAttributes(Exception):
    """An error whose attributes cannot be read."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise ValueError("no attributes")

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise KeyboardInterrupt


class Endless(Exception):
    """An error whose text takes forever."""

    def __str__(self) -> str:
        while True:
            time.sleep(1)


class LargeText(Exception):
    """An error with a huge representation."""

    def __repr__(self) -> str:
        return "x" * HUGE


class Group(Exception):
    """A group of errors, as ExceptionGroup is."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__("errors")
        self.exceptions = errors


class OddValue:
    """A value whose methods all misbehave."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise SystemExit(3)

    def __fspath__(self) -> str:
        raise KeyboardInterrupt


# ---- errors


def raises_odd(*given: Any) -> None:
    raise Odd


def raises_not_text(*given: Any) -> None:
    raise NotText


def raises_no_attributes(*given: Any) -> None:
    raise NoAttributes


def raises_endless(*given: Any) -> None:
    raise Endless


def raises_huge(*given: Any) -> None:
    raise LargeText("y" * HUGE, LargeText())


def raises_surrogates(*given: Any) -> None:
    raise ValueError("\udc80\0\x1b[31m")


def raises_nothing(*given: Any) -> None:
    raise ValueError


def raises_chain(*given: Any) -> None:
    error = ValueError("first")
    for _ in range(3_000):
        later = ValueError("later")
        later.__context__ = error
        error = later
    raise error


def raises_nested(*given: Any) -> None:
    error: Exception = ValueError("innermost")
    for _ in range(1_000):
        error = Group(error)
    raise error


def raises_itself(*given: Any) -> None:
    error = Group()
    error.exceptions = (error,)
    raise error


def raises_interrupt(*given: Any) -> None:
    raise KeyboardInterrupt


def raises_exit(*given: Any) -> None:
    sys.exit("text")


def raises_generator_exit(*given: Any) -> None:
    raise GeneratorExit


async def raises_cancelled(*given: Any) -> None:
    raise asyncio.CancelledError


def raises_recursion(*given: Any) -> None:
    raises_recursion(*given)


def raises_memory(*given: Any) -> None:
    bytearray(1 << 60)


# ---- values


def returns_odd(*given: Any) -> Any:
    return OddValue()


def returns_fifo(*given: Any) -> Any:
    path = Path(tempfile.mkdtemp()) / "video.mp4"
    os.mkfifo(path)
    return path


def returns_zero(*given: Any) -> str:
    return "/dev/zero"


def returns_directory(*given: Any) -> str:
    return "/"


def returns_long_text(*given: Any) -> str:
    return "x" * HUGE


def returns_large_bytes(*given: Any) -> bytes:
    return bytes(200_000_000)


def returns_sparse(*given: Any) -> str:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.truncate(10 << 30)
    return file.name


def returns_generator(*given: Any) -> Iterator[int]:
    while True:
        yield 1


async def returns_async_generator(*given: Any) -> AsyncIterator[int]:
    while True:
        yield 1


async def never_ends(*given: Any) -> None:
    while True:
        await _turn()


async def _turn() -> None:
    await asyncio.sleep(0)


# ---- its own process


def exits(*given: Any) -> None:
    os._exit(7)


def exits_in_a_thread(*given: Any) -> None:
    thread = threading.Thread(target=os._exit, args=(8,))
    thread.start()
    thread.join()


def kills_itself(*given: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kills_its_group(*given: Any) -> None:
    os.killpg(0, signal.SIGTERM)


def kills_its_parent(*given: Any) -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def kills_all(*given: Any) -> None:
    os.kill(-1, signal.SIGKILL)


def interrupts_itself(*given: Any) -> None:
    signal.raise_signal(signal.SIGTERM)


def aborts(*given: Any) -> None:
    os.abort()


def crashes(*given: Any) -> None:
    ctypes.string_at(0)


def exits_in_c(*given: Any) -> None:
    ctypes.CDLL(None)._exit(9)


def killed_in_c(*given: Any) -> None:
    ctypes.CDLL(None).kill(os.getpid(), int(signal.SIGKILL))


def replaces_its_program(*given: Any) -> None:
    os.execv("/bin/sleep", ["sleep", "1000"])


def blocks_in_c(*given: Any) -> None:
    # The thread holds the interpreter, so nothing in this process can end it.
    ctypes.PyDLL(None).pause()


def forks(*given: Any) -> None:
    if os.fork() == 0:
        return  # continues with the suite's code
    os.wait()
    raise ValueError("the parent")


def forks_and_raises(*given: Any) -> None:
    if os.fork() == 0:
        raise ValueError("the child")
    raise ValueError("the parent")


def forks_forever(*given: Any) -> None:
    if os.fork() == 0:
        while True:
            signal.pause()
    raise ValueError("the parent")


def daemonises(*given: Any) -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                signal.pause()
        os._exit(0)
    raise ValueError("the parent")


def forks_and_exits(*given: Any) -> None:
    if os.fork() == 0:
        while True:
            signal.pause()
    ctypes.CDLL(None)._exit(9)


# ---- files


def prints(*given: Any) -> None:
    for _ in range(100):
        sys.stdout.write("x" * 1_000_000)
        sys.stderr.write("y" * 1_000_000)
    raise ValueError("printed")


def closes_output(*given: Any) -> None:
    for number in (0, 1, 2):
        os.close(number)
    raise ValueError("closed")


def closes_all(*given: Any) -> None:
    os.closerange(0, 4_096)
    raise ValueError("closed")


# ---- global state


def replaces_everything(*given: Any) -> None:
    class Stream:
        def __getattr__(self, name: str) -> Any:
            raise ValueError(name)

    sys.stdout = sys.stderr = sys.stdin = Stream()
    sys.excepthook = lambda *given: None
    sys.unraisablehook = lambda *given: None
    socket.setdefaulttimeout(0.000_001)
    os.environ.clear()
    warnings.simplefilter("error")
    random.seed(1)
    gc.disable()
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "C")
    asyncio.set_event_loop_policy(None)
    raise ValueError("replaced")


def limits_recursion(*given: Any) -> None:
    sys.setrecursionlimit(60)
    raise ValueError("limited")


def deletes_its_directory(*given: Any) -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    raise ValueError("deleted")


def replaces_time_and_sockets(*given: Any) -> None:
    time.time = time.monotonic = lambda: 0.0
    time.sleep = lambda seconds: None
    socket.socket = None  # type: ignore[assignment,misc]
    threading.Thread.start = None  # type: ignore[assignment,method-assign]
    raise ValueError("replaced")


# ---- threads


def leaves_threads(*given: Any) -> None:
    def stay() -> None:
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(1)

    for daemon in (False, True):
        threading.Thread(target=stay, daemon=daemon).start()
    raise ValueError("left")


def leaves_a_busy_thread(*given: Any) -> None:
    def spin() -> None:
        while True:
            with contextlib.suppress(BaseException):
                while True:
                    pass

    threading.Thread(target=spin).start()
    raise ValueError("left")


def leaves_a_blocked_thread(*given: Any) -> None:
    reader, _ = os.pipe()
    threading.Thread(target=os.read, args=(reader, 1)).start()
    raise ValueError("left")


POOL = ThreadPoolExecutor(1)


def keeps_a_pool(*given: Any) -> None:
    raise ValueError(POOL.submit(time.sleep, 5).result())


LOOP = asyncio.new_event_loop()


def keeps_a_loop(*given: Any) -> None:
    if not LOOP.is_running():
        threading.Thread(target=LOOP.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(5), LOOP).result()
    raise ValueError("waited")


def catches_everything(base: str, *given: Any) -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1)


def waits(*given: Any) -> None:
    threading.Event().wait()


def waits_again(*given: Any) -> None:
    while True:
        with contextlib.suppress(BaseException):
            threading.Event().wait()


async def awaits(*given: Any) -> None:
    async def inner() -> None:
        await asyncio.Event().wait()

    await asyncio.gather(inner(), inner())


# ---- processes


def runs_a_process(*given: Any) -> None:
    subprocess.run(["sleep", "0.3"], check=True, timeout=60, capture_output=True)
    subprocess.run(["sleep", "0.3"], check=True, timeout=60)
    subprocess.run(["sleep", "1.5"], check=True, capture_output=True)
    raise ValueError("ran")


def uses_processes(*given: Any) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.3,)),
        multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0.3,)),
    ]
    for process in processes:
        process.start()
        process.join(60)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(abs, -1).result(60)
    raise ValueError(f"{found} {[process.exitcode for process in processes]}")


def waits_for_a_process(*given: Any) -> None:
    subprocess.run(["sleep", "30"], check=True, capture_output=True)


def requests(base: str, key: str, request: Any) -> None:
    """Make a request; no attack."""
    with httpx.Client(trust_env=False) as client:
        raise ValueError(client.get(f"{base}/v1/tasks/none").status_code)
