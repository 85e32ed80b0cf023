"""The latency that the proxy adds to an exchange: `python -m benchmarks.proxy`."""

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

# 4,000 exchanges make a stable 99th percentile; 40 alternating turns spread the machine's slow phases over both.
EXCHANGES, TURNS = 4_000, 40
BODY = json.dumps({"id": "a", "state": "under way", "text": "x" * 500})


def main() -> None:
    """Print the median and the 99th percentile of an exchange with a bare server, directly and through the proxy."""
    contract = load_all()[0]
    operation = contract.operations["status"]
    path = f"/{contract.key}{operation.path}".replace("{", "").replace("}", "")
    with started(uvicorn("bare:app"), {"BODY": BODY}) as bare:
        command = (str(BIN / "hobbyhorse"), "proxy", "--provider", contract.key, "--upstream")
        with started((*command, f"{bare.url}/{contract.key}")) as proxy:
            direct, proxied = _in_turns(bare.url, proxy.url, path)
    added = (statistics.median(proxied) - statistics.median(direct)) * 1000
    show(
        f"An exchange on a persistent connection, {EXCHANGES:,} each, in turns, with live judging",
        [
            ("", "median ms", "99th percentile ms"),
            *(
                (name, f"{statistics.median(one) * 1e3:.3f}", f"{_percentile_99(one) * 1e3:.2f}")
                for name, one in (("bare server", direct), ("through the proxy", proxied))
            ),
        ],
        Bound("added to the median, in ms,", added, limit=2, target=0.5),
    )


def _percentile_99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


def _in_turns(direct: str, proxied: str, path: str) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    with _connected(direct) as one, _connected(proxied) as other:
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
    """Send a request and read its response; return the seconds. A bare socket: a client's own time would dominate."""
    sent = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-123456\r\n\r\n".encode()
    began = time.perf_counter()
    connection.sendall(sent)
    got = b""
    while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < len(BODY):
        got += connection.recv(1 << 16)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(run(main))
