"""Good clients that use urllib."""

import http.client
import socket
import time
import urllib.error
import urllib.request
import zlib
from typing import Any

from base_core import Client, NetworkError, NotSent, Reply
from base_providers import Hiapi, Runcomfy, Runflow, Vtrix


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Return a redirect as it is."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Urllib(Client):
    """Exchanges over urllib: no proxies, no redirects, and a limit for the whole of each exchange."""

    handlers: tuple[Any, ...] = (NoRedirect,)

    def open(self) -> None:
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *self.handlers)

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit: float) -> Reply:
        until = time.monotonic() + limit
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            try:
                response = self.opener.open(
                    urllib.request.Request(url, body, headers, method=method), timeout=self.request_timeout
                )
            except urllib.error.HTTPError as error:
                response = error
            with response:
                data = self.read(response, until)
                return Reply(response.status or 0, self.names(response), self.decode(response, data))
        except urllib.error.URLError as error:
            refused = isinstance(error.reason, ConnectionRefusedError | socket.gaierror)
            raise (NotSent if refused else NetworkError)(repr(error)) from error
        except (OSError, http.client.HTTPException, ValueError, zlib.error) as error:
            raise NetworkError(repr(error)) from error

    def names(self, response: Any) -> dict[str, str]:
        return {name.lower(): value for name, value in response.headers.items()}

    def size(self, response: Any) -> int | None:
        length = response.headers.get("Content-Length", "")
        chunked = response.headers.get("Transfer-Encoding")
        return int(length) if length.isascii() and length.isdigit() and not chunked else None

    def read(self, response: Any, until: float) -> bytes:
        data, size = bytearray(), self.size(response)
        while size is None or len(data) < size:
            chunk = response.read1(65536)
            if not chunk:
                break
            data += chunk
            if time.monotonic() > until:
                raise NetworkError("the response takes too long")
        if size is not None and len(data) < size:
            raise NetworkError(f"{len(data)} of {size} bytes")
        return bytes(data)

    def decode(self, response: Any, data: bytes) -> bytes:
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding in ("gzip", "x-gzip", "deflate") and data:
            return zlib.decompress(data, 47)
        return data


class HiapiUrllib(Hiapi, Urllib): ...


class RuncomfyUrllib(Runcomfy, Urllib): ...


class RunflowUrllib(Runflow, Urllib): ...


class VtrixUrllib(Vtrix, Urllib): ...
