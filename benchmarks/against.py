"""This tree and another commit, alternating in one run: `python -m benchmarks.against COMMIT`.

The speed of a shared machine drifts, so absolute figures of two runs cannot be compared. Both trees are measured in
turn, round after round, and the minima are compared, because noise only adds. Both run under this environment's Python
and dependencies; the other tree is a temporary checkout that comes first on PYTHONPATH. CPU time comes from the kernel,
for all threads of the server, so other load on the machine counts little.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.orders import order, poll
from benchmarks.report import Bound, run, show
from benchmarks.servers import on_core
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 20  # the minimum of 20 is within about 1 % of the next run's; of 5 it is not
LIMIT = 1.05  # below the noise of one round, above that of the minima
CONNECTIONS = 16  # enough that the server always finds a request that waits
POLLS, SUBMITS = 4_000, 4_000  # about half a second of the server's CPU each
SERVER_CORE = 0
SCRIPT = re.compile(r'^hobbyhorse = "([\w.]+):(\w+)"$', re.MULTILINE)
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that is ready: its address, its process, and the seconds that its start took, wall clock and CPU."""

    url: str
    pid: int
    seconds: float
    cpu: float

    def cpu_now(self) -> float:
        """Return the CPU seconds that its threads have used."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    @property
    def resident(self) -> int:
        """Its resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


@contextmanager
def serving(tree: Path) -> Iterator[Serving]:
    """Run `hobbyhorse serve` of a checkout until the context ends."""
    found = SCRIPT.search((tree / "pyproject.toml").read_text().partition("[project.scripts]")[2])
    if found is None:
        raise RuntimeError(f"{tree}/pyproject.toml names no command hobbyhorse")
    module, function = found.groups()
    code = f"import sys; sys.argv[0] = 'hobbyhorse'; from {module} import {function}; sys.exit({function}())"
    command = on_core(SERVER_CORE, (sys.executable, "-c", code, "serve", "--port", "0", "--pace", "realistic"))
    environment = {**os.environ, "PYTHONPATH": str(tree / "mockserver")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a fresh checkout would be compiled at each start
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tree, env=environment
    ) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            seconds = time.perf_counter() - began
            started = Serving(json.loads(line)["url"], server.pid, seconds, 0.0)
            yield Serving(started.url, server.pid, seconds, started.cpu_now())
        finally:
            server.kill()


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Make a temporary checkout of a commit."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        subprocess.run(("git", "worktree", "add", "--quiet", "--detach", tree, commit), cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(("git", "worktree", "remove", "--force", tree), cwd=ROOT, check=True)


def written(request: httpx.Request) -> bytes:
    """Return a request as it is on the wire."""
    head = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1".encode()]
    head += [name + b": " + value for name, value in request.headers.raw]
    return b"\r\n".join(head) + b"\r\n\r\n" + request.read()


def send(url: str, request: bytes, count: int) -> None:
    """Send a request `count` times over kept-alive connections. Raises RuntimeError unless all succeed."""
    address = urlsplit(url)
    peer = (address.hostname, address.port or 80)
    connections = [socket.create_connection(peer) for _ in range(CONNECTIONS)]
    try:
        left, waiting = count, dict.fromkeys(connections, b"")
        for connection in islice(connections, count):
            connection.sendall(request)
            left -= 1
        while waiting:
            for connection in select.select(list(waiting), [], [])[0]:
                data = waiting[connection] + connection.recv(65_536)
                head, end, body = data.partition(b"\r\n\r\n")
                length = LENGTH.search(head)
                if not end or (length is not None and len(body) < int(length[1])):
                    waiting[connection] = data
                    continue
                if not head.startswith(b"HTTP/1.1 2"):
                    raise RuntimeError(f"not a success: {data[:200]!r}")
                waiting[connection] = b""
                if left:
                    left -= 1
                    connection.sendall(request)
                else:
                    del waiting[connection]
    finally:
        for connection in connections:
            connection.close()


def measure(tree: Path, contract: Contract) -> dict[str, float]:
    """Start the server of a checkout once; return milliseconds, microseconds and megabytes by what they are of."""
    with serving(tree) as server:
        found = {"start-up, wall ms": 1000 * server.seconds, "start-up, CPU ms": 1000 * server.cpu}
        found["memory ready, MB"] = server.resident / 1e6
        request, _ = poll(contract, server.url)
        send(server.url, written(request), POLLS // 10)  # warm up: first requests import and cache
        before = server.cpu_now()
        send(server.url, written(request), POLLS)
        found["poll, CPU µs"] = 1e6 * (server.cpu_now() - before) / POLLS
        submit = written(order(contract, server.url))
        before = server.cpu_now()
        send(server.url, submit, SUBMITS)
        found["submit, CPU µs"] = 1e6 * (server.cpu_now() - before) / SUBMITS
        found[f"memory with {SUBMITS:,} jobs, MB"] = server.resident / 1e6
    return found


def main() -> None:
    """Print both sides' minima and their ratios."""
    commits = [word for word in sys.argv[1:] if not word.startswith("-")]
    if len(commits) != 1:
        sys.exit("usage: python -m benchmarks.against COMMIT [--check]")
    contract = load_all()[0]
    with checkout(commits[0]) as other:
        trees = {"here": ROOT, "there": other}
        taken: dict[str, list[dict[str, float]]] = {side: [] for side in trees}
        for number in range(1 + ROUNDS):
            for side in trees if number % 2 else reversed(trees):
                taken[side].append(measure(trees[side], contract))
    least = {side: {name: min(one[name] for one in found[1:]) for name in found[0]} for side, found in taken.items()}
    show(
        f"This tree against {commits[0]}; minima of {ROUNDS} alternating rounds ({contract.name})",
        [
            ("", "here", "there", "ratio"),
            *(
                (name, f"{here:.1f}", f"{there:.1f}", f"{here / there:.3f}")
                for name, here in least["here"].items()
                for there in (least["there"][name],)
            ),
        ],
        *(Bound(name, least["here"][name] / least["there"][name], limit=LIMIT, target=1.0) for name in least["here"]),
    )


if __name__ == "__main__":
    sys.exit(run(main))
