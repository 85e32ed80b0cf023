"""Waiting and telling the time as Python does it, for threads in virtual time; thin for all others; knows no server.

Not in virtual time: `datetime.now()` where a library calls it (a C type cannot be patched, so it is replaced in the
modules that are neither Python's nor installed), TLS sockets, `os.read`, subprocesses, and event loops that are not
written in Python (uvloop).
"""

from __future__ import annotations

import datetime
import errno
import logging
import math
import os
import queue
import select
import selectors
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hobbyhorse.runners.scheduler import RunOver, Scheduler, current

_real_lock, _real_rlock = threading.Lock, threading.RLock
_allocate = threading._allocate_lock  # type: ignore[attr-defined]
_real_poll, _real_select, _real_simple_queue = select.poll, select.select, queue.SimpleQueue
_Socket: Any = socket.socket.__mro__[1]  # the one written in C
MONOTONIC_BASE = 1_000.0
"""What the monotonic clocks of a client show when its time begins."""
NETWORKS = frozenset({socket.AF_INET, socket.AF_INET6})
"""The families of sockets whose bytes take their way before they have arrived."""


# ---- the time


def _clock(real: Callable[[], Any], shown: Callable[[Any], Any]) -> Callable[[], Any]:
    def tell() -> Any:
        governor = current()
        return real() if governor is None else shown(governor)

    return tell


def _monotonic_ns(governor: Any) -> int:
    return int(round((MONOTONIC_BASE + governor.elapsed()) * 1e6) * 1_000)


def _sleep(seconds: float, real: Callable[[float], None] = time.sleep) -> None:
    governor = current()
    if governor is None:
        real(seconds)
        return
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    governor.wait(_yes if seconds == 0 else None, seconds)


def _yes() -> bool:
    return True


CLOCKS: dict[str, Callable[[Any], Any]] = {
    "time": lambda governor: governor.moment(),
    "time_ns": lambda governor: round(governor.moment() * 1e6) * 1_000,
    "monotonic": lambda governor: MONOTONIC_BASE + governor.elapsed(),
    "monotonic_ns": _monotonic_ns,
    "perf_counter": lambda governor: MONOTONIC_BASE + governor.elapsed(),
    "perf_counter_ns": _monotonic_ns,
}


_Datetime = datetime.datetime


class _Datetimes(type(_Datetime)):  # type: ignore[misc]
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _Datetime)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, _Datetime)


class VirtualDatetime(_Datetime, metaclass=_Datetimes):
    """What a client's module knows as `datetime`; all that it makes are the usual ones."""

    def __new__(cls, *args: Any, **named: Any) -> Any:
        """Make a usual one."""
        return _Datetime(*args, **named)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        """Return the moment."""
        governor = current()
        return _Datetime.now(tz) if governor is None else _Datetime.fromtimestamp(governor.moment(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        """Return the moment, as UTC and without saying so."""
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

    today = now


_datetime_module = types.ModuleType("datetime")
vars(_datetime_module).update({**vars(datetime), "datetime": VirtualDatetime})


# ---- locks and threads


class VirtualLock:
    """A lock whose waiters wait in virtual time."""

    def __init__(self) -> None:
        self._lock = _allocate()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; False if that did not succeed in time."""
        governor = current()
        if governor is None:
            return bool(self._lock.acquire(blocking, timeout))
        while not self._lock.acquire(False):
            if not blocking or not governor.wait(self._free, None if timeout < 0 else timeout):
                return False
        return True

    def _free(self) -> bool:
        return not self._lock.locked()

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return bool(self._lock.locked())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()


def _lock() -> Any:
    return _real_lock() if current() is None else VirtualLock()


def _rlock() -> Any:
    if current() is None:
        return _real_rlock()
    lock = threading._PyRLock()  # type: ignore[attr-defined]
    lock._block = VirtualLock()
    return lock


def _simple_queue() -> Any:
    return _real_simple_queue() if current() is None else queue._PySimpleQueue()  # type: ignore[attr-defined]


def _condition_wait(real: Any) -> Any:
    def wait(self: Any, timeout: float | None = None) -> bool:
        governor = current()
        if governor is None:
            return bool(real(self, timeout))
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter = _allocate()
        waiter.acquire()
        self._waiters.append(waiter)
        state = self._release_save()
        told = False
        try:
            told = governor.wait(lambda: not waiter.locked() and _is_free(self._lock), timeout)
            return told
        finally:
            self._acquire_restore(state)
            if not told and waiter in self._waiters:
                self._waiters.remove(waiter)

    return wait


def _is_free(lock: Any) -> bool:
    """Whether nobody has a lock, as somebody asks who is not about to take it."""
    owned = getattr(lock, "_is_owned", None)
    if owned is not None and owned():
        return False
    if not lock.acquire(False):
        return False
    lock.release()
    return True


def _thread_start(real: Any) -> Any:
    def start(self: threading.Thread) -> None:
        governor = current()
        if governor is None or self.ident is not None:
            real(self)
            return
        member = governor.adopt(self.name)
        self._hobbyhorse_member = member  # type: ignore[attr-defined]
        self.run = partial(governor.live, member, self.run)  # type: ignore[method-assign]
        try:
            with governor.busy():
                real(self)
        except BaseException:
            governor.disown(member)
            raise

    return start


def _thread_join(real: Any) -> Any:
    def join(self: threading.Thread, timeout: float | None = None) -> None:
        governor = current()
        if governor is None or self.ident is None or self is threading.current_thread():
            real(self, timeout)
            return
        member = getattr(self, "_hobbyhorse_member", None)
        ended = governor.wait(lambda: member.left if member else not self.is_alive(), timeout)
        with governor.busy():
            real(self, None if ended else 0)

    return join


# ---- sockets


def _is_ready(file: Any, events: int) -> bool:
    number = file if isinstance(file, int) else file.fileno()
    if number < 0:
        return True
    asked = _real_poll()
    asked.register(number, events)
    return bool(asked.poll(0))


def _await_socket(governor: Scheduler, sock: Any, events: int) -> None:
    """Wait until a socket is ready, as long as its timeout says; of one that never waits, nothing is to be awaited."""
    timeout = sock.gettimeout()
    if timeout == 0 or (events == select.POLLOUT and _is_ready(sock, events)):
        return
    if not governor.wait(partial(_is_ready, sock, events), timeout, outer=True, alone=True):
        raise TimeoutError("timed out")


def _said(governor: Scheduler, sock: Any) -> None:
    """Note that a socket is about to send; between two ends on one machine that are no network's, it is there at once.

    Of those, the system counts what the other end has not read, such as an event loop that has yet to wake up.
    """
    if sock.family in NETWORKS:
        governor.touch(sent=sock)
    else:
        governor.touch(spoke=True)


def _reading(name: str) -> Callable[..., Any]:
    real = getattr(_Socket, name)

    def read(self: Any, *args: Any, **named: Any) -> Any:
        governor = current()
        if governor is None:
            return real(self, *args, **named)
        _await_socket(governor, self, select.POLLIN)
        came = real(self, *args, **named)
        governor.received(came if isinstance(came, int) else len(came))
        return came

    return read


def _writing(name: str) -> Callable[..., Any]:
    real = getattr(_Socket, name)

    def write(self: Any, *args: Any, **named: Any) -> Any:
        governor = current()
        if governor is not None:
            _said(governor, self)
            _await_socket(governor, self, select.POLLOUT)
        return real(self, *args, **named)

    return write


def _sendall(self: Any, data: Any, flags: int = 0) -> None:
    governor = current()
    if governor is not None:
        _said(governor, self)
    if governor is None or self.gettimeout() == 0:
        _Socket.sendall(self, data, flags)
        return
    left = memoryview(data).cast("B")
    while left:
        _await_socket(governor, self, select.POLLOUT)
        left = left[_Socket.send(self, left, flags | socket.MSG_DONTWAIT) :]


def _connect(self: Any, address: Any) -> None:
    governor = current()
    if governor is None:
        _Socket.connect(self, address)
        return
    try:
        governor.touch(spoke=True)
        code = _connected(governor, self, address)
    except RunOver:  # which those who make a socket are not prepared for
        self.close()
        raise
    if code:
        raise OSError(code, os.strerror(code))


def _connected(governor: Scheduler, sock: Any, address: Any) -> int:
    """Connect a socket, as long as its timeout says; return the number of the error."""
    timeout = sock.gettimeout()
    if timeout == 0:
        _Socket.connect(sock, address)
        return 0
    _Socket.settimeout(sock, 0)
    try:
        code = _Socket.connect_ex(sock, address)
    finally:
        _Socket.settimeout(sock, timeout)
    if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
        _await_socket(governor, sock, select.POLLOUT)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return int(code)


def _noting(real: Any) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **named: Any) -> Any:
        governor = current()
        if governor is not None and not governor.over:
            governor.touch(spoke=True)
        return real(self, *args, **named)

    return call


# ---- waiting for several


class VirtualPoll:
    """What `select.poll()` returns, waiting in virtual time."""

    def __init__(self) -> None:
        self._poll = _real_poll()
        self.register, self.unregister, self.modify = self._poll.register, self._poll.unregister, self._poll.modify

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Return what is ready, after so many milliseconds at the latest."""
        if (governor := current()) is None:
            return self._poll.poll(timeout)
        seconds = None if timeout is None or timeout < 0 else timeout / 1_000
        return _several(governor, lambda: self._poll.poll(0), seconds)


def _poll() -> Any:
    return _real_poll() if current() is None else VirtualPoll()


def _select(readers: Any, writers: Any, others: Any, timeout: float | None = None) -> Any:
    def look() -> list[Any]:
        found = _real_select(readers, writers, others, 0)
        return [found] if any(found) else []

    if (governor := current()) is None:
        return _real_select(readers, writers, others, timeout)
    found = _several(governor, look, timeout)
    return found[0] if found else ([], [], [])


def _selector_select(real: Any) -> Any:
    def wait(self: Any, timeout: float | None = None) -> Any:
        if (governor := current()) is None:
            return real(self, timeout)
        found = _several(governor, lambda: real(self, 0), None if timeout is None else max(timeout, 0))
        place = {number: at for at, number in enumerate(self._fd_to_key)}
        return sorted(found, key=lambda one: place.get(one[0].fd, math.inf))

    return wait


def _several(governor: Scheduler, look: Callable[[], list[Any]], timeout: float | None) -> list[Any]:
    """Wait until a look at several files finds any; return what it found."""
    if timeout == 0:
        governor.look(lambda: bool(look()))
        return look()
    found: list[Any] = []

    def ready() -> bool:
        found[:] = look()
        return bool(found)

    governor.wait(ready, timeout, outer=True)
    return found


# ---- all of them


def _patches() -> Iterator[tuple[Any, str, Any]]:
    for name, shown in CLOCKS.items():
        yield time, name, _clock(getattr(time, name), shown)
    yield time, "sleep", _sleep
    yield threading, "Lock", _lock
    yield threading, "RLock", _rlock
    yield queue, "SimpleQueue", _simple_queue
    yield threading.Condition, "wait", _condition_wait(threading.Condition.wait)
    yield threading.Thread, "start", _thread_start(threading.Thread.start)
    yield threading.Thread, "join", _thread_join(threading.Thread.join)
    for name in ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "_accept"):
        yield socket.socket, name, _reading(name)
    for name in ("send", "sendto", "sendmsg"):
        yield socket.socket, name, _writing(name)
    yield socket.socket, "sendall", _sendall
    yield socket.socket, "connect", _connect
    yield socket.socket, "connect_ex", _noting(_Socket.connect_ex)
    yield socket.socket, "shutdown", _noting(_Socket.shutdown)
    yield socket.socket, "_real_close", _noting(socket.socket._real_close)  # type: ignore[attr-defined]
    yield select, "poll", _poll
    yield select, "select", _select
    kinds = (selectors.SelectSelector, getattr(selectors, "_PollLikeSelector", None))
    for kind in (*kinds, getattr(selectors, "EpollSelector", None), getattr(selectors, "KqueueSelector", None)):
        if kind is not None and "select" in vars(kind):
            yield kind, "select", _selector_select(vars(kind)["select"])


_PATCHES = tuple(_patches())
_REBOUND = {id(getattr(time, name)): (getattr(time, name), new) for owner, name, new in _PATCHES if owner is time}
_LOCKS = {"Lock": (_real_lock, _lock), "RLock": (_real_rlock, _rlock)}
_MISSING = object()
_guard = _allocate()
_users = 0
_saved: list[tuple[Any, str, Any]] = []
_rebound: set[str] = set()
_LEFT = frozenset({__name__, "time", "_thread", "hobbyhorse.runners.scheduler"})
"""The modules whose own names stay what they are."""


class _NoRunOver(logging.Filter):
    """What the end of a run makes executors say is no news."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged."""
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, RunOver)


_quiet = _NoRunOver()
_PYTHON = os.path.dirname(os.__file__) + os.sep


@contextmanager
def patched() -> Iterator[None]:
    """Have the threads of a governor live in virtual time as long as the context lasts, or any other does."""
    global _users
    with _guard:
        _users += 1
        if _users == 1:
            _install()
        _rebind()
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            if _users == 0:
                _restore()


def _install() -> None:
    logging.getLogger("concurrent.futures").addFilter(_quiet)
    for owner, name, new in _PATCHES:
        _saved.append((owner, name, vars(owner).get(name, _MISSING)))
        setattr(owner, name, new)


def _restore() -> None:
    logging.getLogger("concurrent.futures").removeFilter(_quiet)
    while _saved:
        owner, name, old = _saved.pop()
        if old is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, old)


def _rebind() -> None:
    """Have modules that imported a function by its name use the one that knows virtual time, for good."""
    for name, module in list(sys.modules.items()):
        if name in _rebound or name in _LEFT or module is None:
            continue
        _rebound.add(name)
        names, own = vars(module), _is_a_clients(name, getattr(module, "__file__", None))
        for bound, value in list(names.items()):
            if own and (value is _Datetime or value is datetime):
                names[bound] = VirtualDatetime if value is _Datetime else _datetime_module
            old, new = _REBOUND.get(id(value)) or _LOCKS.get(bound) or (None, None)
            if new is not None and value is old and (module is not threading or bound not in _LOCKS):
                names[bound] = new


def _is_a_clients(name: str, file: str | None) -> bool:
    """Whether a module is neither Python's, nor installed, nor ours."""
    if file is None or name.partition(".")[0] == "hobbyhorse":
        return False
    return "site-packages" not in file and not file.startswith(_PYTHON)
