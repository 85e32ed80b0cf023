"""A server with a kept state that is killed again and again, beside clients that order, and the balance at the end."""

from __future__ import annotations

import http.server
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract

# Far above what a loaded machine needs to start a server.
READY_SECONDS = 60.0


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Served:
    """`hobbyhorse serve` in a process of its own, on one port over all restarts."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port, self.options = port or free_port(), options
        self.url = f"http://127.0.0.1:{self.port}"
        self.errors: list[str] = []
        """The last lines of the tracebacks that the server has printed."""
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it is ready."""
        command = [str(Path(sys.executable).with_name("hobbyhorse")), "serve", "--port", str(self.port), *self.options]
        # A file, because a pipe that nobody reads would stop the server when it is full.
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.stderr, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the server did not start: {self.said()}")
        self.ready: Mapping[str, object] = json.loads(line)
        assert self.ready["pid"] == self.process.pid

    def kill(self) -> None:
        """End the server as the kernel ends a process that is out of memory."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def stop(self) -> int:
        """Stop the server in order; return its exit status."""
        self.process.terminate()
        status = self.process.wait(READY_SECONDS)
        self._close()
        return status

    def said(self) -> str:
        """Return everything that the server has written to stderr."""
        self.stderr.seek(0)
        return self.stderr.read()

    def _close(self) -> None:
        self.errors += re.findall(r"^\w+(?:Error|Exception).*", self.said(), re.MULTILINE)
        self.stderr.close()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def control(self, method: str, path: str, key: str, body: Any = None) -> Any:
        """Call the control plane."""
        with httpx.Client(trust_env=False, timeout=READY_SECONDS) as client:
            headers = {"authorization": f"Bearer {key}"}
            found = client.request(method, f"{self.url}/_mock/{path}", json=body, headers=headers)
        assert found.status_code < 300, found.text
        return found.json()


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    """Serve while the context lasts."""
    server = Served(*options)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.kill()


class Receiver:
    """A receiver of callbacks that remembers their bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            # A restarted server sends everything that was due at once; the usual 5 would refuse most of it.
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/done"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def has(self, job: str) -> bool:
        """Whether a callback has named a job."""
        return any(job.encode() in body for body in tuple(self.bodies))

    def close(self) -> None:
        """Stop to receive."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Balance:
    """What clients were told, and what the server has at the end."""

    contract: Contract
    told: dict[tuple[str, str], str] = field(default_factory=dict)
    """The job that a response has named, by API key and idempotency key."""
    changed: list[str] = field(default_factory=list)
    """Keys for which a later response named another job."""
    refused: Counter[int] = field(default_factory=Counter)
    kills: int = 0


def orders(server: Served, receiver: Receiver, balance: Balance, api_key: str, stop: threading.Event) -> None:
    """Order again and again, each order until it is accepted, and some a second time."""
    contract = balance.contract
    model = contract.models[0]
    pointer = contract.operations["submit"].bindings["callback_url"].request[0].pointer
    place = contract.idempotency.key
    assert place is not None
    number, draw = 0, random.Random(api_key)
    with httpx.Client(trust_env=False, timeout=10) as client:
        caller = ContractClient(contract, f"{server.url}/{contract.key}", api_key, client)
        while not stop.is_set():
            again = number and draw.random() < 0.3
            name = f"order-{draw.randrange(number) if again else number}"
            body = replaced(order_for(contract, model, mark=name), pointer, receiver.url)
            while True:
                try:
                    found = caller.submit(model.id, body, {place.name: name})
                except httpx.TransportError:
                    time.sleep(0.02)
                    continue
                job = found.reading.values.get("job")
                if found.status < 300 and isinstance(job, str):
                    break
                balance.refused[found.status] += 1
                time.sleep(0.02)
            if balance.told.setdefault((api_key, name), job) != job:
                balance.changed.append(name)
            number += not again


def run(contract: Contract, folder: Path, kills: int, seed: int, *, clients: int = 3) -> list[str]:
    """Kill the server that many times beside clients; return every complaint about the end."""
    draw, receiver, balance, stop = random.Random(seed), Receiver(), Balance(contract), threading.Event()
    keys = [f"crash-client-{number}" for number in range(clients)]
    with serving("--state", str(folder), "--seed", "3") as server:
        threads = [
            threading.Thread(target=orders, args=(server, receiver, balance, key, stop), daemon=True) for key in keys
        ]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            time.sleep(draw.uniform(0.05, 1.0))
            server.kill()
            balance.kills += 1
            server.start()
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join(READY_SECONDS)
        complaints = [f"{name} was another job later" for name in balance.changed]
        complaints += [f"refused with {status} {count} times" for status, count in balance.refused.items()]
        complaints += check(server, receiver, balance, keys)
    complaints += server.errors
    receiver.close()
    print(f"{len(balance.told)} orders, {balance.kills} kills, {len(receiver.bodies)} callbacks", os.getpid())
    return complaints


def check(server: Served, receiver: Receiver, balance: Balance, keys: Sequence[str]) -> Iterator[str]:
    """Yield what is lost, double, not replayed, or not called back."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and not all(receiver.has(job) for job in balance.told.values()):
        time.sleep(0.1)
    contract = balance.contract
    model, place = contract.models[0], contract.idempotency.key
    pointer = contract.operations["submit"].bindings["callback_url"].request[0].pointer
    assert place is not None
    with httpx.Client(trust_env=False, timeout=READY_SECONDS) as client:
        for (key, name), job in balance.told.items():
            caller = ContractClient(contract, f"{server.url}/{contract.key}", key, client)
            shown = caller.call("status", path={"job": job})
            if "success" not in shown.reading.stages:
                yield f"the job {job} of {name} is {shown.reading.stages or shown.status}"
            body = replaced(order_for(contract, model, mark=name), pointer, receiver.url)
            replay = caller.submit(model.id, body, {place.name: name})
            if replay.reading.values.get("job") != job:
                yield f"{name} is not replayed: {replay.status} {replay.content[:200]!r}"
            if not receiver.has(job):
                yield f"no callback for {name} of {key}: {job}"
    for key in keys:
        told = sum(one == key for one, _ in balance.told)
        total = server.control("GET", "jobs?limit=1", key)["total"]
        if total != told:
            yield f"{key} has {total} jobs, and was told of {told}"
        ledger = server.control("GET", "ledger?limit=1", key)
        if (ledger["billable"], ledger["duplicates"]) != (told, 0):
            yield f"the ledger of {key} has {ledger['billable']} billable jobs, {ledger['duplicates']} duplicates"
