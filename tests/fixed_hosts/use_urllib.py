"""A client with fixed hosts, with urllib."""

from __future__ import annotations

import urllib.request

from flow import run


def send(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
    """Send a request."""
    request = urllib.request.Request(url, data=body or None, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        content: bytes = response.read()
        return content


run(send)
