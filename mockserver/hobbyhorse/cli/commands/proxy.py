"""`hobbyhorse proxy`: check the options, then run the proxy and its judge until a signal. Knows no HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer

from hobbyhorse.cli.listening import listen
from hobbyhorse.cli.options import ContractsOption, ProviderOption, load_contracts, one_of
from hobbyhorse.cli.usage import UsageError, complain
from hobbyhorse.proxy.live_judge import LiveJudge, LiveJudgeThread
from hobbyhorse.proxy.proxy import Proxy, Upstream, new_loop
from hobbyhorse.server.files.image_sources import split
from hobbyhorse.server.run import address
from hobbyhorse.traces.har_writing import write_private

# While the judge's thread holds the interpreter lock, forwarded bytes wait for at most this long. Python's default is
# 5 ms, more than the 2 ms that the proxy may add to an exchange.
SWITCH_SECONDS = 0.001
NETWORK, RESULTS = "Network", "Results"


def command(
    *,
    provider: ProviderOption,
    upstream: Annotated[
        str,
        typer.Option("--upstream", metavar="URL", help="Forward to this base URL.", rich_help_panel=NETWORK),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.", rich_help_panel=NETWORK)] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 picks a free one.", rich_help_panel=NETWORK)
    ] = 0,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The URL of this proxy in the upstream's responses, if the upstream knows it.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    har: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="At the end, write the traffic to FILE, without secrets.", rich_help_panel=RESULTS
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option(help="Exit with status 1 if there are findings.", rich_help_panel=RESULTS)
    ] = False,
    contracts: ContractsOption = None,
) -> None:
    """Forward traffic unchanged, and report violations of the contract on stderr. Ctrl-C stops.

    Exit status 0: stopped; 1: the HAR file cannot be written, or, with --strict, findings; 2: the proxy cannot run.
    """
    contract = one_of(load_contracts(contracts), provider)
    path = _origin_and_path("--upstream", upstream)[1]
    public = _origin_and_path("--public-url", public_url)[0] if public_url is not None else None
    # Checked now, because the file is written only after the traffic, which cannot be repeated.
    if har is not None and (har.is_dir() or not har.absolute().parent.is_dir()):
        raise UsageError(f"--har: {str(har)!r} cannot be written: it is a directory, or its directory does not exist")
    bound = listen(host, port)  # before _leads_to, which has to know a port that the system picks
    to = Upstream.of(upstream, httpx.create_ssl_context)
    if _leads_to(to, bound):
        bound.close()
        raise UsageError(f"--upstream is {upstream!r}, which is this proxy itself; allowed: another server")
    own = public or address(bound)
    # Links in the responses are judged by this base URL: the upstream's, unless the upstream writes the proxy's.
    base = public + path if public is not None else upstream.rstrip("/")
    judge = LiveJudge(contract, base, lambda finding: complain(str(finding)), complain)

    def ready() -> None:
        print(json.dumps({"url": own + path, "pid": os.getpid()}), flush=True)
        complain(f"{own}{path} forwards to {upstream}, and checks {contract.name}'s contract; Ctrl-C stops")

    sys.setswitchinterval(SWITCH_SECONDS)
    _run(to, bound, judge, ready)
    is_written = har is None or _write_har(judge, har)
    complain(f"{judge.total} exchanges, {judge.findings} findings")
    raise typer.Exit(1 if (strict and judge.findings) or not is_written else 0)


def _origin_and_path(option: str, url: str) -> tuple[str, str]:
    """Return the origin of a URL, and its path without a trailing slash. Raises UsageError."""
    parts = split(url)
    if parts is None or parts.query or parts.fragment or "@" in parts.netloc:
        # Without a user and password: messages end up in logs.
        shown = urlsplit(url).netloc.rpartition("@")[2] if "@" in url else url
        raise UsageError(f"{option} is {shown!r}; allowed: http:// or https://, a host, and optionally a path")
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")


def _leads_to(upstream: Upstream, bound: socket.socket) -> bool:
    """Whether a connection to an upstream arrives at this socket."""
    host, port = bound.getsockname()[:2]
    if upstream.port != port:
        return False
    try:
        found = {ip_address(one[4][0]) for one in socket.getaddrinfo(upstream.host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False  # a name that cannot be resolved now may be known when a client connects
    own = ip_address(host)
    return any(one == own or (own.is_unspecified and one.is_loopback) for one in found)


def _run(upstream: Upstream, bound: socket.socket, judge: LiveJudge, ready: Callable[[], None]) -> None:
    """Forward until SIGINT or SIGTERM."""
    thread = LiveJudgeThread(judge, complain)
    server = Proxy(upstream, thread.seen, complain)
    loop = new_loop()

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await server.run(bound, ready, stop)

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
        thread.stop()


def _write_har(judge: LiveJudge, har: Path) -> bool:
    try:
        write_private(har, json.dumps(judge.har(), indent=1))
    except OSError as error:
        complain(f"{har} could not be written: {error.strerror}")
        return False
    return True
