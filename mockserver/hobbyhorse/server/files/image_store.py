"""Input pictures: decoded, fetched from where that is allowed, checked as the provider does, and kept on disk."""

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
from hobbyhorse.server.files.image_sources import KEPT_PREFIX, FetchPolicy, Source, host_of, own_name, split, tell

MOST_PICTURE_BYTES = 64 * 1024 * 1024
SECONDS = 10.0
MOST_REDIRECTS = 5


class ImageStore:
    """The pictures of one server, by the hash of their bytes."""

    def __init__(self, directory: Path, policy: FetchPolicy) -> None:
        self._directory = directory
        self._policy = policy

    async def take(self, order: Order, origin: str, sources: frozenset[Source]) -> Order:
        """Return the order with those of its pictures taken in that come from the given sources.

        Raises PictureError, in one line that names the bound and what was found, for the first that cannot be used.
        """
        pictures = [url for url in (order.first_frame, *order.references) if url]
        kept = {url: await self._take(url, order, origin) for url in pictures if self._tell(url, origin) in sources}
        first = order.first_frame
        return replace(
            order,
            first_frame=kept.get(first, first) if first else first,
            references=tuple(kept.get(url, url) for url in order.references),
        )

    def read(self, name: str) -> bytes:
        """Return the bytes of a picture that was taken."""
        return (self._directory / name.removeprefix(KEPT_PREFIX)).read_bytes()

    @staticmethod
    def has(name: str) -> bool:
        """Whether a name is one that `take` gives, and nothing else."""
        return re.fullmatch(f"{KEPT_PREFIX}[0-9a-f]{{64}}", name) is not None

    def _tell(self, url: str, origin: str) -> Source:
        return tell(url, self._policy, origin)

    async def _take(self, url: str, order: Order, origin: str) -> str:
        source, limits = self._tell(url, origin), order.model.images
        most = limits.most_bytes if limits and limits.most_bytes else MOST_PICTURE_BYTES
        if source is Source.INLINE:
            data = await asyncio.to_thread(data_uri, url)
        elif source is Source.OWN:
            data = await asyncio.to_thread(_own, own_name(url, origin) or "")
        else:
            data = await self._fetch(url, most)
        return await asyncio.to_thread(self._keep, data, limits)

    def _keep(self, data: bytes, limits: PictureLimits | None) -> str:
        """Check a picture and write it into the gallery; its size is looked at before it is decoded."""
        if limits is not None:
            check_picture(read_header(data), limits)
        read_picture(data)
        name = hashlib.sha256(data).hexdigest()
        path = self._directory / name
        if not path.exists():
            aside = path.with_suffix(f".{id(data):x}")
            aside.write_bytes(data)
            aside.replace(path)
        return KEPT_PREFIX + name

    async def _fetch(self, url: str, most: int) -> bytes:
        try:
            return await asyncio.wait_for(self._follow(url, most), SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            raise PictureError("timeout", f"{_short(url)} did not answer in full within {SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise PictureError("unreachable", f"{_short(url)} cannot be fetched: {words}") from None

    async def _follow(self, url: str, most: int) -> bytes:
        """Fetch an address and those that it redirects to; each is held against the policy anew."""
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
            for _ in range(MOST_REDIRECTS + 1):
                async with self._stream(client, url) as answer:
                    if answer.has_redirect_location:
                        url = urljoin(url, answer.headers["location"])
                        continue
                    if answer.status_code != 200:
                        raise PictureError("status", f"{_short(url)} answers {answer.status_code}; it must answer 200")
                    return await _read(answer, url, most)
        raise PictureError("redirects", f"{_short(url)} comes after {MOST_REDIRECTS} redirects; that is too many")

    @asynccontextmanager
    async def _stream(self, client: httpx.AsyncClient, url: str) -> AsyncIterator[httpx.Response]:
        """Ask the very address that was checked, so that a name cannot mean another one a moment later."""
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
        async with client.stream("GET", pinned, headers=headers, extensions={"sni_hostname": host}) as answer:
            yield answer


async def _read(answer: httpx.Response, url: str, most: int) -> bytes:
    received = bytearray()
    async for chunk in answer.aiter_bytes():
        received += chunk
        if len(received) > most:
            raise PictureError("bytes", f"{_short(url)} has more than {most} bytes; at most {most} are allowed")
    return bytes(received)


def _own(name: str) -> bytes:
    path = data_directory("fixtures") / "images" / name
    try:
        return path.read_bytes()
    except OSError:
        known = ", ".join(sorted(found.name for found in path.parent.glob("*.*")))
        raise PictureError("not_found", f"no picture {name!r} here; there are {known}") from None


def _short(url: str) -> str:
    return url if len(url) <= 120 else f"{url[:100]}…"
