"""Replace Python's waits and clocks by virtual ones in scheduled threads. No server.

Each patched function calls `current()` first. In a thread without a scheduler, it calls the real function, so that the
server, the test runner and later code in the same process use real time. In a scheduled thread:

    time.time, monotonic, perf_counter (and *_ns)    the shared virtual clock
    time.localtime, gmtime, ctime, asctime, strftime    without an argument, the virtual time
    time.sleep                                       a wait with a deadline and no condition
    Lock, RLock                                      a `VirtualLock`: try, then wait until it is free. Semaphore, Event,
                                                     Barrier, Queue and Future use these locks and Condition
    Condition.wait                                   a wait for the waiter's own lock and the condition's lock
    SimpleQueue                                      Python's own implementation, which uses locks, not the C type
    Thread.start, Thread.join                        register a thread; wait until it has left
    socket.recv*, accept, send*, connect             wait until the socket is ready, then call the real function, which
                                                     no longer blocks
    select, poll, selectors                          call the real function with timeout 0, and wait until one is ready
    asyncio                                          no patch: its loops wait in a selector and read `time.monotonic`
    datetime.now, utcnow, today, date.today          a `VirtualDatetime` or `VirtualDate`, in the client's own modules
    os._exit, abort, exec*, kill (of itself)         end the run, not the process
    fork, subprocess                                 recorded: while the new process works, virtual time stands still

Not virtual: TLS sockets, `os.read`, subprocesses, locks made before the run, event loops not written in Python
(uvloop), and `datetime` in installed packages (a C type cannot be patched, so `datetime` is replaced in each client
module). A thread that waits in one of these is detached (see `scheduler`): the run is slower and no longer
reproducible, but does not deadlock.

Invariants:

1. No scheduled thread blocks in a real call. Otherwise it would keep the turn, and time would stop for all threads.
2. Each call that may give the server work checks in first, and each read reports its size. Otherwise, time could move
   while the server has a response to send.
3. Functions that modules have imported by name, or hold as a default or an attribute, are rebound permanently to the
   patched ones (`_rebind`), because several runs may use a module concurrently. `patched` restores the attributes of
   the standard modules after the last run.
"""

from __future__ import annotations

import datetime
import errno
import logging
import math
import multiprocessing.connection
import multiprocessing.util
import os
import queue
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from hobbyhorse.runners.scheduler import RunOver, Scheduler, current
from hobbyhorse.runners.waiting_places import is_client_file

_real_lock, _real_rlock = threading.Lock, threading.RLock
_allocate = threading._allocate_lock  # type: ignore[attr-defined]
_real_poll, _real_select, _real_simple_queue = select.poll, select.select, queue.SimpleQueue
_Socket: Any = socket.socket.__mro__[1]  # `_socket.socket`, in C: its methods are not patched
# The value of a client's monotonic clocks when its run begins. It is the same in each run, so that printed times are
# comparable, and not 0, because 0 is false and clients use it for "not yet".
MONOTONIC_BASE = 1_000.0
# Signals whose default action does not end a process; 0 is no signal.
HARMLESS_SIGNALS = frozenset({0, *(getattr(signal, name, 0) for name in ("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"))})
# Less than the smallest unit of virtual time.
INSTANT_SECONDS = 1e-7
# Socket families with a network stack, in which sent bytes arrive, and are acknowledged, later.
NETWORKS = frozenset({socket.AF_INET, socket.AF_INET6})


# ---- clocks


def _clock(real: Callable[[], Any], virtual: Callable[[Any], Any]) -> Callable[[], Any]:
    def read() -> Any:
        scheduler = current()
        return real() if scheduler is None else virtual(scheduler)

    return read


def _monotonic_ns(scheduler: Any) -> int:
    # Computed from whole microseconds (the ticks of virtual time), because a float of nanoseconds is not exact.
    return int(round((MONOTONIC_BASE + scheduler.elapsed()) * 1e6) * 1_000)


def _calendar(real: Callable[..., Any], values: int) -> Callable[..., Any]:
    """Wrap a function that takes `values` arguments, and reads the clock instead of the last one if it is absent."""

    def convert(*args: Any) -> Any:
        scheduler = current()
        if scheduler is None or len(args) >= values or (len(args) and args[-1] is None):
            return real(*args)
        moment = scheduler.moment()
        # `ctime`, `gmtime` and `localtime` take seconds; `asctime` and `strftime` take a broken-down time.
        return real(*args, moment if real.__name__ in SECONDS_TO_TIME else _real_localtime(moment))

    return convert


def _sleep(seconds: float, real: Callable[[float], None] = time.sleep) -> None:
    scheduler = current()
    if scheduler is None:
        real(seconds)
        return
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    # sleep(0) lets other threads run, and is ready again immediately.
    scheduler.wait(_yes if seconds == 0 else None, seconds)


def _yes() -> bool:
    return True


CLOCKS: dict[str, Callable[[Any], Any]] = {
    "time": lambda scheduler: scheduler.moment(),
    "time_ns": lambda scheduler: round(scheduler.moment() * 1e6) * 1_000,
    "monotonic": lambda scheduler: MONOTONIC_BASE + scheduler.elapsed(),
    "monotonic_ns": _monotonic_ns,
    "perf_counter": lambda scheduler: MONOTONIC_BASE + scheduler.elapsed(),
    "perf_counter_ns": _monotonic_ns,
}


# The functions that convert the current time without an argument, and the number of their arguments.
CALENDAR = {"localtime": 1, "gmtime": 1, "ctime": 1, "asctime": 1, "strftime": 2}
SECONDS_TO_TIME = frozenset({"localtime", "gmtime", "ctime"})
_real_localtime = time.localtime
_Datetime = datetime.datetime
_Date = datetime.date


class _Datetimes(type(_Datetime)):  # type: ignore[misc]
    # Real datetimes are instances of the virtual class too, so a client's `isinstance(x, datetime)` remains true.
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _Datetime)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, _Datetime)


class VirtualDatetime(_Datetime, metaclass=_Datetimes):
    """The `datetime` of a client's modules. It creates real datetimes."""

    def __new__(cls, *args: Any, **named: Any) -> Any:
        """Create a real datetime."""
        return _Datetime(*args, **named)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        """Return the current virtual time in a scheduled thread, else the real time."""
        scheduler = current()
        return _Datetime.now(tz) if scheduler is None else _Datetime.fromtimestamp(scheduler.moment(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        """Return the current time in UTC, without a time zone."""
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

    today = now


class _Dates(type(_Date)):  # type: ignore[misc]
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _Date)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, _Date)


class VirtualDate(_Date, metaclass=_Dates):
    """The `date` of a client's modules. It creates real dates."""

    def __new__(cls, *args: Any, **named: Any) -> Any:
        """Create a real date."""
        return _Date(*args, **named)

    @classmethod
    def today(cls) -> Any:
        """Return the current virtual day in a scheduled thread, else the real one."""
        scheduler = current()
        return _Date.today() if scheduler is None else _Date.fromtimestamp(scheduler.moment())


_datetime_module = types.ModuleType("datetime")
vars(_datetime_module).update({**vars(datetime), "datetime": VirtualDatetime, "date": VirtualDate})


# ---- locks and threads


class VirtualLock:
    """A lock whose waiters wait in virtual time."""

    def __init__(self) -> None:
        self._lock = _allocate()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock; return False if it cannot be acquired within `timeout` seconds."""
        scheduler = current()
        if scheduler is None:
            return bool(self._lock.acquire(blocking, timeout))
        # A loop, because a thread in real time may take the free lock first.
        while not self._lock.acquire(False):
            if not blocking or not scheduler.wait(self._free, None if timeout < 0 else timeout):
                return False
        return True

    def _free(self) -> bool:
        return not self._lock.locked()

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def locked(self) -> bool:
        """Whether the lock is held."""
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
        scheduler = current()
        if scheduler is None:
            return bool(real(self, timeout))
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter = _allocate()
        waiter.acquire()
        self._waiters.append(waiter)
        state = self._release_save()
        notified = False
        try:
            # Wait for both: a thread notified while the notifier holds the lock would get a turn only to wait again.
            notified = scheduler.wait(lambda: not waiter.locked() and _is_free(self._lock), timeout)
            return notified
        finally:
            self._acquire_restore(state)
            if not notified and waiter in self._waiters:
                self._waiters.remove(waiter)

    return wait


def _is_free(lock: Any) -> bool:
    """Whether a lock is free. Does not keep the lock."""
    # Predicates run in the choosing thread. If that thread owned a reentrant lock, `acquire` below would succeed.
    owned = getattr(lock, "_is_owned", None)
    if owned is not None and owned():
        return False
    if not lock.acquire(False):
        return False
    lock.release()
    return True


def _thread_start(real: Any) -> Any:
    def start(self: threading.Thread) -> None:
        scheduler = current()
        if scheduler is None or self.ident is not None:
            real(self)
            return
        thread = scheduler.register(self.name)
        self._hobbyhorse_thread = thread  # type: ignore[attr-defined]
        self.run = partial(scheduler.run_thread, thread, self.run)  # type: ignore[method-assign]
        try:
            # `start` waits in real time until the new thread runs; only then does the new thread wait for its turn.
            with scheduler.keep_turn():
                real(self)
        except BaseException:
            scheduler.unregister(thread)
            raise

    return start


def _thread_join(real: Any) -> Any:
    def join(self: threading.Thread, timeout: float | None = None) -> None:
        scheduler = current()
        if scheduler is None or self.ident is None or self is threading.current_thread():
            real(self, timeout)
            return
        thread = getattr(self, "_hobbyhorse_thread", None)
        ended = scheduler.wait(lambda: thread.left if thread else not self.is_alive(), timeout)
        # A thread leaves the scheduler shortly before it ends, but `is_alive` must be False after a join.
        with scheduler.keep_turn():
            real(self, None if ended else 0)

    return join


# ---- sockets


def _is_ready(file: Any, events: int) -> bool:
    number = file if isinstance(file, int) else file.fileno()
    if number < 0:
        return True  # closed: the real call raises the error
    poll = _real_poll()
    poll.register(number, events)
    return bool(poll.poll(0))


def _await_socket(scheduler: Scheduler, sock: Any, events: int) -> None:
    """Wait until a socket is ready, at most for its own timeout (none if non-blocking). Raises TimeoutError."""
    timeout = sock.gettimeout()
    # Sockets are usually writable, and a wait would cost a settling of the server.
    if timeout == 0 or (events == select.POLLOUT and _is_ready(sock, events)):
        return
    if not scheduler.wait(partial(_is_ready, sock, events), timeout, remote=True, sole=True):
        raise TimeoutError("timed out")


def _before_send(scheduler: Scheduler, sock: Any) -> None:
    """Check in before a socket sends.

    Delivery is awaited only on a network. A socket pair delivers immediately, and its queue contains bytes that the
    other end has not read yet, such as an event loop's wake-up, which the loop reads only when it has its turn.
    """
    if sock.family in NETWORKS:
        scheduler.check_in(sent=sock)
    else:
        scheduler.check_in(unsettles=True)


def _reading(name: str) -> Callable[..., Any]:
    real = getattr(_Socket, name)

    def read(self: Any, *args: Any, **named: Any) -> Any:
        scheduler = current()
        if scheduler is None:
            return real(self, *args, **named)
        _await_socket(scheduler, self, select.POLLIN)
        found = real(self, *args, **named)
        # `recv_into` returns a size, `recv` returns bytes. The others return a tuple, whose length is negligible.
        scheduler.received(found if isinstance(found, int) else len(found))
        return found

    return read


def _writing(name: str) -> Callable[..., Any]:
    real = getattr(_Socket, name)

    def write(self: Any, *args: Any, **named: Any) -> Any:
        scheduler = current()
        if scheduler is not None:
            _before_send(scheduler, self)
            _await_socket(scheduler, self, select.POLLOUT)
        return real(self, *args, **named)

    return write


def _sendall(self: Any, data: Any, flags: int = 0) -> None:
    scheduler = current()
    if scheduler is not None:
        _before_send(scheduler, self)
    if scheduler is None or self.gettimeout() == 0:
        _Socket.sendall(self, data, flags)
        return
    # The real `sendall` waits in C between pieces. MSG_DONTWAIT, because a writable socket may have room for only one
    # byte.
    left = memoryview(data).cast("B")
    while left:
        _await_socket(scheduler, self, select.POLLOUT)
        left = left[_Socket.send(self, left, flags | socket.MSG_DONTWAIT) :]


def _connect(self: Any, address: Any) -> None:
    scheduler = current()
    if scheduler is None:
        _Socket.connect(self, address)
        return
    try:
        scheduler.check_in(unsettles=True)
        code = _connected(scheduler, self, address)
    except RunOver:  # `socket.create_connection` closes its socket only after an OSError
        self.close()
        raise
    if code:
        raise OSError(code, os.strerror(code))


def _connected(scheduler: Scheduler, sock: Any, address: Any) -> int:
    """Connect a socket within its own timeout; return the error number, or 0 for success."""
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
        _await_socket(scheduler, sock, select.POLLOUT)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return int(code)


def _checking_in(real: Any) -> Callable[..., Any]:
    """Wrap a socket function so that it checks in first. After the run, it works without, to close sockets."""

    def call(self: Any, *args: Any, **named: Any) -> Any:
        scheduler = current()
        if scheduler is not None and not scheduler.over:
            scheduler.check_in(unsettles=True)
        return real(self, *args, **named)

    return call


# ---- several files


class VirtualPoll:
    """An object like that of `select.poll()` that waits in virtual time."""

    def __init__(self) -> None:
        self._poll = _real_poll()
        self.register, self.unregister, self.modify = self._poll.register, self._poll.unregister, self._poll.modify

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Return the ready files and their events, waiting at most `timeout` milliseconds."""
        if (scheduler := current()) is None:
            return self._poll.poll(timeout)
        seconds = None if timeout is None or timeout < 0 else timeout / 1_000
        return _await_any(scheduler, lambda: self._poll.poll(0), seconds)


def _poll() -> Any:
    return _real_poll() if current() is None else VirtualPoll()


def _select(readers: Any, writers: Any, others: Any, timeout: float | None = None) -> Any:
    def find() -> list[Any]:
        found = _real_select(readers, writers, others, 0)
        return [found] if any(found) else []

    if (scheduler := current()) is None:
        return _real_select(readers, writers, others, timeout)
    found = _await_any(scheduler, find, timeout)
    return found[0] if found else ([], [], [])


def _selector_select(real: Any) -> Any:
    def wait(self: Any, timeout: float | None = None) -> Any:
        if (scheduler := current()) is None:
            return real(self, timeout)
        found = _await_any(scheduler, lambda: real(self, 0), None if timeout is None else max(timeout, 0))
        # Sorted in order of registration, because epoll's own order is that of arrival, which differs between runs.
        place = {number: at for at, number in enumerate(self._fd_to_key)}
        return sorted(found, key=lambda one: place.get(one[0].fd, math.inf))

    return wait


def _connection_wait(real: Callable[..., Any]) -> Callable[..., Any]:
    def wait(object_list: Any, timeout: float | None = None) -> Any:
        # The real function polls until its deadline has passed, not only been reached, which needs time to move.
        return real(object_list, timeout if timeout is None or current() is None else timeout - INSTANT_SECONDS)

    return wait


def _await_any(scheduler: Scheduler, find: Callable[[], list[Any]], timeout: float | None) -> list[Any]:
    """Return the ready files that `find()` returns, waiting until there are any."""
    if timeout == 0:
        scheduler.settle_before_poll(lambda: bool(find()))
        # A loop that polls until a deadline has passed may reach the deadline exactly. Then only time can end it.
        if not (ready_files := find()):
            scheduler.polled_in_vain()
        return ready_files
    found: list[Any] = []

    def ready() -> bool:
        found[:] = find()
        return bool(found)

    scheduler.wait(ready, timeout, remote=True)
    return found


# ---- processes


def _forking(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function that returns a new process's id, also as the first of several values."""

    def fork(*args: Any, **named: Any) -> Any:
        found = real(*args, **named)
        scheduler = current()  # None in the new process
        if scheduler is not None:
            scheduler.started_process(found[0] if isinstance(found, tuple) else found)
        return found

    return fork


def _executing(real: Callable[..., Any]) -> Callable[..., Any]:
    def execute(self: Any, *args: Any, **named: Any) -> None:
        real(self, *args, **named)
        if (scheduler := current()) is not None:
            scheduler.started_process(self.pid)

    return execute


def _ending(real: Callable[..., Any], status: int | None = None) -> Callable[..., Any]:
    """Wrap a function that ends the process: in a scheduled thread, it ends only the run."""

    def end(*args: Any) -> Any:
        scheduler = current()
        if scheduler is None:
            return real(*args)
        how = f"signal {int(signal.SIGABRT)}" if status is None else f"exit status {args[0] if args else status}"
        return _end(scheduler, f"the client ended its own process ({how})")

    return end


def _replacing(real: Callable[..., Any]) -> Callable[..., Any]:
    def execute(*args: Any) -> Any:
        scheduler = current()
        return real(*args) if scheduler is None else _end(scheduler, "the client replaced its own process by a program")

    return execute


def _signalling(real: Callable[..., Any], targets: Callable[[], Iterable[int]]) -> Callable[..., Any]:
    """Wrap a function that sends a signal to a process or group. A signal that ends this process ends only the run."""

    def send(target: int, number: int) -> Any:
        scheduler = current()
        if scheduler is None or target not in targets() or not _is_fatal(number):
            return real(target, number)
        whose = "the process that started it" if target == os.getppid() else "its own process"
        return _end(scheduler, f"the client ended {whose} (signal {int(number)})")

    return send


def _raise_signal(number: int, real: Callable[[int], None] = signal.raise_signal) -> Any:
    return _signalling(lambda _, number: real(number), lambda: (0,))(0, number)


def _is_fatal(number: int) -> bool:
    """Whether a signal ends this process."""
    if number in HARMLESS_SIGNALS:
        return False
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, None)


def _end(scheduler: Scheduler, reason: str) -> Any:
    scheduler.end(reason)
    raise RunOver(reason)


# ---- all patches


def _process_patches() -> Iterator[tuple[Any, str, Any]]:
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp"):
        if hasattr(os, name):
            yield os, name, _forking(getattr(os, name))
    yield subprocess.Popen, "_execute_child", _executing(subprocess.Popen._execute_child)  # type: ignore[attr-defined]
    yield multiprocessing.connection, "wait", _connection_wait(multiprocessing.connection.wait)
    yield multiprocessing.util, "spawnv_passfds", _forking(multiprocessing.util.spawnv_passfds)
    yield os, "_exit", _ending(os._exit, status=0)
    yield os, "abort", _ending(os.abort)
    for name in ("execv", "execve"):
        yield os, name, _replacing(getattr(os, name))
    yield os, "kill", _signalling(os.kill, lambda: (os.getpid(), os.getppid(), 0, -1, -os.getpgrp()))
    if hasattr(os, "killpg"):
        yield os, "killpg", _signalling(os.killpg, lambda: (os.getpgrp(), 0))
    yield signal, "raise_signal", _raise_signal


def _patches() -> Iterator[tuple[Any, str, Any]]:
    for name, virtual in CLOCKS.items():
        yield time, name, _clock(getattr(time, name), virtual)
    for name, values in CALENDAR.items():
        yield time, name, _calendar(getattr(time, name), values)
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
    yield socket.socket, "connect_ex", _checking_in(_Socket.connect_ex)
    yield socket.socket, "shutdown", _checking_in(_Socket.shutdown)
    yield socket.socket, "_real_close", _checking_in(socket.socket._real_close)  # type: ignore[attr-defined]
    yield select, "poll", _poll
    yield select, "select", _select
    yield from _process_patches()
    kinds = (selectors.SelectSelector, getattr(selectors, "_PollLikeSelector", None))
    for kind in (*kinds, getattr(selectors, "EpollSelector", None), getattr(selectors, "KqueueSelector", None)):
        if kind is not None and "select" in vars(kind):
            yield kind, "select", _selector_select(vars(kind)["select"])


_PATCHES = tuple(_patches())
_REBOUND = {id(getattr(time, name)): (getattr(time, name), new) for owner, name, new in _PATCHES if owner is time}
_LOCKS = {"Lock": (_real_lock, _lock), "RLock": (_real_rlock, _rlock)}
# By identity, because a client's value may not be hashable.
_DATES: dict[int, Any] = {id(_Datetime): VirtualDatetime, id(_Date): VirtualDate, id(datetime): _datetime_module}
_MISSING = object()
_guard = _allocate()
_users = 0  # the number of current runs, which share the patches
_saved: list[tuple[Any, str, Any]] = []
_rebound: set[str] = set()
# Modules that need the real functions, and `time` itself, whose attributes are patched.
_EXEMPT = frozenset({__name__, "time", "_thread", "hobbyhorse.runners.scheduler"})


class _NoRunOver(logging.Filter):
    """A log filter that drops the RunOver that executors and event loops log when a run ends."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record."""
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, RunOver)


_quiet = _NoRunOver()
_LOGGERS = ("concurrent.futures", "asyncio")


@contextmanager
def patched() -> Iterator[None]:
    """Patch Python within the context. Overlapping contexts share the patches until the last one ends."""
    global _users
    with _guard:
        _users += 1
        if _users == 1:
            _install()
        # Repeated for each run, because a client may have imported modules since the last run.
        _rebind()
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            if _users == 0:
                _restore()


def _install() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_quiet)
    for owner, name, new in _PATCHES:
        _saved.append((owner, name, vars(owner).get(name, _MISSING)))
        setattr(owner, name, new)


def _restore() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).removeFilter(_quiet)
    while _saved:
        owner, name, old = _saved.pop()
        if old is _MISSING:
            # `socket.socket` inherits most of these from C; a remaining attribute would shadow the inherited one.
            delattr(owner, name)
        else:
            setattr(owner, name, old)


def _rebind() -> None:
    """Permanently rebind functions that modules imported by name. Without a scheduler, they call the real functions."""
    for name, module in list(sys.modules.items()):
        if name in _rebound or name in _EXEMPT or module is None:
            continue
        _rebound.add(name)
        names, is_client = vars(module), _is_client_module(name, getattr(module, "__file__", None))
        for bound, value in list(names.items()):
            if is_client and id(value) in _DATES:
                names[bound] = _DATES[id(value)]
            # Compared by identity, because a module may use one of these names for its own function.
            old, new = _REBOUND.get(id(value)) or _LOCKS.get(bound) or (None, None)
            if new is not None and value is old and (module is not threading or bound not in _LOCKS):
                names[bound] = new
            elif name.partition(".")[0] != "hobbyhorse":
                _rebind_inside(value, name, is_client)


def _rebind_inside(value: Any, module: str, is_client: bool) -> None:
    """Rebind what a value of a module holds: `def wait(sleep=time.sleep)`, `clock: Clock = time.monotonic`."""
    # The type is asked, not the value: one that is loaded late may fail, or load, when it is asked for anything.
    kind = type(value)
    if kind is types.FunctionType:
        if value.__module__ == module:
            _rebind_function(value)
    elif issubclass(kind, type):
        if vars(value).get("__module__") == module:
            _rebind_class(value)
    elif is_client and kind.__module__ == module:
        with suppress(AttributeError):  # no attributes
            held = object.__getattribute__(value, "__dict__")
            held.update({name: _virtual(one) for name, one in held.items()})


def _rebind_class(value: type) -> None:
    for name, member in list(vars(value).items()):
        inner = member.__func__ if type(member) in (staticmethod, classmethod) else member
        if type(inner) is types.FunctionType:
            _rebind_function(inner)
        elif (new := _virtual(inner)) is not inner:
            setattr(value, name, staticmethod(new))  # a function in C does not become a method, as this one would


def _rebind_function(function: types.FunctionType) -> None:
    if function.__globals__ is globals():  # a patched function: it holds the real one
        return
    if function.__defaults__:
        function.__defaults__ = tuple(map(_virtual, function.__defaults__))
    if function.__kwdefaults__:
        function.__kwdefaults__ = {name: _virtual(one) for name, one in function.__kwdefaults__.items()}
    for cell in function.__closure__ or ():  # the factories of a dataclass are there
        with suppress(ValueError):  # an empty cell
            if (new := _virtual(cell.cell_contents)) is not cell.cell_contents:
                cell.cell_contents = new
    wrapped = function.__dict__.get("__wrapped__")  # by a decorator
    if type(wrapped) is types.FunctionType:
        _rebind_function(wrapped)


def _virtual(value: Any) -> Any:
    """Return the patched function for a real one, and any other value as it is."""
    old, new = _REBOUND.get(id(value), (None, None))
    return new if new is not None and value is old else value


def _is_client_module(name: str, file: str | None) -> bool:
    return file is not None and name.partition(".")[0] != "hobbyhorse" and is_client_file(file)
