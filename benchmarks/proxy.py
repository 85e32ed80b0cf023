"""What the proxy adds to an exchange: `python -m benchmarks.proxy`."""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
from urllib.parse import urlsplit

from benchmarks.report import Bound, run, show
from benchmarks.servers import BIN, started, uvicorn
from hobbyhorse.contract.folder import load_all

EXCHANGES, TURNS = 4_000, 40
BODY = json.dumps({"id": "a", "state": "under way", "text": "x" * 500})


def main() -> None:
    """Print the median of an exchange with a bare server, with and without the proxy between, turn by turn."""
    contract = load_all()[0]
    operation = contract.operations["status"]
    path = f"/{contract.key}{operation.path}".replace("{", "").replace("}", "")
    with started(uvicorn("bare:app"), {"BODY": BODY}) as bare:
        command = (str(BIN / "hobbyhorse"), "proxy", "--provider", contract.key, "--upstream")
        with started((*command, f"{bare.url}/{contract.key}")) as proxy:
            straight, between = _in_turns(bare.url, proxy.url, path)
    added = (statistics.median(between) - statistics.median(straight)) * 1000
    show(
        f"An exchange on a kept connection, {EXCHANGES:,} each, in turns, judged while they go by",
        [
            ("", "median ms", "of a hundred, 99 below"),
            *(
                (name, f"{statistics.median(one) * 1e3:.3f}", f"{_most(one) * 1e3:.2f}")
                for name, one in (("bare server", straight), ("through the proxy", between))
            ),
        ],
        Bound("added to the median, in ms,", added, limit=2, target=0.5),
    )


def _most(found: list[float]) -> float:
    return statistics.quantiles(found, n=100)[98]


def _in_turns(straight: str, between: str, path: str) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    with _connected(straight) as one, _connected(between) as other:
        for _ in range(TURNS):
            for connection, times in zip((one, other), found, strict=True):
                times += [_exchange(connection, path) for _ in range(EXCHANGES // TURNS)]
    return found


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 80))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exchange(connection: socket.socket, path: str) -> float:
    sent = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-123456\r\n\r\n".encode()
    began = time.perf_counter()
    connection.sendall(sent)
    got = b""
    while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < len(BODY):
        got += connection.recv(1 << 16)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(run(main))
