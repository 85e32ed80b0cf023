"""Run a client that is a command in any language, and report its outcome. No server, no contract.

Whatever the command does, it ends shortly after its limit (in real seconds), and so do the processes that it started.
Invariants:

1. The command runs in its own session and process group, whose id is the process id. Signals go to the group. The
   process is not reaped before `close`: after reaping, the system could give the id to another group.
2. Processes that left the group (daemons) are found in /proc by their session or by the run's mark, a random value in
   the environment, which children inherit. Processes older than the run are skipped without reading their environment.
   Leftovers are killed until none is found, because they may fork meanwhile. Without /proc, only the group is killed.
3. One thread reads both output streams to their end, so that the command never blocks on a full pipe. The thread keeps
   only the tails, and slows down a flood. It does not wait until the pipes close, because a leftover process may keep
   them open.
4. At the limit, the group gets SIGTERM, and after the grace period SIGKILL. The outcome is then `unfinished`, whatever
   the command printed, because the command did not end by itself.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import orjson

from hobbyhorse.runners.last_words import is_timeout
from hobbyhorse.runners.leftovers import RUN_VARIABLE, Leftovers, process_ids
from hobbyhorse.runners.saved_file import SavedFile, read_saved
from hobbyhorse.traces.trace import KEY, OUTCOMES, REDACTED, Outcome

# Number of last bytes kept of each output stream: the outcome line and a traceback are at the end.
KEPT_OUTPUT_BYTES = 65_536
# Values of `class` in the outcome line, the last of a command's output. Only the runner reports `unfinished`.
REPORTABLE = tuple(kind for kind in OUTCOMES if kind != "unfinished")

# How the message of a run begins that took too much real time.
AT_LIMIT = "it had not ended at its limit"

# A pipe's default capacity on Linux, so that one read empties the pipe.
_CHUNK = 65_536
# Bytes kept before the tail, longer than any secret: otherwise, a secret that begins before the tail is not masked.
_MARGIN = 1_024
# After this many bytes of a stream, a pause follows each read, so that a flood slows only its own command.
_FLOOD = 4 << 20
# Real seconds between two checks of whether a process has ended, on systems without pidfd_open. A shorter interval
# costs processor time; a longer one makes each run longer.
_TICK = 0.02
# Real seconds to wait until a killed process disappears. Longer waiting does not help a process stuck in the kernel.
_STUBBORN = 5.0
# Characters at the end of the output in which the line of an error is looked for.
_LAST_WORDS = 2_000


class CommandError(Exception):
    """A command cannot be started or observed."""


# The endings of the variables of two providers.
PROVIDER_SUFFIXES = ("A", "B")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client sends its order at one provider, and the order itself."""

    provider: str
    base_url: str
    api_key: str
    request: Mapping[str, Any]
    model: str
    callback_url: str | None = None
    callback_secret: str | None = None


@dataclass(frozen=True, slots=True)
class ClientTask:
    """A client's task.

    `speed` is the factor by which the server's clock runs faster than real time, `zone` the name of its time zone.
    `targets` cover both providers of a client that has two; the other fields belong to the first one.
    """

    base_url: str
    api_key: str
    request: Mapping[str, Any]
    model: str
    callback_url: str | None = None
    callback_secret: str | None = None
    speed: float = 1.0
    zone: str | None = None
    targets: tuple[Target, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """More environment variables of a command."""

    @property
    def secrets(self) -> dict[str, str]:
        """The secrets of the task, each with the word that replaces it."""
        found = {self.callback_secret or "": REDACTED, self.api_key: KEY}
        for target in self.targets:
            found |= {target.callback_secret or "": REDACTED, target.api_key: KEY}
        return {secret: word for secret, word in found.items() if secret}


@dataclass(frozen=True, slots=True)
class Finished:
    """A command's outcome, the tails of its output with masked secrets, and its exit status.

    The exit status is negative for a signal, and None for a process that not even SIGKILL could end.
    """

    outcome: Outcome
    stdout: str
    stderr: str
    exit_status: int | None


def environment(task: ClientTask, folder: Path) -> dict[str, str]:
    """Write the task's request into a folder; return the environment variables that describe the task."""
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
        "TZ": task.zone,
    }
    for suffix, target in zip(PROVIDER_SUFFIXES, task.targets, strict=False):
        own = folder / f"request-{suffix.lower()}.json"
        own.write_text(json.dumps(dict(target.request)))
        variables |= {
            f"HOBBYHORSE_BASE_URL_{suffix}": target.base_url,
            f"HOBBYHORSE_API_KEY_{suffix}": target.api_key,
            f"HOBBYHORSE_REQUEST_{suffix}": str(own),
            f"HOBBYHORSE_MODEL_{suffix}": target.model,
            f"HOBBYHORSE_CALLBACK_URL_{suffix}": target.callback_url,
            f"HOBBYHORSE_CALLBACK_SECRET_{suffix}": target.callback_secret,
        }
    return {name: value for name, value in variables.items() if value is not None} | dict(task.variables)


def output_of(folder: Path) -> Path:
    """Return the path at which a command saves its video."""
    return folder / "video.mp4"


def start(
    argv: Sequence[str],
    task: ClientTask,
    limit: float,
    *,
    now: Callable[[], float],
    folder: Path | None = None,
    grace: float = 1.0,
    launch: Launch | None = None,
) -> Running:
    """Start a command. After `limit` real seconds it gets SIGTERM, and `grace` seconds later SIGKILL.

    `now` returns the end time for the outcome. `folder` contains the request and the video, and is kept, so that the
    command can be resumed. Without `folder`, the command has a private folder until `close`. `launch` starts the
    process in another way than as an ordinary child. Raises CommandError.
    """
    if os.name != "posix":
        raise CommandError("commands can run only on Linux and macOS; on Windows, use WSL")
    directory = folder or Path(tempfile.mkdtemp(prefix="hobbyhorse-"))
    try:
        variables = {**_inherited(), **environment(task, directory), RUN_VARIABLE: secrets.token_hex(16)}
        process = _begin(argv, variables, launch or OrdinaryProcess)
    except BaseException:
        if folder is None:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    return Running(
        process,
        task,
        folder=directory,
        private=folder is None,
        limit=limit,
        grace=grace,
        now=now,
    )


def _inherited() -> dict[str, str]:
    """Return this process's environment, without the variables of an outer run and with no proxy for this machine."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("HOBBYHORSE_")}
    for name in ("no_proxy", "NO_PROXY"):
        here[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))
    return here


def _begin(argv: Sequence[str], variables: Mapping[str, str], launch: Launch) -> Process:
    if not argv:
        raise CommandError("the command is empty; write it after --")
    try:
        return launch(argv, variables)
    except (OSError, ValueError) as error:
        raise CommandError(f"{argv[0]!r} cannot be started: {_reason(argv[0], error)}") from None


def _reason(program: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        if shutil.which(program):
            return "the interpreter in its first line does not exist"
        where = "the file does not exist" if os.sep in program else "no directory of PATH contains the program"
        return f"{where}; for a program in the current directory, write ./{Path(program).name}"
    if isinstance(error, PermissionError):
        return f"it is not executable; try chmod +x {program}"
    if isinstance(error, OSError):
        return f"{error.strerror or error}; a script needs a first line such as #!/bin/sh"
    return str(error)


class Process(Protocol):
    """A started command: an ordinary child, or a program in virtual time.

    `cut` is the reason why it was ended, if it was, `stuck` means that nothing could wake it, and `ended_at` is the
    time of its end, if the process knows it better than its observer.
    """

    cut: str | None
    stuck: bool
    ended_at: float | None

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""

    @property
    def stdout(self) -> IO[bytes]:
        """The output of the command."""

    @property
    def stderr(self) -> IO[bytes]:
        """The error output of the command."""

    @property
    def end(self) -> int | None:
        """A file descriptor that is readable once the process has ended, if the system has one."""

    def exit_status(self) -> int | None:
        """Return the exit status, or None while the process runs."""

    def signal(self, number: int) -> None:
        """Send a signal to the group."""

    def kill(self) -> None:
        """Kill the group."""

    def kill_leftovers(self) -> None:
        """Kill every process that the command started."""

    def has_leftovers(self) -> bool:
        """Whether processes that the command started are alive after its end."""

    def wait(self, seconds: float) -> None:
        """Reap the process, for at most so many real seconds."""

    def close(self) -> None:
        """Close the files, apart from the streams."""


Launch = Callable[[Sequence[str], Mapping[str, str]], Process]
"""Starts a command with environment variables. Raises OSError or ValueError."""


class OrdinaryProcess:
    """A command as a child of this process, in a session of its own."""

    cut: str | None = None
    stuck = False
    ended_at: float | None = None

    def __init__(self, argv: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start a command. Raises OSError or ValueError."""
        before = process_ids()
        self._process = subprocess.Popen(
            argv,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._leftovers = Leftovers(self.pid, variables[RUN_VARIABLE], before)
        self.end: int | None = None
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self.end = os.pidfd_open(self.pid)

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes]:
        """The output of the command."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def stderr(self) -> IO[bytes]:
        """The error output of the command."""
        assert self._process.stderr is not None
        return self._process.stderr

    def exit_status(self) -> int | None:
        """Return the exit status, or None while it runs. Does not reap the process if the system allows it."""
        if not hasattr(os, "waitid"):
            return self._process.poll()
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def signal(self, number: int) -> None:
        """Send a signal to the group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill the group."""
        self.signal(signal.SIGKILL)

    def kill_leftovers(self) -> None:
        """Kill every process that the command started."""
        self._leftovers.kill()

    def has_leftovers(self) -> bool:
        """Whether processes that the command started are alive after its end."""
        if os.path.isdir("/proc/self"):
            return any(True for _ in self._leftovers.alive())
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Reap the process."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def close(self) -> None:
        """Close the files, apart from the streams."""
        if self.end is not None:
            os.close(self.end)
            self.end = None


class _Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self.kept = bytearray()
        self.seen = 0

    def add(self, chunk: bytes) -> None:
        """Append a chunk, and drop bytes before the tail."""
        self.kept += chunk
        self.seen += len(chunk)
        # Only at twice the size, because each truncation copies the kept bytes.
        if len(self.kept) > 2 * KEPT_OUTPUT_BYTES:
            del self.kept[: -KEPT_OUTPUT_BYTES - _MARGIN]

    def has_any(self, secrets: Iterable[str]) -> bool:
        """Whether one of the secrets is in the tail."""
        return any(secret.encode() in self.kept for secret in secrets)

    def text(self, task: ClientTask) -> str:
        """Return the tail as text with masked secrets."""
        text = bytes(self.kept[-KEPT_OUTPUT_BYTES - _MARGIN :]).decode(errors="replace")
        for secret, mask in task.secrets.items():
            text = text.replace(secret, mask)
        return text[-KEPT_OUTPUT_BYTES:]


class Running:
    """A running command. A context manager that leaves no process behind.

    A thread reads the command's output and ends the command at its limit. Only `close` reaps the process, so until then
    the system cannot reuse the process id, which is also the id of the group.
    """

    def __init__(
        self,
        process: Process,
        task: ClientTask,
        *,
        folder: Path,
        private: bool,
        limit: float,
        grace: float,
        now: Callable[[], float],
    ) -> None:
        self._process, self._task, self._folder, self._private = process, task, folder, private
        self._limit, self._grace, self._now = limit, grace, now
        self._cut: str | None = None
        self._killed = False
        self._tails = (_Tail(), _Tail())
        self._selector = selectors.PollSelector()
        self._finished: Finished | None = None
        self._over, self._closing, self._closed = threading.Event(), False, False
        self._reaping = threading.Lock()
        self._listen()
        # A daemon thread, so that the interpreter can exit even if the caller never calls `close`.
        self._thread = threading.Thread(target=self._watch, name=f"command {process.pid}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""
        return self._process.pid

    @property
    def folder(self) -> Path:
        """The directory of the request and the video."""
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
        """Wait until the command has ended (at the latest, shortly after its limit). Raises CommandError."""
        self._over.wait()
        if self._finished is None:
            raise CommandError(f"the outcome of process {self.pid} is unknown: the thread that watched it failed")
        return self._finished

    def kill(self) -> None:
        """Kill the command and all processes that it started. Does nothing after `close`."""
        # Another thread may kill the command while its own thread closes it.
        with self._reaping:
            if self._closed:
                return
            self._killed = True
            self._process.kill()
            self._process.kill_leftovers()

    def leftovers(self) -> bool:
        """Whether processes that the command started are alive after its main process has ended."""
        if not self._over.is_set() or self._closed:
            return False
        return self._process.has_leftovers()

    def close(self) -> None:
        """End the command and its leftovers, and remove its private folder."""
        if self._closed:
            return
        self.kill()
        self._over.wait(_STUBBORN)
        self._closing = True
        self._thread.join(_STUBBORN)
        with self._reaping:
            self._process.wait(_STUBBORN)
            self._closed = True
        if self._private:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self) -> None:
        for stream, tail in zip((self._process.stdout, self._process.stderr), self._tails, strict=True):
            os.set_blocking(stream.fileno(), False)  # an empty pipe that a leftover keeps open would block `_drain`
            self._selector.register(stream, selectors.EVENT_READ, tail)
        if self._process.end is not None:
            self._selector.register(self._process.end, selectors.EVENT_READ)

    def _watch(self) -> None:
        try:
            self._follow()
            ended = self._process.ended_at or self._now()
            if self._process.end is not None:
                self._selector.unregister(self._process.end)
            self._drain()
            if self._cut:
                self._process.kill_leftovers()
            self._finished = self._finish(ended, self._process.exit_status())
            self._over.set()
            # Continue to read, because leftovers may run until `close` and must not block on a full pipe.
            while not self._closing and self._selector.get_map():
                self._read(_TICK)
        finally:
            self._over.set()
            self._release()

    def _follow(self) -> None:
        """Read the output until the process has ended. At the time limit, terminate it; if it does not end, kill it."""
        if self._read_until(self._limit):
            return
        self._cut = f"{AT_LIMIT} of {self._limit:g} s"
        self._process.signal(signal.SIGTERM)
        if not self._read_until(self._grace):
            self._process.kill()
            self._read_until(_STUBBORN)

    def _read_until(self, seconds: float) -> bool:
        """Read for at most `seconds`; return whether the process has ended."""
        moment = time.monotonic() + seconds
        while self._process.exit_status() is None:
            left = moment - time.monotonic()
            if left <= 0:
                return False
            self._read(left if self._process.end is not None else min(left, _TICK))
        return True

    def _read(self, seconds: float) -> None:
        """Wait at most `seconds` for output, and read one chunk of each ready stream."""
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                self._take(key)

    def _take(self, key: selectors.SelectorKey) -> bool:
        """Read one chunk of a stream; return whether there may be more."""
        try:
            chunk = os.read(key.fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # a stream that can no longer be read has ended
            chunk = b""
        if not chunk:
            self._selector.unregister(key.fileobj)
            return False
        key.data.add(chunk)
        if key.data.seen > _FLOOD:
            time.sleep(0.001)
        return True

    def _drain(self) -> None:
        """Read the output that was in the pipes when the process ended."""
        for key in list(self._selector.get_map().values()):
            # A pipe's maximum capacity is 1 MB; more bytes come from a leftover process, which may never stop.
            before = key.data.seen
            while key.data.seen - before < 1 << 20 and self._take(key):
                pass

    def _finish(self, ended: float, exit_status: int | None) -> Finished:
        cut = "it was killed" if self._killed and exit_status == -signal.SIGKILL else self._cut
        cut = self._process.cut or cut
        stdout, stderr = (tail.text(self._task) for tail in self._tails)
        outcome = _outcome(exit_status, cut, stdout, stderr, video=_video(output_of(self._folder)), ended=ended)
        shows_key = any(tail.has_any(self._task.secrets) for tail in self._tails)
        outcome = replace(outcome, stuck=self._process.stuck, shows_key=shows_key)
        return Finished(outcome, stdout, stderr, exit_status)

    def _release(self) -> None:
        self._selector.close()
        for stream in (self._process.stdout, self._process.stderr):
            stream.close()
        self._process.close()


def _video(path: Path) -> SavedFile | None:
    """Return the digest and size of the saved video, or None unless it is a regular, non-empty file."""
    with suppress(OSError):
        found = read_saved(path)
        return found if found.size else None
    return None


def _outcome(
    exit_status: int | None, cut: str | None, stdout: str, stderr: str, *, video: SavedFile | None, ended: float
) -> Outcome:
    """Return the outcome: `unfinished` if the runner ended the command, else the reported or inferred class."""
    reported, complaint = _reported(stdout)
    kind = "unfinished" if cut else reported.get("class") or _inferred(exit_status, stdout, stderr)
    success = kind == "success"
    is_reported = bool(reported) and not cut
    notes = [cut, complaint]
    if is_reported and success is not (exit_status == 0):
        notes.append(f"it reports {kind}, but its exit status is {exit_status}")
    elif exit_status and not cut:
        notes.append(_exit_words(exit_status))
    if not success:
        notes.append(_last_line(stderr) or (None if reported else _last_line(stdout)))
    # The digest of the file takes precedence over the digest that the command reports.
    digest = video.sha256 if video else reported.get("sha256")
    return Outcome(
        kind=kind,
        ended=ended,
        told=is_reported,
        job=reported.get("job"),
        id_exposed=reported.get("id_exposed"),
        sha256=digest if success else None,
        size=video.size if success and video else None,
        by_reference=success and video is None and bool(reported.get("by_reference") or reported.get("url")),
        kept=not success and video is not None,
        message="; ".join(filter(None, notes)),
    )


def _inferred(exit_status: int | None, stdout: str, stderr: str) -> str:
    if exit_status == 0:
        return "success"
    if is_timeout(stderr) or is_timeout(stdout):
        return "timeout"
    return "failed"


# The fields of the outcome line and their checks. Unknown fields and nulls are ignored, so a command may add fields.
_WELL_FORMED: Mapping[str, Callable[[Any], bool]] = {
    "class": lambda value: value in REPORTABLE,
    "job": lambda value: isinstance(value, str) and bool(value),
    "id_exposed": lambda value: isinstance(value, bool),
    "sha256": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
    "by_reference": lambda value: isinstance(value, bool),
    "url": lambda value: isinstance(value, str) and bool(value),
}


def _reported(stdout: str) -> tuple[dict[str, Any], str | None]:
    """Return the valid fields of the outcome line (the output's last line), and a complaint about the invalid ones."""
    line = (stdout.rstrip().splitlines() or [""])[-1].strip()
    if not line.startswith("{"):  # not meant as an outcome, so no complaint
        return {}, None
    try:
        parsed = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return {}, f"the last line of its output is ignored: {error.msg}"
    if "class" not in parsed:
        return {}, f"the last line of its output is ignored: it has no class; allowed: {', '.join(REPORTABLE)}"
    given = {name: parsed[name] for name in _WELL_FORMED if parsed.get(name) is not None}
    wrong = [name for name, value in given.items() if not _WELL_FORMED[name](value)]
    if "class" in wrong or "class" not in given:
        allowed = ", ".join(REPORTABLE)
        return {}, f"the last line of its output is ignored: class is {_short(parsed['class'])}; allowed: {allowed}"
    complaint = (
        f"{wrong[0]} in the last line of its output is ignored: got {_short(parsed[wrong[0]])}" if wrong else None
    )
    return {name: value for name, value in given.items() if name not in wrong}, complaint


def _short(value: Any) -> str:
    text = _printable(repr(value))
    return text if len(text) <= 80 else f"{text[:80]}..."


def _exit_words(exit_status: int) -> str:
    if exit_status >= 0:
        return f"exit status {exit_status}"
    with suppress(ValueError):
        return f"it was killed by {signal.Signals(-exit_status).name}"
    return f"it was killed by signal {-exit_status}"


# Last lines that do not name the error: a stack frame, or the version that Node.js prints last.
_UNINFORMATIVE = re.compile(r"\s+at \S|Node\.js v\d")
_ERROR_LINE = re.compile(r"(?:Uncaught |\w+\.)*\w*(?:Error|Exception)\b.*: ")


def _last_line(text: str) -> str | None:
    lines = text[-_LAST_WORDS:].rstrip().splitlines() or [""]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    line = errors[-1] if errors and _UNINFORMATIVE.match(lines[-1]) else lines[-1]
    return _printable(line)[:300].strip() or None


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def with_ids(finished: Finished, ids: Iterable[str]) -> Outcome:
    """Return the outcome with the first of `ids` that the output contains, and whether it contains any.

    A job and `id_exposed` that the command itself reported are kept.
    """
    outcome, ids = finished.outcome, tuple(ids)
    if not ids:
        return outcome
    printed = f"{finished.stdout}\n{finished.stderr}"
    # Match whole words, because "job_77" does not expose "job_7".
    named = next((id for id in ids if re.search(rf"(?<![\w-]){re.escape(id)}(?![\w-])", printed)), None)
    exposed = outcome.id_exposed if outcome.id_exposed is not None else named is not None
    return replace(outcome, job=outcome.job or named, id_exposed=exposed)
