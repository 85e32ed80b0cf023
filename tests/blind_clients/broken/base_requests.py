"""Good clients that use requests."""

import time
from typing import Any

import requests
from base_core import Client, NetworkError, NotSent, Reply
from base_providers import Hiapi, Runcomfy, Runflow, Vtrix
from urllib3.exceptions import HTTPError, NewConnectionError


def never_sent(error: Exception) -> bool:
    """Whether no connection was made."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


class Requests(Client):
    """Exchanges over requests: no proxies, no netrc, no redirects, and a limit for the whole of each exchange."""

    def open(self) -> None:
        self.http = requests.Session()
        self.http.trust_env = False

    def close(self) -> None:
        self.http.close()

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit: float) -> Reply:
        until = time.monotonic() + limit
        try:
            timeout = (10.0, self.request_timeout)
            with self.http.request(
                method, url, headers=headers, data=body, timeout=timeout, stream=True, allow_redirects=False
            ) as response:
                names = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status_code, names, self.read(response, until))
        except (requests.RequestException, HTTPError) as error:
            raise (NotSent if never_sent(error) else NetworkError)(repr(error)) from error

    def sink(self, response: Any) -> bytearray:
        return bytearray()

    def read(self, response: Any, until: float) -> bytes:
        data = self.sink(response)
        while chunk := response.raw.read1(65536, decode_content=True):
            data += chunk
            if time.monotonic() > until:
                raise NetworkError("the response takes too long")
        return bytes(data)


class HiapiRequests(Hiapi, Requests): ...


class RuncomfyRequests(Runcomfy, Requests): ...


class RunflowRequests(Runflow, Requests): ...


class VtrixRequests(Vtrix, Requests): ...
