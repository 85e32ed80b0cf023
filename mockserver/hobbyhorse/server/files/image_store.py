"""Input images: decoded or fetched, checked against the provider's limits, and stored on disk by their hash."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, urljoin

import httpx

from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.contract.request import Order
from hobbyhorse.media.picture import MOST_PIXELS, OURS, PictureError
from hobbyhorse.server.files.cache import ABANDONED_SECONDS
from hobbyhorse.server.files.decoding import DECODE_SECONDS, LARGE, LARGE_PIXELS, Checked, check_and_store
from hobbyhorse.server.files.fixtures import fixture_image, fixture_images
from hobbyhorse.server.files.image_sources import (
    STORED_PREFIX,
    FetchPolicy,
    Source,
    classify,
    fixture_name,
    host_of,
    split,
)
from hobbyhorse.server.files.large_bodies import spooled_name
from hobbyhorse.server.files.picture_shelf import PictureShelf
from hobbyhorse.server.metrics.counters import Counters
from hobbyhorse.server.worker.error import WorkerError
from hobbyhorse.server.worker.names import Names, response_from
from hobbyhorse.server.worker.pool import WorkerPool
from hobbyhorse.server.worker.turns import Turns

# For a model that documents no limit: as much as a request body, so that links and inline images have the same bound.
MOST_PICTURE_BYTES = 64 * 1024 * 1024
# For the whole fetch with its redirects, but for the lookups: longer than any CDN takes. The job is held meanwhile.
SECONDS = 10.0
# A CDN redirects once or twice; a loop must end.
MOST_REDIRECTS = 5
# Fetches of one key at a time; each may hold a whole picture in memory.
MOST_FETCHES_OF_KEY = 4
# Addresses of one host that are tried: two are usual, and they share the time of the fetch.
MOST_ADDRESSES = 4
# Bytes of all stored images: thousands of photos.
MOST_BYTES = 1 << 30
STORED = "stored"
"""The outcome of an image that is kept; that of any other is the code of its refusal."""
# All that may stand in a URL; everything else in a redirect is encoded.
URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%-._~"


class ImageStore:
    """The stored images of one server, by the hash of their bytes."""

    def __init__(
        self,
        directory: Path,
        policy: FetchPolicy,
        workers: WorkerPool | None = None,
        counters: Counters | None = None,
        *,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Make a store in a directory, which may have images of an earlier server; keep at most `most_bytes` bytes."""
        self._directory = directory
        self._policy = policy
        self._workers = workers or WorkerPool()
        self._turns = Turns()
        self._names = Names()
        self._counters = counters or Counters()
        self.shelf = PictureShelf(most_bytes)
        # Held while an image is put on the shelf, or taken from it, by one of several threads.
        self._shelving = threading.Lock()
        self._is_listed = False
        self.waiting = 0
        """The images that are being fetched or checked, or await their turn."""

    async def take(
        self,
        order: Order,
        origin: str,
        sources: frozenset[Source],
        owner: str = "",
        *,
        spooled: Mapping[str, Path] | None = None,
    ) -> Order:
        """Store the order's images from the given sources, and return the order with their stored names.

        `owner` is the handle of the order's world, whose images are decoded one after another. `spooled` has the
        files of its long data URIs. Raises PictureError for the first image that is not usable.
        """
        urls = [url for url in (order.first_frame, *order.references) if url]
        wanted = [url for url in urls if self._classify(url, origin) in sources]
        stored: dict[str, str] = {}
        for url in wanted:
            file = (spooled or {}).get(spooled_name(url) or "")
            stored[url] = await self._take(url, order, origin, owner, file)
        first = order.first_frame
        return replace(
            order,
            first_frame=stored.get(first, first) if first else first,
            references=tuple(stored.get(url, url) for url in order.references),
        )

    async def try_take(
        self,
        order: Order,
        origin: str,
        sources: frozenset[Source],
        owner: str = "",
        *,
        spooled: Mapping[str, Path] | None = None,
    ) -> Order | PictureError:
        """Do as `take`, but return the error, because a caller that names its class would import Pillow."""
        try:
            return await self.take(order, origin, sources, owner, spooled=spooled)
        except PictureError as error:
            return error

    def read(self, name: str) -> bytes:
        """Return the bytes of a stored image. Raises FileNotFoundError if it had to go."""
        path = self._directory / name.removeprefix(STORED_PREFIX)
        data = path.read_bytes()
        with suppress(FileNotFoundError), self._shelving:
            self.shelf.use(name)
            # The next server on a kept directory continues the order.
            os.utime(path)
        return data

    def _shelve(self, name: str, owner: str) -> None:
        """Put a stored image on the shelf, and remove images for which there is no more room."""
        with self._shelving:
            gone: list[str] = []
            if not self._is_listed:
                self._is_listed = True
                for _, earlier, size in sorted(self._earlier()):
                    gone += self.shelf.add(earlier, size, "")
            path = self._directory / name.removeprefix(STORED_PREFIX)
            try:
                os.utime(path)
                size = path.stat().st_size
            except FileNotFoundError:  # another process has removed it
                return
            for one in {*gone, *self.shelf.add(name, size, owner)} - {name}:
                (self._directory / one.removeprefix(STORED_PREFIX)).unlink(missing_ok=True)

    def _earlier(self) -> Iterator[tuple[float, str, int]]:
        """Yield last use, name and size of the images that an earlier server has left; remove unfinished ones."""
        for path in self._directory.iterdir():
            name = STORED_PREFIX + path.name
            with suppress(FileNotFoundError):
                found = path.stat()
                if self.has(name):
                    yield found.st_mtime, name, found.st_size
                elif self.has(STORED_PREFIX + path.stem) and time.time() - found.st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    @staticmethod
    def has(name: str) -> bool:
        """Whether a name has the format of a stored name. No other name may become a path."""
        return re.fullmatch(f"{STORED_PREFIX}[0-9a-f]{{64}}", name) is not None

    def _classify(self, url: str, origin: str) -> Source:
        return classify(url, self._policy, origin)

    async def _take(self, url: str, order: Order, origin: str, owner: str, file: Path | None) -> str:
        """Store an image, and count it. Raises PictureError."""
        self.waiting += 1
        try:
            name = await self._taken(url, order, origin, owner, file)
        except PictureError as error:
            self._counters.images[(error.code,)] += 1
            raise
        finally:
            self.waiting -= 1
        self._counters.images[(STORED,)] += 1
        await asyncio.to_thread(self._shelve, name, owner)
        return name

    async def _taken(self, url: str, order: Order, origin: str, owner: str, file: Path | None) -> str:
        source, limits = self._classify(url, origin), order.model.images
        most = limits.most_bytes if limits and limits.most_bytes else MOST_PICTURE_BYTES
        given: str | bytes | Path = url if file is None else file
        if source is Source.FIXTURE:
            given = await asyncio.to_thread(_fixture, fixture_name(url, origin) or "")
        elif source is not Source.INLINE:
            async with self._turns.of(("fetch", owner), MOST_FETCHES_OF_KEY):
                given = await self._fetch(url, most, owner)
        checked = await self._check(given, limits, owner, LARGE_PIXELS)
        if checked.code == LARGE:
            async with self._turns.of(LARGE, 1):
                checked = await self._check(given, limits, owner, MOST_PIXELS)
        if checked.code:
            raise PictureError(checked.code, checked.message)
        return STORED_PREFIX + checked.name

    async def _check(
        self, given: str | bytes | Path, limits: PictureLimits | None, owner: str, most_pixels: int
    ) -> Checked:
        """Have a worker process check a picture and store it. Raises PictureError if that costs too much."""
        work = (check_and_store, given, limits, self._directory, most_pixels)
        try:
            found: Checked = await self._workers.run(owner, *work, seconds=DECODE_SECONDS)
        except WorkerError as error:
            ours = f" ({OURS})" if error.code in ("time", "memory") else ""
            raise PictureError("decoding", f"the picture cannot be decoded: {error}{ours}") from None
        return found

    async def _fetch(self, url: str, most: int, owner: str) -> bytes:
        try:
            return await self._follow(url, most, owner)
        except (asyncio.TimeoutError, TimeoutError):
            raise PictureError("timeout", f"{_short(url)} did not respond completely within {SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise PictureError("unreachable", f"{_short(url)} cannot be fetched: {words}") from None

    async def _follow(self, url: str, most: int, owner: str) -> bytes:
        """Fetch a URL and follow its redirects, checking each against the policy."""
        left = SECONDS
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS, verify=_tls()) as client:
            for _ in range(MOST_REDIRECTS + 1):
                addresses = await self._addresses(url, owner)
                began = time.monotonic()
                found = await asyncio.wait_for(_get(client, url, addresses, most), left)
                if isinstance(found, bytes):
                    return found
                url, left = found, left - (time.monotonic() - began)
        raise PictureError("redirects", f"{_short(url)}: more than {MOST_REDIRECTS} redirects")

    async def _addresses(self, url: str, owner: str) -> Sequence[str]:
        """Return the addresses of a URL that may be fetched from. The URL may later resolve to others."""
        parts = split(url)
        if parts is None or not self._policy.allows(url):
            raise PictureError("not_allowed", f"{_short(url)} may not be fetched; --fetch-from HOST allows a host")
        host = host_of(parts)
        try:
            every = await self._names.addresses(owner, host)
        except TimeoutError as error:
            raise PictureError("timeout", f"{_short(url)} cannot be fetched: {error}") from None
        addresses = [address for address in every if self._policy.allows_address(host, address)][:MOST_ADDRESSES]
        if not addresses:
            raise PictureError("not_allowed", f"{_short(url)} is at {every[0]}, which may not be fetched from")
        return addresses


async def _get(client: httpx.AsyncClient, url: str, addresses: Sequence[str], most: int) -> bytes | str:
    """Return the bytes at a URL, or the URL to which it redirects; requests only the given addresses."""
    # Raw bytes, because a compressed body could unpack to gigabytes.
    request = client.build_request("GET", url, headers={"accept-encoding": "identity"})
    async with response_from(client, request, addresses, SECONDS) as response:
        if response.has_redirect_location:
            # A browser and curl encode a space, or an umlaut, that stands there raw.
            return urljoin(url, quote(response.headers["location"].strip(), safe=URL_CHARACTERS))
        if response.status_code != 200:
            raise PictureError("status", f"{_short(url)} responds with status {response.status_code}; allowed: 200")
        return await _read(response, url, most)


async def _read(response: httpx.Response, url: str, most: int) -> bytes:
    if (coding := response.headers.get("content-encoding", "identity")) != "identity":
        raise PictureError("coding", f"{_short(url)} responds with Content-Encoding {coding!r}; requested: identity")
    received = bytearray()
    async for chunk in response.aiter_raw():
        received += chunk
        if len(received) > most:
            raise PictureError("bytes", f"{_short(url)} is too large; allowed: at most {most} bytes")
    return bytes(received)


def _fixture(name: str) -> bytes:
    path = fixture_image(name)
    if path is None:
        raise PictureError("not_found", f"unknown picture {name[:100]!r}; known: {', '.join(fixture_images())}")
    return path.read_bytes()


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Return the TLS context of all fetches; making one takes 20 ms."""
    return httpx.create_ssl_context(trust_env=False)


def _short(url: str) -> str:
    return url if len(url) <= 120 else f"{url[:100]}…"
