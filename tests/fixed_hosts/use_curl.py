"""A client with fixed hosts, with the command curl."""

from __future__ import annotations

import subprocess

from flow import run


def send(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
    """Send a request."""
    fields = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
    sent = ["--data-binary", "@-"] if body else []
    argv = ["curl", "--fail", "--silent", "--show-error", "--max-time", "30", "--request", method, *fields, *sent, url]
    return subprocess.run(argv, input=body, stdout=subprocess.PIPE, check=True).stdout


run(send)
