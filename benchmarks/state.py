"""The cost of a kept state, against memory: polls, submissions, and the start: `python -m benchmarks.state`."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from benchmarks.growth import send
from benchmarks.orders import KEY, order, poll
from benchmarks.report import Bound, run, show
from benchmarks.servers import OURS, on_core, started
from hobbyhorse.clock.clock import RealClock
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.kept.opening import open_state
from hobbyhorse.state.sqlite import SqliteStore
from hobbyhorse.state.store import Changes

MEMORY, SQLITE = "memory", "SQLite"
# Of each pair of alternating rounds the quickest counts: anything else on the machine only adds time.
ROUNDS = int(os.environ.get("HOBBYHORSE_BENCH_ROUNDS", "20"))
POLLS, POLLERS = 2_000, 48  # requests and connections of a round
CLIENTS = {1: 300, 32: 600, 256: 1_500}  # submissions of a round, by the number of clients
AFTERWARDS = 0.4  # seconds in which a server writes what nobody waits for
SERVER, CLIENT = 0, 1  # the cores of the measured server and of this process
JOBS, WORLDS, RUNNING = 100_000, 100, 1_000  # of the kept state that a start reads
HANDLES = tuple(f"{number:016x}" for number in range(WORLDS))
STARTS = 7  # odd, for the median
BATCH = 1_000  # jobs in one change: a megabyte


@dataclass(frozen=True, slots=True)
class Cost:
    """The requests per second of a round, and the microseconds of the server's CPU for each."""

    rate: float
    cpu: float


def main() -> None:
    """Print the figures, and check them against their bounds."""
    contract = load_all()[0]
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {CLIENT})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = (*OURS, "--pace", "realistic", "--seed", "5")
        kept = (*command, "--state", str(folder / "state"))
        servers = {
            name: stack.enter_context(started(on_core(SERVER, one)))
            for name, one in ((MEMORY, command), (SQLITE, kept))
        }
        polls = {name: poll(contract, server.url)[0] for name, server in servers.items()}
        submits = {name: order(contract, server.url) for name, server in servers.items()}
        found: dict[tuple[str, str], Cost] = {}
        for _ in range(1 + ROUNDS):
            for name, server in servers.items():
                _best(found, ("poll", name), asyncio.run(_load(polls[name], POLLS, POLLERS, server.pid)))
                for clients, count in CLIENTS.items():
                    row = (f"submit, {clients} clients", name)
                    _best(found, row, asyncio.run(_load(submits[name], count, clients, server.pid)))
    _starts(contract)
    _show(found)


def _best(found: dict[tuple[str, str], Cost], row: tuple[str, str], cost: Cost) -> None:
    before = found.get(row, cost)
    found[row] = Cost(max(before.rate, cost.rate), min(before.cpu, cost.cpu))


def _show(found: dict[tuple[str, str], Cost]) -> None:
    rows, ratios = [("", "rate", "SQLite", "ratio", "CPU", "SQLite", "ratio")], {}
    for name in dict.fromkeys(row for row, _ in found):
        memory, sqlite = found[name, MEMORY], found[name, SQLITE]
        ratios[name] = sqlite.rate / memory.rate, sqlite.cpu / memory.cpu
        rate, cpu = (f"{value:.2f}" for value in ratios[name])
        figures = (
            f"{memory.rate:,.0f}",
            f"{sqlite.rate:,.0f}",
            rate,
            f"{memory.cpu:.0f} µs",
            f"{sqlite.cpu:.0f} µs",
            cpu,
        )
        rows.append((name, *figures))
    submits = [name for name in ratios if name != "poll"]
    show(
        f"A state in SQLite against memory; best of {ROUNDS} alternating rounds",
        rows,
        Bound("CPU of a poll", ratios["poll"][1], limit=1.1, target=1.06),
        *(
            Bound(name, ratios[name][0], limit=0.7 if clients == 1 else 0.8, target=1.0, at_least=True)
            for name, clients in zip(submits, CLIENTS, strict=True)
        ),
        Bound("CPU of a submission", max(ratios[name][1] for name in submits), limit=1.5, target=1.3),
    )


def _cpu(pid: int) -> float:
    """Return the CPU seconds of all threads of a process."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # the thread has ended
            continue
    return total / 1e9


async def _load(request: httpx.Request, count: int, clients: int, pid: int) -> Cost:
    """Send a request `count` times over some connections. Raises RuntimeError if a response is not 2xx."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    content = request.content
    head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n{headers}\r\n".encode()
    left = [count]

    async def client() -> None:
        reader, writer = await asyncio.open_connection(request.url.host, request.url.port)
        while left[0] > 0:
            left[0] -= 1
            writer.write(head + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 2"):
                raise RuntimeError(f"{request.method} {request.url}: {answer.decode()}")
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.close()

    before, began = _cpu(pid), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    rate = count / (time.perf_counter() - began)
    # Journal lines are written later: they belong to these requests, not to the next ones.
    await asyncio.sleep(AFTERWARDS)
    return Cost(rate, (_cpu(pid) - before) / count * 1e6)


def _starts(contract: Contract) -> None:
    """Print how much later a server is ready with kept jobs, and how much more memory it takes."""
    with tempfile.TemporaryDirectory() as place:
        folders = {"empty": Path(place) / "empty", "kept": Path(place) / "kept"}
        asyncio.run(fill(contract, folders["kept"]))
        seconds: dict[str, list[float]] = {name: [] for name in folders}
        memory: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(1 + STARTS):
            for name, folder in folders.items():
                with started((*OURS, "--state", str(folder), "--seed", "5")) as server:
                    seconds[name].append(server.seconds)
                    memory[name].append(_resident(server.pid) / 1e6)
        size = (folders["kept"] / "state.db").stat().st_size / 1e6
        shutil.rmtree(folders["kept"])
    found = {name: (statistics.median(seconds[name][1:]), statistics.median(memory[name][1:])) for name in folders}
    later, more = (kept - empty for kept, empty in zip(found["kept"], found["empty"], strict=True))
    show(
        f"Start with {JOBS:,} kept jobs in {WORLDS} worlds, {RUNNING:,} of them running ({size:.0f} MB)",
        [
            ("", "ready", "RSS"),
            *((name, f"{ready * 1e3:.0f} ms", f"{rss:.0f} MB") for name, (ready, rss) in found.items()),
        ],
        Bound("later", later * 1e3, limit=300, target=150, unit=" ms"),
        Bound("more memory", more, limit=20, target=10, unit=" MB"),
    )


def _resident(pid: int) -> int:
    """Return the resident bytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


async def fill(
    contract: Contract, folder: Path, handles: Sequence[str] = HANDLES, jobs: int = JOBS, running: int = RUNNING
) -> None:
    """Write a state with many jobs in some worlds: a job that a server has made, many times."""
    keeper = open_state(str(folder), 5, load_all())
    fake = Fake(load_all(), Options(seed=5, pace="realistic", make_clock=RealClock, state=keeper, run="a-run"))
    keeper.start(fake.worlds, fake._services)
    await send(fake, order(contract, "http://127.0.0.1:8000"))
    world = fake.worlds.of(KEY)
    assert world is not None
    job = next(iter(world.jobs.values()))
    world.transition(job, contract.graph.path(contract.graph.initial)[1])
    await keeper.kept(world)
    await fake.close()
    store = SqliteStore(folder)
    head = (await store.look(world.handle)).head
    (one,) = (await store.page(world.handle, "job")).records
    assert head is not None
    await store.keep(Changes(world=world.handle, erased=frozenset({"head"})))
    each, running = jobs // len(handles), running // len(handles)
    success = contract.graph.ending("success")
    assert success is not None
    for number, handle in enumerate(handles):
        # An hour from now: no job ends while the starts are measured.
        late = [[moment + 3_600, stage] for moment, stage in one.values["timeline"]]
        values = {**head.values, "jobs": [0, each, 0, each - running - 1, "0"]}
        made = [
            replace(
                one,
                number=at,
                id=f"{one.id}-{number}-{at}",
                end="" if at >= each - running else success.name,
                kind="" if at >= each - running else success.kind,
                values={**one.values, "timeline": late} if at >= each - running else one.values,
            )
            for at in range(each)
        ]
        for begin in range(0, each, BATCH):
            changes = Changes(
                world=handle,
                head=replace(head, values=values),
                jobs=made[begin : begin + BATCH],
                checked=False,
            )
            await store.until_kept(store.put(changes))
    await store.close()


if __name__ == "__main__":
    sys.exit(run(main))
