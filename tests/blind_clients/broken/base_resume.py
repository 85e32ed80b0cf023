"""Good clients that continue an interrupted download."""

import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from base_core import REDIRECTS, BadAnswer, NetworkError, Reply
from base_httpx import HiapiHttpx, Httpx, RunflowHttpx, VtrixHttpx


class Resuming(Httpx):
    """Keep the bytes of an interrupted download, and ask for the rest if the file is provably the same."""

    part = bytearray()  # replaced, never changed in place, before the first byte
    etag, path = "", ""

    def forget(self) -> None:
        self.part, self.etag = bytearray(), ""

    def media_headers(self) -> dict[str, str]:
        headers = super().media_headers()
        if self.part and self.etag:
            headers |= {"Range": f"bytes={len(self.part)}-", "If-Range": self.etag}
        return headers

    def fetch(self, url: str) -> Reply:
        if urlsplit(url).path != self.path:
            self.forget()
            self.path = urlsplit(url).path
        for _ in range(6):
            self.check_url(url)
            try:
                with self.http.stream("GET", url, headers=self.media_headers()) as response:
                    if response.status_code not in REDIRECTS or "location" not in response.headers:
                        return self.take(response)
                    url = urljoin(url, response.headers["location"])
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise NetworkError(repr(error)) from error
        raise BadAnswer("too many redirects")

    def fits(self, response: Any) -> bool:
        """Whether a partial response starts where the kept bytes end."""
        return str(response.headers.get("content-range", "")).startswith(f"bytes {len(self.part)}-")

    def start(self, response: Any) -> None:
        self.forget()
        tag = response.headers.get("etag", "")
        self.etag = "" if tag.startswith("W/") or "content-encoding" in response.headers else tag

    def take(self, response: Any) -> Reply:
        until = time.monotonic() + self.media_limit
        if response.status_code == 200:
            self.start(response)
        elif response.status_code != 206 or not self.fits(response):
            self.forget()
            return Reply(response.status_code, dict(response.headers), b"")
        for chunk in response.iter_bytes():
            self.part += chunk
            if time.monotonic() > until:
                raise NetworkError("the response takes too long")
        return Reply(200, dict(response.headers), bytes(self.part))

    def whole(self, reply: Reply) -> bool:
        if super().whole(reply):
            return True
        self.forget()
        return False


class HiapiResuming(Resuming, HiapiHttpx): ...


class RunflowResuming(Resuming, RunflowHttpx): ...


class VtrixResuming(Resuming, VtrixHttpx): ...
