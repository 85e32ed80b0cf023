"""The state in memory against the state in Redis, with one process and with two: `python -m benchmarks.shared`.

The sides alternate, round after round, and the minima are compared: noise only adds. CPU time comes from the kernel,
for all processes that serve. With two processes, half of the connections reach the process that does not own the key's
world, and are handed over. Needs redis-server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection, create_server

from benchmarks.against import send, written
from benchmarks.orders import order, poll
from benchmarks.report import Bound, run, show
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract

ROUNDS = 20  # as in `against`
POLLS, SUBMITS = 4_000, 2_000  # about half a second of the server's CPU each
# Of memory; and of Redis with one process.
POLL_LIMIT, SUBMIT_LIMIT, TWO_LIMIT = 1.5, 1.5, 1.25
REDIS_LIMIT = 10.0  # microseconds of Redis's own CPU for a poll


@dataclass(frozen=True, slots=True)
class Processes:
    """A server and the processes that serve, by their ids."""

    url: str
    pids: Sequence[int]

    def cpu(self) -> float:
        """Return the CPU seconds that they have used."""
        return sum(map(cpu_of, self.pids))


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that the threads of a process have used."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


@contextmanager
def redis(directory: Path) -> Iterator[tuple[str, int]]:
    """Run Redis, which writes each change to its disk; yields its URL and its process id."""
    with create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    options = ("--port", port, "--bind", "127.0.0.1", "--dir", str(directory), "--save", "", "--appendonly", "yes")
    command = ("redis-server", *options, "--appendfsync", "always")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + 10
            while True:
                try:
                    create_connection(("127.0.0.1", int(port))).close()
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
            yield f"redis://127.0.0.1:{port}", server.pid
        finally:
            server.kill()


def empty(url: str) -> None:
    """Empty Redis, so that no server begins with the jobs of the last one."""
    with create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        connection.recv(64)


@contextmanager
def serving(*options: str) -> Iterator[Processes]:
    """Run `hobbyhorse serve` until the context ends."""
    code = "import sys; sys.argv[0] = 'hobbyhorse'; from hobbyhorse.cli.main import main; sys.exit(main())"
    command = (sys.executable, "-c", code, "serve", "--port", "0", "--pace", "realistic", *options)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as server:
        assert server.stdout is not None
        try:
            found = json.loads(server.stdout.readline())
            yield Processes(found["url"], found.get("pids", [found["pid"]]))
        finally:
            server.terminate()


def measure(contract: Contract, *options: str, redis_pid: int | None = None) -> dict[str, float]:
    """Start a server once; return CPU microseconds of the server, and of Redis, for a poll and for a submission."""
    found: dict[str, float] = {}
    with serving(*options) as server:
        request, _ = poll(contract, server.url)
        polls, submits = (written(request), POLLS), (written(order(contract, server.url)), SUBMITS)
        for name, (content, count) in {"poll": polls, "submit": submits}.items():
            send(server.url, content, count // 10)  # warm up: first requests import and cache
            before, of_redis = server.cpu(), cpu_of(redis_pid) if redis_pid else 0.0
            send(server.url, content, count)
            found[name] = 1e6 * (server.cpu() - before) / count
            found[f"{name}, Redis"] = 1e6 * ((cpu_of(redis_pid) if redis_pid else 0.0) - of_redis) / count
    return found


def main() -> None:
    """Print the minima of all sides, and their ratios."""
    if shutil.which("redis-server") is None:
        print("The state in Redis is not measured: redis-server is not installed\n")
        return
    contract = load_all()[0]
    with tempfile.TemporaryDirectory() as directory, redis(Path(directory)) as (url, pid):
        state = ("--state", url)
        sides = {"memory": (), "Redis": state, "Redis, two processes": (*state, "--processes", "2")}
        taken: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(1 + ROUNDS):
            for side in sides if number % 2 else reversed(sides):
                empty(url)
                taken[side].append(measure(contract, *sides[side], redis_pid=pid if sides[side] else None))
    least = {side: {name: min(one[name] for one in found[1:]) for name in found[0]} for side, found in taken.items()}
    memory, one, two = least.values()
    show(
        f"CPU of the server by its state; minima of {ROUNDS} alternating rounds ({contract.name})",
        [
            ("", *sides),
            *((f"{name}, CPU µs", *(f"{found[name]:.1f}" for found in least.values())) for name in memory),
        ],
        Bound("poll, Redis of memory", one["poll"] / memory["poll"], POLL_LIMIT, 1.1),
        Bound("submit, Redis of memory", one["submit"] / memory["submit"], SUBMIT_LIMIT, 1.3),
        Bound("poll, two processes of one", two["poll"] / one["poll"], TWO_LIMIT, 1.15),
        Bound("poll, Redis itself", one["poll, Redis"], REDIS_LIMIT, 5.0, " µs"),
    )


if __name__ == "__main__":
    sys.exit(run(main))
