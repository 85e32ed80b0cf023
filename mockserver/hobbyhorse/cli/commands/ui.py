"""`hobbyhorse ui`: serve with a few demo jobs, and print the address of the page that shows them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import typer

from hobbyhorse.cli.listening import listen
from hobbyhorse.cli.options import ContractsOption, load_contracts
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import announce, serve

# The API key of the jobs, which is the name of their world.
KEY = "demo"
# Seconds in which every job of a real provider ends.
LONG = 1_200
# Polls of one job: enough for a fold in its time line.
POLLS = 4
# A request takes milliseconds; the video of a busy machine some seconds.
MOST_SECONDS = 60.0


def command(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 picks a free one.")] = 8000,
    contracts: ContractsOption = None,
) -> None:
    """Serve with a few demo jobs, and print the address of the page that shows them."""
    loaded = load_contracts(contracts)
    fake = Fake(loaded, Options(pace="realistic"))

    def order(url: str) -> None:
        world = fake.worlds.of(KEY)
        assert world is not None
        announce(url)
        typer.echo(f"The page: {url}/_mock/ui/worlds/{world.handle}", err=True)
        typer.echo("Press Ctrl-C to stop.", err=True)
        threading.Thread(target=run_demo, args=(loaded, url), daemon=True).start()

    serve(fake, listen("127.0.0.1", port), order)


def run_demo(contracts: Sequence[Contract], url: str) -> None:
    """Use every part of a server: jobs that ended, failed, are repeated and run; faults, mistakes and callbacks."""
    with httpx.Client(timeout=MOST_SECONDS, trust_env=False) as http, _receiver() as callback_url:
        control = _Control(http, url)
        control.send("PATCH", "settings", {"label": "demo"})
        for contract in contracts:
            _use(control, ContractClient(contract, f"{url}/{contract.key}", KEY, http), callback_url)
        # Only these jobs run on in real time.
        control.send("PUT", "clock", {"speed": 1})
        control.send("POST", "scenarios/arm", {"scenario": "job_stuck_pending"})
        for contract in contracts:
            _submit(ContractClient(contract, f"{url}/{contract.key}", KEY, http))


class _Control:
    """The control plane, for the world of the demo."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http, self.url = http, url

    def send(self, method: str, path: str, body: dict[str, Any]) -> None:
        """Send a request."""
        headers = {"authorization": f"Bearer {KEY}"}
        self._http.request(method, f"{self.url}/_mock/{path}", json=body, headers=headers).raise_for_status()

    def mistake(self, path: str) -> None:
        """Request a path that is not an operation of a provider, with every header that may carry a key."""
        headers = {"authorization": f"Bearer {KEY}", "x-api-key": KEY}
        self._http.get(f"{self.url}/{path}", headers=headers)

    def get(self, url: str) -> None:
        """Fetch a URL without a key, such as that of a video."""
        self._http.get(url)


def _use(control: _Control, client: ContractClient, callback_url: str) -> None:
    """Submit, poll, repeat and mistake."""
    control.send("PUT", "clock", {"speed": 0})
    first = _submit(client, callback_url)
    for _ in range(POLLS):
        control.send("POST", "clock/advance", {"seconds": 7})
        client.call("status", path={"job": first})
    # The same order once more, as after a response that was lost.
    control.send("POST", "scenarios/arm", {"scenario": "status_server_error"})
    second = _submit(client, callback_url)
    client.call("status", path={"job": second})
    client.call("status", path={"job": f"{second}x"})
    control.send("POST", "clock/advance", {"seconds": LONG})
    for job in (first, second):
        done = client.call("result" if "result" in client.contract.operations else "status", path={"job": job})
        if (video := done.reading.values.get("video_url")) is not None:
            control.get(str(video))
    control.mistake(f"{client.contract.key}/v1/jobs/{first}/video")
    failure = client.contract.graph.ending("failure")
    if failure is not None:
        control.send("POST", "jobs/end-next", {"stage": failure.name})
        failed = _submit(client)
        control.send("POST", "clock/advance", {"seconds": LONG})
        client.call("status", path={"job": failed})


def _submit(client: ContractClient, callback_url: str | None = None) -> str:
    """Submit the first documented job; return its id, or "" if the response has none."""
    contract = client.contract
    operation, model, body = next(one for one in documented_jobs(contract) if one[0].role == "submit")
    place = operation.bindings.get("callback_url")
    for part in place.request if place is not None and callback_url is not None else ():
        if part.part == "body":
            body = replaced(body, part.pointer, callback_url)
    return str(client.call(operation.role, path={"model": model.id}, body=body).reading.values.get("job", ""))


@contextmanager
def _receiver() -> Iterator[str]:
    """Receive callbacks: refuse the first, acknowledge the others. Yields the URL."""
    seen: list[str] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append(self.path)
            self.send_response(503 if len(seen) == 1 else 204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/callback"
        server.shutdown()
