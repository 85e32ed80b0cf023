"""Status polls and submissions per second, compared with bare ASGI and a framework: `python -m benchmarks.polls`."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.orders import credentials, order, poll
from benchmarks.report import Bound, run, show
from benchmarks.servers import OURS, on_core, started, uvicorn
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract

UNFINISHED, BARE = "hobbyhorse, unfinished job", "bare ASGI callable"
# Short alternating rounds and their median: a slow phase of the machine then affects all servers alike.
ROUNDS = 5
SECONDS = 1
CONNECTIONS = 48  # enough to keep one worker busy all the time
# The cores of the measured server (the others are idle) and of wrk: on one core they would slow each other down.
SERVERS, LOAD = 0, 1

Load = Callable[[], float]


def main() -> None:
    """Print polls and submissions per second, with one uvicorn worker for each server."""
    if shutil.which("wrk") is None:
        print("Status polls: skipped, wrk was not found; install it with: apt-get install wrk\n", flush=True)
        return
    contracts = {contract.key: contract for contract in load_all()}
    chosen = sys.argv[1] if sys.argv[1:] and sys.argv[1] in contracts else next(iter(contracts))
    measure(contracts[chosen])


def measure(contract: Contract) -> None:
    """Measure one provider: polls of an unfinished and of a finished job (longer responses), and submissions."""
    with ExitStack() as stack:

        def serve(command: tuple[str, ...], environment: Mapping[str, str] | None = None) -> str:
            return stack.enter_context(started(on_core(SERVERS, command), environment)).url

        ours = serve(OURS)
        request, body = poll(contract, ours)
        unfinished, _ = poll(contract, serve((*OURS, "--pace", "realistic")))
        path, headers = request.url.path, credentials(contract, request)
        bare = serve(uvicorn("bare:app"), {"BODY": body.decode()})
        framework = serve(uvicorn("framework:app"), {"BODY": body.decode()})
        found = alternate(
            {
                UNFINISHED: lambda: wrk(str(unfinished.url), headers),
                "hobbyhorse, finished job": lambda: wrk(ours + path, headers),
                BARE: lambda: wrk(bare + path, headers),
                "Starlette JSONResponse": lambda: wrk(framework + path, headers),
                "hobbyhorse, submissions": submits(stack, contract, ours),
            }
        )
    ratios = {name: statistics.median(map(float.__truediv__, rates, found[BARE])) for name, rates in found.items()}
    show(
        f"Status polls per second ({contract.name}, {len(body)} bytes); median of {ROUNDS} alternating rounds",
        [
            ("", "a second", "least", "most", "to bare"),
            *(
                (
                    name,
                    *(f"{value:,.0f}" for value in (statistics.median(rates), min(rates), max(rates))),
                    f"{ratios[name]:.2f}",
                )
                for name, rates in found.items()
            ),
        ],
        Bound("ours/bare", ratios[UNFINISHED], limit=0.5, target=0.7, at_least=True),
    )


def alternate(loads: Mapping[str, Load]) -> dict[str, list[float]]:
    """Run the loads in turn for several rounds; the first round is a warm-up."""
    found: dict[str, list[float]] = {name: [] for name in loads}
    for _ in range(1 + ROUNDS):
        for name, load in loads.items():
            found[name].append(load())
    return {name: rates[1:] for name, rates in found.items()}


def submits(stack: ExitStack, contract: Contract, url: str) -> Load:
    """Return the load that submits jobs."""
    request = order(contract, url)
    script = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "submit.lua"
    script.write_text(f'wrk.method = "{request.method}"\nwrk.body = [==[{request.content.decode()}]==]\n')
    headers = {**credentials(contract, request), "content-type": request.headers["content-type"]}
    return lambda: wrk(str(request.url), headers, "-s", str(script))


def wrk(url: str, headers: Mapping[str, str], *options: str) -> float:
    """Return the requests per second of one run of wrk. Raises RuntimeError if a response is not 2xx."""
    given = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    load = ("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *options, *given, url)
    output = subprocess.run(on_core(LOAD, load), capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None or "Non-2xx" in output:
        raise RuntimeError(f"{url}: expected only 2xx responses; wrk printed: {output}")
    return float(rate[1])


if __name__ == "__main__":
    sys.exit(run(main))
