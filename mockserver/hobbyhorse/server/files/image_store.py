"""Input images: decoded or fetched, checked against the provider's limits, and stored on disk by their hash."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import httpx

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.contract.request import Order
from hobbyhorse.media.picture import PictureError, check_picture, data_uri, read_header, read_picture
from hobbyhorse.server.files.image_sources import (
    STORED_PREFIX,
    FetchPolicy,
    Source,
    classify,
    fixture_name,
    host_of,
    split,
)

# For a model that documents no limit: as much as a request body, so that links and inline images have the same bound.
MOST_PICTURE_BYTES = 64 * 1024 * 1024
# For the whole fetch with its redirects: longer than any CDN takes. The job is held meanwhile.
SECONDS = 10.0
# A CDN redirects once or twice; a loop must end.
MOST_REDIRECTS = 5


class ImageStore:
    """The stored images of one server, by the hash of their bytes."""

    def __init__(self, directory: Path, policy: FetchPolicy) -> None:
        self._directory = directory
        self._policy = policy

    async def take(self, order: Order, origin: str, sources: frozenset[Source]) -> Order:
        """Store the order's images from the given sources, and return the order with their stored names.

        Raises PictureError for the first image that is not usable.
        """
        urls = [url for url in (order.first_frame, *order.references) if url]
        stored = {url: await self._take(url, order, origin) for url in urls if self._classify(url, origin) in sources}
        first = order.first_frame
        return replace(
            order,
            first_frame=stored.get(first, first) if first else first,
            references=tuple(stored.get(url, url) for url in order.references),
        )

    async def try_take(self, order: Order, origin: str, sources: frozenset[Source]) -> Order | PictureError:
        """Do as `take`, but return the error, because a caller that names its class would import Pillow."""
        try:
            return await self.take(order, origin, sources)
        except PictureError as error:
            return error

    def read(self, name: str) -> bytes:
        """Return the bytes of a stored image."""
        return (self._directory / name.removeprefix(STORED_PREFIX)).read_bytes()

    @staticmethod
    def has(name: str) -> bool:
        """Whether a name has the format of a stored name. No other name may become a path."""
        return re.fullmatch(f"{STORED_PREFIX}[0-9a-f]{{64}}", name) is not None

    def _classify(self, url: str, origin: str) -> Source:
        return classify(url, self._policy, origin)

    async def _take(self, url: str, order: Order, origin: str) -> str:
        source, limits = self._classify(url, origin), order.model.images
        most = limits.most_bytes if limits and limits.most_bytes else MOST_PICTURE_BYTES
        if source is Source.INLINE:
            data = await asyncio.to_thread(data_uri, url)
        elif source is Source.FIXTURE:
            data = await asyncio.to_thread(_fixture, fixture_name(url, origin) or "")
        else:
            data = await self._fetch(url, most)
        return await asyncio.to_thread(self._store, data, limits)

    def _store(self, data: bytes, limits: PictureLimits | None) -> str:
        """Check an image and write it to the store; return its stored name."""
        # The declared size is checked before the image is decoded: a few kilobytes can decode to gigabytes.
        if limits is not None:
            check_picture(read_header(data), limits)
        read_picture(data)
        name = hashlib.sha256(data).hexdigest()
        path = self._directory / name
        if not path.exists():
            # Written aside and renamed: a concurrent request never reads half a file. The id keeps two writers apart.
            aside = path.with_suffix(f".{id(data):x}")
            aside.write_bytes(data)
            aside.replace(path)
        return STORED_PREFIX + name

    async def _fetch(self, url: str, most: int) -> bytes:
        try:
            return await asyncio.wait_for(self._follow(url, most), SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            raise PictureError("timeout", f"{_short(url)} did not respond completely within {SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise PictureError("unreachable", f"{_short(url)} cannot be fetched: {words}") from None

    async def _follow(self, url: str, most: int) -> bytes:
        """Fetch a URL and follow its redirects, checking each against the policy."""
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
            for _ in range(MOST_REDIRECTS + 1):
                async with self._stream(client, url) as response:
                    if response.has_redirect_location:
                        url = urljoin(url, response.headers["location"])
                        continue
                    if response.status_code != 200:
                        raise PictureError(
                            "status", f"{_short(url)} responds with status {response.status_code}; allowed: 200"
                        )
                    return await _read(response, url, most)
        raise PictureError("redirects", f"{_short(url)}: more than {MOST_REDIRECTS} redirects")

    @asynccontextmanager
    async def _stream(self, client: httpx.AsyncClient, url: str) -> AsyncIterator[httpx.Response]:
        """Request a URL at the checked address, because its name may later resolve to another address."""
        parts = split(url)
        if parts is None or not self._policy.allows(url):
            raise PictureError("not_allowed", f"{_short(url)} may not be fetched; --fetch-from HOST allows a host")
        host = host_of(parts)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if not self._policy.allows_address(host, address):
                raise PictureError("not_allowed", f"{_short(url)} is at {address}, which may not be fetched from")
        pinned = httpx.URL(url).copy_with(host=addresses[0])
        headers = {"host": parts.netloc.rpartition("@")[2]}
        async with client.stream("GET", pinned, headers=headers, extensions={"sni_hostname": host}) as response:
            yield response


async def _read(response: httpx.Response, url: str, most: int) -> bytes:
    received = bytearray()
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) > most:
            raise PictureError("bytes", f"{_short(url)} is too large; allowed: at most {most} bytes")
    return bytes(received)


def _fixture(name: str) -> bytes:
    path = data_directory("fixtures") / "images" / name
    try:
        return path.read_bytes()
    except OSError:
        known = ", ".join(sorted(found.name for found in path.parent.glob("*.*")))
        raise PictureError("not_found", f"unknown picture {name!r}; known: {known}") from None


def _short(url: str) -> str:
    return url if len(url) <= 120 else f"{url[:100]}…"
