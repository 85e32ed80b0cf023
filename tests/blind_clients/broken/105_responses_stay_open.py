"""Source: openai/openai-python#763: streamed responses are not closed, so the pool runs out of connections."""

import sys
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from base_core import NetworkError, NotSent, Reply, client
from base_httpx import REFUSED, RuncomfyHttpx

PROVIDER = "runcomfy"
FOUND_BY = "After a few responses with an error, the client gets no connection any more, and the paid job is lost."


class Clean(RuncomfyHttpx):
    """It has few connections."""

    def open(self) -> None:
        limits = httpx.Limits(max_connections=3)
        timeout = httpx.Timeout(self.request_timeout, connect=10.0)
        self.http = httpx.Client(timeout=timeout, trust_env=False, limits=limits)


class Broken(Clean):
    def open(self) -> None:
        super().open()
        self.errors: list[Any] = []

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit: float) -> Reply:
        until = time.monotonic() + limit
        try:
            request = self.http.build_request(method, url, headers=headers, content=body)
            response = self.http.send(request, stream=True)
            if response.status_code >= 400:
                chunks = response.iter_bytes()
                self.errors.append((response, chunks))  # for the log, and never closed
                return Reply(response.status_code, dict(response.headers), next(chunks, b""))
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if time.monotonic() > until:
                    raise NetworkError("the response takes too long")
            return Reply(response.status_code, dict(response.headers), bytes(data))
        except REFUSED as error:
            raise NotSent(repr(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NetworkError(repr(error)) from error


broken, clean = client(Broken), client(Clean)
