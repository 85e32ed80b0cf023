"""A client with fixed hosts, with httpx."""

from __future__ import annotations

import httpx
from flow import run

with httpx.Client(timeout=30) as client:

    def send(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
        """Send a request."""
        return client.request(method, url, headers=headers, content=body or None).raise_for_status().content

    run(send)
