"""A server under moderate load for a while, whose memory must not grow: `python -m benchmarks.soak [MINUTES]`.

Many keys order videos (some with pictures of their own, some with a callback that nobody answers, some large), poll,
list and download. Resident memory is read when every journal is full, and at the end.
"""

from __future__ import annotations

import base64
import io
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.report import Bound, run, show
from benchmarks.servers import OURS, started
from hobbyhorse.conformance.contract_client import ContractClient, ContractResponse, credentials
from hobbyhorse.conformance.server.session import with_callback
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.values import Model, Operation

MINUTES = 15.0  # as long as a load test of a team; the journals are full after a third of it
WORLDS, KEYS = 20, 60  # three times as many keys as worlds are kept, so that worlds are forgotten and made again
JOBS = 500  # that are kept of each world
THREADS = 4  # clients at once
RATE = 60  # requests a second of each client: moderate, about a tenth of what the server can do
GROWTH = 1.10  # of the memory when the journals were full
KEPT = 1000  # exchanges that a journal keeps
PICTURE = 400  # pixels a side of a picture
LARGE = 2 << 20  # bytes of an order that is read in a separate process
POLLS = 6  # of a job, each with a request to the control plane
LISTS = ("jobs", "journal?limit=1000", "ledger", "callbacks", "clock", "report?provider={}", "trace?provider={}")


@dataclass(slots=True)
class Load:
    """What the clients share: where the server is, what they have counted, and when they stop."""

    url: str
    receiver: str
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, status: int, what: str) -> None:
        """Count a request. A status of 500 is a fault of the server, and so is no response (0)."""
        with self.lock:
            self.requests += 1
            if status in (0, 500):
                self.failed.append(f"{status} {what}")

    def counted(self, response: ContractResponse) -> ContractResponse:
        """Count the request of a response, and return the response."""
        self.count(response.status, response.role)
        return response


def main() -> None:
    """Load a server, and print its memory when the journals were full and at the end."""
    minutes = next((float(one) for one in sys.argv[1:] if not one.startswith("-")), MINUTES)
    options = ("--pace", "fast", "--keep-worlds", str(WORLDS), "--keep-jobs", str(JOBS))
    with _silent_receiver() as receiver, started((*OURS, *options)) as server:
        load = Load(server.url, receiver)
        clients = [threading.Thread(target=_client, args=(load, number)) for number in range(THREADS)]
        for one in clients:
            one.start()
        began, full, readings = time.monotonic(), 0.0, []
        while (passed := time.monotonic() - began) < 60 * minutes:
            time.sleep(1)
            readings.append(_resident(server.pid))
            if not full and (load.requests > KEPT * KEYS or passed > 20 * minutes):
                full = sum(readings[-10:]) / len(readings[-10:])
        load.stop.set()
        for one in clients:
            one.join()
    end = sum(readings[-10:]) / len(readings[-10:])
    rows = [("", "resident MB"), ("first", f"{readings[0] / 1e6:.0f}"), ("full journals", f"{full / 1e6:.0f}")]
    rows += [("end", f"{end / 1e6:.0f}"), ("peak", f"{max(readings) / 1e6:.0f}")]
    for failure in load.failed[:10]:
        print(failure, file=sys.stderr)
    show(
        f"Memory of a server over {minutes:g} minutes and {load.requests:,} requests",
        rows,
        Bound("end against full journals", end / full, limit=GROWTH, target=1.0),
        Bound("requests without a response, or with status 500", len(load.failed), limit=0, target=0),
    )


def _client(load: Load, number: int) -> None:
    """Order, poll and download with one key after another, until the load stops."""
    rng, contracts = random.Random(number), load_all()
    with httpx.Client(timeout=30, trust_env=False) as http:
        while not load.stop.is_set():
            contract, key = rng.choice(contracts), f"soak-{rng.randrange(KEYS)}"
            http.headers.update(credentials(contract, key))
            client = ContractClient(contract, f"{load.url}/{contract.key}", key, http)
            try:
                _one_job(load, client, http, rng)
            except Exception as error:
                load.count(0, repr(error))


def _one_job(load: Load, client: ContractClient, http: httpx.Client, rng: random.Random) -> None:
    model = rng.choice(client.contract.models)
    body = order_for(client.contract, model, mark=str(rng.random()), long=rng.random() < 0.3)
    operation = client.contract.operations["submit"]
    if rng.random() < 0.2:
        told = with_callback(operation, body, f"{load.receiver}/{rng.random()}")
        body = body if told is MISSING else told
    if rng.random() < 0.2:
        body = _with_picture(operation, model, body, rng)
    if rng.random() < 0.05:
        body["padding"] = "x" * LARGE
    submitted = load.counted(client.submit(model.id, body))
    job = str(submitted.reading.values.get("job", "unknown"))
    for _ in range(POLLS):
        if load.stop.wait(1 / RATE):
            return
        polled = load.counted(client.call("status", path={"job": job, "model": model.id}))
        listed = rng.choice(LISTS).format(client.contract.key)
        load.count(http.get(f"{load.url}/_mock/{listed}").status_code, listed)
    for url in _links(polled.value):
        load.count(http.get(url).status_code, url)


def _links(value: Any) -> Iterator[str]:
    """Yield the links to videos in a response."""
    if isinstance(value, str) and "/media/" in value:
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _links(inner)


def _with_picture(operation: Operation, model: Model, body: Any, rng: random.Random) -> Any:
    """Return the body with a picture of its own, inline."""
    for inner in model.parameters.get("first_frame", ()):
        pointer = (*operation.model_parameters.pointer, *inner)
        found = resolve(body, pointer)
        if found is not MISSING:
            return replaced(body, pointer, [_picture(rng)] if isinstance(found, list) else _picture(rng))
    return body


def _picture(rng: random.Random) -> str:
    kept = io.BytesIO()
    Image.new("RGB", (PICTURE, PICTURE), (rng.randrange(256), rng.randrange(256), 0)).save(kept, "PNG")
    return "data:image/png;base64," + base64.b64encode(kept.getvalue()).decode()


@contextmanager
def _silent_receiver() -> Iterator[str]:
    """Listen without ever responding."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _resident(pid: int) -> float:
    """Return the resident bytes of a process and its children."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if pid in (int(status.parent.name), int(lines["PPid"])) and "VmRSS" in lines:
            total += 1024 * int(lines["VmRSS"].split()[0])
    return total


if __name__ == "__main__":
    sys.exit(run(main))
