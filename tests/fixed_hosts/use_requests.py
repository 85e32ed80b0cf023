"""A client with fixed hosts, with requests."""

from __future__ import annotations

import requests
from flow import run

with requests.Session() as session:

    def send(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
        """Send a request."""
        response = session.request(method, url, headers=headers, data=body or None, timeout=30)
        response.raise_for_status()
        return response.content

    run(send)
