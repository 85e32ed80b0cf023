"""Input pictures: decoded from data URIs, fetched from this machine only, drawn where they may not be fetched."""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

import httpx

from hobbyhorse.media.picture import PictureError, data_uri, placeholder, read_picture

MOST_BYTES = 64 * 1024 * 1024
SECONDS = 10.0


async def picture(url: str) -> tuple[bytes, str | None]:
    """Return an encoded picture for a URL, and why it is a placeholder if it is one.

    Nothing is fetched from another machine: in the picture's place stands one that is drawn from its URL.
    """
    try:
        if url.startswith("data:"):
            data = await asyncio.to_thread(data_uri, url)
        elif is_loopback(url):
            data = await _fetch(url)
        else:
            return await _drawn(url), "not fetched: it is on another machine"
        await asyncio.to_thread(read_picture, data)
    except (PictureError, httpx.HTTPError, httpx.InvalidURL) as error:
        return await _drawn(url[:2_000]), f"no picture: {error}"
    return data, None


async def _drawn(url: str) -> bytes:
    return await asyncio.to_thread(placeholder, url)


def is_loopback(url: str) -> bool:
    """Whether an http(s) URL points to this machine by its very spelling; no name is looked up."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _fetch(url: str) -> bytes:
    """Fetch at most MOST_BYTES within SECONDS, following no redirect."""
    received = bytearray()
    async with (
        httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client,
        client.stream("GET", url) as answer,
    ):
        if answer.status_code != 200:
            raise PictureError("not_found", f"{url[:200]} answers {answer.status_code}; it must answer 200")
        async for chunk in answer.aiter_bytes():
            received += chunk
            if len(received) > MOST_BYTES:
                raise PictureError("too_large", f"{url[:200]} has more than {MOST_BYTES} bytes")
    return bytes(received)
