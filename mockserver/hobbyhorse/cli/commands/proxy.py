"""`hobbyhorse proxy`: a proxy between a client and a provider, its socket and its signals."""

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

SWITCH_SECONDS = 0.001
"""How soon the thread that judges lets go: what goes by waits for it."""


def command(
    provider: ProviderOption,
    upstream: Annotated[
        str, typer.Option("--upstream", metavar="URL", help="The provider's base URL, where everything goes.")
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 picks a free one.")] = 0,
    har: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what went by here at the end, without secrets.")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The address of this proxy in the upstream's answers, if it is.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with status 1 if there are findings.")] = False,
    contracts: ContractsOption = None,
) -> None:
    """Pass everything on unchanged, and say on stderr what of it is not as the contract says; Ctrl-C stops.

    Exit status 0: stopped; 1: with --strict, findings; 2: it cannot run.
    """
    contract = one_of(load_contracts(contracts), provider)
    path = _origin_and_path("--upstream", upstream)[1]
    public = _origin_and_path("--public-url", public_url)[0] if public_url is not None else None
    if har is not None and (har.is_dir() or not har.absolute().parent.is_dir()):
        raise UsageError(f"--har {str(har)!r} is no file that can be written")
    bound = listen(host, port)
    to = Upstream.of(upstream, httpx.create_ssl_context)
    if _leads_to(to, bound):
        bound.close()
        raise UsageError(
            f"--upstream {upstream!r} is this proxy itself; it would pass everything on to itself for ever"
        )
    own = public or address(bound)
    base = public + path if public is not None else upstream.rstrip("/")
    watch = LiveJudge(contract, base, lambda finding: complain(str(finding)), complain)

    def ready() -> None:
        print(json.dumps({"url": own + path, "pid": os.getpid()}), flush=True)
        complain(f"{own}{path} passes on to {upstream}, held against {contract.name}'s contract; Ctrl-C stops")

    sys.setswitchinterval(SWITCH_SECONDS)
    _run(to, bound, watch, ready)
    written = har is None or _write(watch, har)
    complain(f"{watch.total} exchanges, {watch.findings} findings")
    raise typer.Exit(1 if (strict and watch.findings) or not written else 0)


def _origin_and_path(option: str, url: str) -> tuple[str, str]:
    """Return the origin of an address, and its path without a last slash. Raises Wrong."""
    parts = split(url)
    if parts is None or parts.query or parts.fragment or "@" in parts.netloc:
        shown = urlsplit(url).netloc.rpartition("@")[2] if "@" in url else url
        raise UsageError(f"{option} {shown!r}; it is http:// or https://, a host, and perhaps a path")
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")


def _leads_to(upstream: Upstream, bound: socket.socket) -> bool:
    """Whether who connects to an upstream gets to this socket."""
    host, port = bound.getsockname()[:2]
    if upstream.port != port:
        return False
    try:
        found = {ip_address(one[4][0]) for one in socket.getaddrinfo(upstream.host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    own = ip_address(host)
    return any(one == own or (own.is_unspecified and one.is_loopback) for one in found)


def _run(upstream: Upstream, bound: socket.socket, watch: LiveJudge, ready: Callable[[], None]) -> None:
    """Pass on until SIGINT or SIGTERM."""
    watching = LiveJudgeThread(watch, complain)
    passing = Proxy(upstream, watching.seen, complain)
    loop = new_loop()

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await passing.run(bound, ready, stop)

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
        watching.stop()


def _write(watch: LiveJudge, har: Path) -> bool:
    try:
        har.write_text(json.dumps(watch.har(), indent=1))
    except OSError as error:
        complain(f"{har} could not be written: {error.strerror}")
        return False
    return True
