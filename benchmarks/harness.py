"""The cost of MockServer in a test: start, reset, stop, a whole job: `python -m benchmarks.harness`."""

from __future__ import annotations

import http.server
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from benchmarks.report import Bound, run, show
from hobbyhorse import MockServer
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract

ROUNDS = 9  # odd, for the median; some seconds together
STATUSES = (500, 503, 200)  # a callback's deliveries: two retries, then acknowledged


class Receiver(http.server.BaseHTTPRequestHandler):
    """A callback receiver that acknowledges only the third delivery."""

    seen = 0

    def do_POST(self) -> None:
        """Respond with the next status."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(STATUSES[Receiver.seen % len(STATUSES)])
        self.end_headers()
        Receiver.seen += 1

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


def main() -> None:
    """Print the median milliseconds of each part."""
    taken: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = work()
        taken.setdefault(name, []).append(1000 * (time.perf_counter() - began))
        return found

    contract = next(contract for contract in load_all() if contract.callbacks and contract.retention.result_url)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver,
        httpx.Client(trust_env=False) as client,
    ):
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{receiver.server_port}/done"
        for _ in range(1 + ROUNDS):
            timed("in process, to the first world", lambda: MockServer().world())
            server = timed("on a socket, to be ready", lambda: MockServer(clock="manual", pace="realistic").start())
            client.get(server.url)
            world = server.world()
            timed("a realistic job, two retries, an expiry", lambda: _job(world, contract, client, url))  # noqa: B023
            timed("reset", world.reset)
            timed("stop", server.stop)
        receiver.shutdown()
    middle = {name: statistics.median(found[1:]) for name, found in taken.items()}  # the first round imports modules
    show(
        f"MockServer; median of {ROUNDS}",
        [("", "ms", "most"), *((name, f"{middle[name]:.1f}", f"{max(taken[name][1:]):.1f}") for name in taken)],
        Bound("in process", middle["in process, to the first world"], limit=100, target=100, unit=" ms"),
        Bound("reset", middle["reset"], limit=5, target=5, unit=" ms"),
        Bound("stop", middle["stop"], limit=100, target=100, unit=" ms"),
        Bound("job", middle["a realistic job, two retries, an expiry"], limit=200, target=200, unit=" ms"),
    )


def _job(world: Any, contract: Contract, http_client: httpx.Client, callback_url: str) -> None:
    """Submit a job, poll it, receive its callback at the third delivery, and let its link expire."""
    _, model, body = next(found for found in documented_jobs(contract) if found[0].role == "submit")
    body = replaced(body, contract.operations["submit"].bindings["callback_url"].request[0].pointer, callback_url)
    client = ContractClient(contract, world.url(contract.key), world.api_key, http_client)
    job = client.submit(model.id, body).reading.values["job"]
    assert not client.call("status", path={"job": job}).reading.stages & {"success"}
    world.clock.run_until_idle()
    assert [attempt.status for attempt in world.callbacks] == list(STATUSES)
    link = client.call("status", path={"job": job}).reading.values["video_url"]
    world.clock.advance(world.jobs[0].expires - world.clock.now() + 1)
    assert http_client.get(link).status_code == 403


if __name__ == "__main__":
    sys.exit(run(main))
