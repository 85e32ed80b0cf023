"""Runs a client that is a command in any language, and says how it ended; knows no server and no contract.

Whatever the command does, it is over at its limit (seconds of real time), and so is all that it started: its process
group, its session, and where /proc is, whatever carries the run's mark in its environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import selectors
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from hobbyhorse.traces.trace import KEY, OUTCOMES, REDACTED, Outcome

KEPT_OUTPUT_BYTES = 65_536
"""Bytes of each stream that are kept, its last ones; the rest is read and forgotten."""
RUN_VARIABLE = "HOBBYHORSE_RUN"
TELLABLE = tuple(kind for kind in OUTCOMES if kind != "unfinished")
"""What a command may say of itself in the last line of its output, as `class`."""

_CHUNK = 65_536
_MARGIN = 1_024
"""Bytes before those that are kept, so that no half of a secret is the first of them."""
_FLOOD = 4 << 20
"""A stream of more bytes is read with pauses, so that the command waits, not its neighbours."""
_LARGEST = 1 << 30
"""Bytes of a saved video that are looked at."""
_TICK = 0.02
_STUBBORN = 5.0
"""Seconds that a killed process may take to be gone: one that is stuck in the kernel is left to it."""
_PATIENCE = re.compile(r"tim(?:ed|e)[ -]?out|deadline|gave up waiting|giving up waiting|still running", re.IGNORECASE)
_LAST_WORDS = 2_000


class CommandError(Exception):
    """A command that cannot be started, and why."""


@dataclass(frozen=True, slots=True)
class ClientTask:
    """What a client is asked to do; `speed` is how many times faster than real time the server's clock runs."""

    base_url: str
    api_key: str
    request: Mapping[str, Any]
    model: str
    callback_url: str | None = None
    callback_secret: str | None = None
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended, the tails of what it printed, and its exit status: minus the signal that ended it.

    The exit status is None for a process that not even SIGKILL could end. Secrets are masked as they are in a trace.
    """

    outcome: Outcome
    stdout: str
    stderr: str
    exit_status: int | None


def environment(task: ClientTask, folder: Path) -> dict[str, str]:
    """Write the request into a folder, and return the variables that tell a command what to do."""
    request = folder / "request.json"
    request.write_text(json.dumps(dict(task.request)))
    variables = {
        "HOBBYHORSE_BASE_URL": task.base_url,
        "HOBBYHORSE_API_KEY": task.api_key,
        "HOBBYHORSE_REQUEST": str(request),
        "HOBBYHORSE_OUTPUT": str(output_of(folder)),
        "HOBBYHORSE_MODEL": task.model,
        "HOBBYHORSE_CALLBACK_URL": task.callback_url,
        "HOBBYHORSE_CALLBACK_SECRET": task.callback_secret,
        "HOBBYHORSE_SPEED": f"{task.speed:.10g}",
    }
    return {name: value for name, value in variables.items() if value is not None}


def output_of(folder: Path) -> Path:
    """Return where a command saves its video."""
    return folder / "video.mp4"


def start(
    argv: Sequence[str],
    task: ClientTask,
    limit: float,
    *,
    now: Callable[[], float],
    folder: Path | None = None,
    grace: float = 1.0,
) -> Running:
    """Start a command; at the limit it gets SIGTERM, after the grace SIGKILL (seconds of real time).

    `now` tells the moment at which it has ended. In `folder` are its request and its video: one that is given is kept,
    for a command that will be resumed; otherwise there is a private one until `close`. Raises CommandError.
    """
    if os.name != "posix":
        raise CommandError("commands are run on Linux and macOS only; on Windows, use WSL")
    place = folder or Path(tempfile.mkdtemp(prefix="hobbyhorse-"))
    try:
        mark, before = secrets.token_hex(16), _processes()
        process = _begin(argv, {**_inherited(), **environment(task, place), RUN_VARIABLE: mark})
    except BaseException:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
        raise
    return Running(
        process,
        _Kin(process.pid, f"{RUN_VARIABLE}={mark}".encode(), before),
        task,
        place,
        folder is None,
        limit,
        grace,
        now,
    )


def _inherited() -> dict[str, str]:
    """Return this process's environment without what belongs to another run; no proxy stands before this machine."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("HOBBYHORSE_")}
    for name in ("no_proxy", "NO_PROXY"):
        here[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))
    return here


def _begin(argv: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    if not argv:
        raise CommandError("there is no command to run; write it behind --")
    try:
        return subprocess.Popen(
            argv,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CommandError(f"{argv[0]!r} cannot be started: {_reason(argv[0], error)}") from None


def _reason(program: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        if shutil.which(program):
            return "the interpreter in its first line is not there"
        where = "there is no such file" if os.sep in program else "no folder of PATH has such a program"
        return f"{where}; a program in this folder is written ./{Path(program).name}"
    if isinstance(error, PermissionError):
        return f"it may not be executed; try chmod +x {program}"
    if isinstance(error, OSError):
        return f"{error.strerror or error}; a script needs a first line like #!/bin/sh"
    return str(error)


class _Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self.kept = bytearray()
        self.seen = 0

    def add(self, chunk: bytes) -> None:
        """Take in what has come."""
        self.kept += chunk
        self.seen += len(chunk)
        if len(self.kept) > 2 * KEPT_OUTPUT_BYTES:
            del self.kept[: -KEPT_OUTPUT_BYTES - _MARGIN]

    def text(self, task: ClientTask) -> str:
        """Return it as text, secrets masked."""
        text = bytes(self.kept[-KEPT_OUTPUT_BYTES - _MARGIN :]).decode(errors="replace")
        for secret, mask in ((task.api_key, KEY), (task.callback_secret, REDACTED)):
            text = text.replace(secret, mask) if secret else text
        return text[-KEPT_OUTPUT_BYTES:]


class Running:
    """A command that runs; a context manager, at whose end nothing of it is left.

    One thread reads what it prints, and ends it at its limit. The process is reaped by `close` only: until then its id,
    which is that of its group, cannot become another's.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        kin: _Kin,
        task: ClientTask,
        folder: Path,
        private: bool,
        limit: float,
        grace: float,
        now: Callable[[], float],
    ) -> None:
        self._process, self._task, self._folder, self._private = process, task, folder, private
        self._kin = kin
        self._limit, self._grace, self._now = limit, grace, now
        self._cut: str | None = None
        self._killed = False
        self._tails = (_Tail(), _Tail())
        self._selector = selectors.PollSelector()
        self._pidfd: int | None = None
        self._finished: Finished | None = None
        self._over, self._closing, self._closed = threading.Event(), False, False
        self._listen()
        self._thread = threading.Thread(target=self._watch, name=f"command {process.pid}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Where the request and the video are."""
        return self._folder

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return self._over.is_set()

    def wait(self) -> Finished:
        """Wait until the command has ended, which is soon after its limit at the latest."""
        self._over.wait()
        if self._finished is None:
            raise CommandError(f"nothing could be learned of process {self.pid}: the thread that watched it has failed")
        return self._finished

    def kill(self) -> None:
        """End the command and all that it started, at once."""
        self._killed = True
        self._signal(signal.SIGKILL)
        self._kill_escaped()

    def leftovers(self) -> bool:
        """Whether something that the command started is alive, although its main process has ended."""
        if not self._over.is_set() or self._closed:
            return False
        if os.path.isdir("/proc/self"):
            return any(True for _ in self._kin.alive())
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """End what is left of the command, and remove its private folder."""
        if self._closed:
            return
        self.kill()
        self._over.wait(_STUBBORN)
        self._closing = True
        self._thread.join(_STUBBORN)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STUBBORN)
        self._closed = True
        if self._private:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _kill_escaped(self) -> None:
        """Kill what is no longer in the group; again, for what has forked meanwhile."""
        for _ in range(10):
            found = list(self._kin.alive())
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not found:
                return

    def _listen(self) -> None:
        for stream, tail in zip((self._process.stdout, self._process.stderr), self._tails, strict=True):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, tail)
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._pidfd = os.pidfd_open(self.pid)
                self._selector.register(self._pidfd, selectors.EVENT_READ)

    def _watch(self) -> None:
        try:
            self._follow()
            ended = self._now()
            if self._pidfd is not None:
                self._selector.unregister(self._pidfd)
            self._drain()
            if self._cut:
                self._kill_escaped()
            self._finished = self._finish(ended, _exit_status(self._process))
            self._over.set()
            while not self._closing and self._selector.get_map():
                self._read(_TICK)
        finally:
            self._over.set()
            self._release()

    def _follow(self) -> None:
        """Read until the process has ended; at its limit it is asked to, then made to."""
        if self._read_until(self._limit):
            return
        self._cut = f"it had not ended at its limit of {self._limit:g} s"
        self._signal(signal.SIGTERM)
        if not self._read_until(self._grace):
            self._signal(signal.SIGKILL)
            self._read_until(_STUBBORN)

    def _read_until(self, seconds: float) -> bool:
        """Read until the process has ended, or some time is over; tell whether it has ended."""
        moment = time.monotonic() + seconds
        while _exit_status(self._process) is None:
            left = moment - time.monotonic()
            if left <= 0:
                return False
            self._read(left if self._pidfd is not None else min(left, _TICK))
        return True

    def _read(self, seconds: float) -> None:
        """Wait so long for something to read, and read it once."""
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                self._take(key)

    def _take(self, key: selectors.SelectorKey) -> bool:
        """Read one chunk of a stream; tell whether there may be another."""
        try:
            chunk = os.read(key.fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self._selector.unregister(key.fileobj)
            return False
        key.data.add(chunk)
        if key.data.seen > _FLOOD:
            time.sleep(0.001)
        return True

    def _drain(self) -> None:
        """Read what the process had printed when it ended; others may hold its pipes, and never stop."""
        for key in list(self._selector.get_map().values()):
            before = key.data.seen
            while key.data.seen - before < 1 << 20 and self._take(key):
                pass

    def _finish(self, ended: float, exit_status: int | None) -> Finished:
        cut = "it was killed" if self._killed and exit_status == -signal.SIGKILL else self._cut
        stdout, stderr = (tail.text(self._task) for tail in self._tails)
        outcome = _outcome(exit_status, cut, stdout, stderr, _video(output_of(self._folder)), ended)
        return Finished(outcome, stdout, stderr, exit_status)

    def _release(self) -> None:
        self._selector.close()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        if self._pidfd is not None:
            os.close(self._pidfd)


def _exit_status(process: subprocess.Popen[bytes]) -> int | None:
    """Return how a process has ended, or None; where the system can tell without reaping it, it stays."""
    if not hasattr(os, "waitid"):
        return process.poll()
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _processes() -> frozenset[str]:
    """Return the ids of all processes; nothing without /proc."""
    with suppress(OSError):
        return frozenset(name for name in os.listdir("/proc") if name.isdigit())
    return frozenset()


@dataclass(frozen=True, slots=True)
class _Kin:
    """How the processes of a run are known: their session, or the mark in their environment; none was there before."""

    session: int
    mark: bytes
    before: frozenset[str]

    def alive(self) -> Iterator[int]:
        """Yield the ids of those that are alive, as far as /proc tells."""
        for name in _processes():
            with suppress(OSError, IndexError):
                if self._is(name):
                    yield int(name)

    def _is(self, name: str) -> bool:
        if os.getsid(int(name)) == self.session:
            with open(f"/proc/{name}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
        if name in self.before:
            return False
        with open(f"/proc/{name}/environ", "rb") as file:
            return self.mark in file.read(1 << 20)


@dataclass(frozen=True, slots=True)
class _Video:
    sha256: str
    size: int


def _video(path: Path) -> _Video | None:
    """Return what a command has saved; nothing but a file that is not empty counts."""
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return _digested(file)
        finally:
            os.close(file)
    return None


def _digested(file: int) -> _Video | None:
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode) or not about.st_size:
        return None
    digest, left = hashlib.sha256(), min(about.st_size, _LARGEST)
    while left > 0 and (chunk := os.read(file, min(left, 1 << 20))):
        digest.update(chunk)
        left -= len(chunk)
    return _Video(digest.hexdigest(), about.st_size)


def _outcome(
    exit_status: int | None, cut: str | None, stdout: str, stderr: str, video: _Video | None, ended: float
) -> Outcome:
    """Read how a command ended: what it was made to do counts first, then what it says, then its exit status."""
    said, complaint = _said(stdout)
    kind = "unfinished" if cut else said.get("class") or _inferred(exit_status, stdout, stderr)
    success = kind == "success"
    told = bool(said) and not cut
    notes = [cut, complaint]
    if told and success is not (exit_status == 0):
        notes.append(f"it says {kind}, and its exit status is {exit_status}")
    elif exit_status and not cut:
        notes.append(_signalled(exit_status))
    if not success:
        notes.append(_last_line(stderr) or (None if said else _last_line(stdout)))
    digest = video.sha256 if video else said.get("sha256")
    return Outcome(
        kind=kind,
        ended=ended,
        told=told,
        job=said.get("job"),
        id_exposed=said.get("id_exposed"),
        sha256=digest if success else None,
        size=video.size if success and video else None,
        by_reference=success and video is None and bool(said.get("by_reference") or said.get("url")),
        kept=not success and video is not None,
        message="; ".join(filter(None, notes)),
    )


def _inferred(exit_status: int | None, stdout: str, stderr: str) -> str:
    if exit_status == 0:
        return "success"
    if any(_PATIENCE.search(text[-_LAST_WORDS:]) for text in (stderr, stdout)):
        return "timeout"
    return "failed"


_WELL_FORMED: Mapping[str, Callable[[Any], bool]] = {
    "class": lambda value: value in TELLABLE,
    "job": lambda value: isinstance(value, str) and bool(value),
    "id_exposed": lambda value: isinstance(value, bool),
    "sha256": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
    "by_reference": lambda value: isinstance(value, bool),
    "url": lambda value: isinstance(value, str) and bool(value),
}
"""The members of the line in which a command tells its outcome; others, and null, are no matter."""


def _said(stdout: str) -> tuple[dict[str, Any], str | None]:
    """Read the last line of the output, if it tells the outcome; else say what is wrong with it, if it seems to."""
    line = (stdout.rstrip().splitlines() or [""])[-1].strip()
    if not line.startswith("{"):
        return {}, None
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return {}, f"the last line of its output is ignored: {error.msg}"
    if "class" not in said:
        return {}, "the last line of its output is ignored: it has no class"
    given = {name: said[name] for name in _WELL_FORMED if said.get(name) is not None}
    wrong = [name for name, value in given.items() if not _WELL_FORMED[name](value)]
    if "class" in wrong or "class" not in given:
        allowed = ", ".join(TELLABLE)
        return {}, f"the last line of its output is ignored: class is {_short(said['class'])}; allowed are {allowed}"
    complaint = f"{wrong[0]} in the last line of its output is ignored: got {_short(said[wrong[0]])}" if wrong else None
    return {name: value for name, value in given.items() if name not in wrong}, complaint


def _short(value: Any) -> str:
    text = _printable(repr(value))
    return text if len(text) <= 80 else f"{text[:80]}..."


def _signalled(exit_status: int) -> str:
    if exit_status >= 0:
        return f"exit status {exit_status}"
    with suppress(ValueError):
        return f"it was ended by {signal.Signals(-exit_status).name}"
    return f"it was ended by signal {-exit_status}"


_NO_NEWS = re.compile(r"\s+at \S|Node\.js v\d")
"""A last line that does not say what went wrong: of a stack, or the version that Node.js ends with."""
_WRONG = re.compile(r"(?:Uncaught |\w+\.)*\w*(?:Error|Exception)\b.*: ")


def _last_line(text: str) -> str | None:
    lines = text[-_LAST_WORDS:].rstrip().splitlines() or [""]
    told = [line for line in lines if _WRONG.match(line)]
    line = told[-1] if told and _NO_NEWS.match(lines[-1]) else lines[-1]
    return _printable(line)[:300].strip() or None


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def with_ids(finished: Finished, ids: Iterable[str]) -> Outcome:
    """Return the outcome, knowing the ids of the jobs that the run made: which it names, and whether it does.

    What the command told itself stays.
    """
    outcome, ids = finished.outcome, tuple(ids)
    if not ids:
        return outcome
    printed = f"{finished.stdout}\n{finished.stderr}"
    named = next((id for id in ids if re.search(rf"(?<![\w-]){re.escape(id)}(?![\w-])", printed)), None)
    exposed = outcome.id_exposed if outcome.id_exposed is not None else named is not None
    return replace(outcome, job=outcome.job or named, id_exposed=exposed)
