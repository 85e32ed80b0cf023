"""Good clients that use httpx."""

import time

import httpx
from base_core import Client, NetworkError, NotSent, Reply
from base_providers import Hiapi, Runcomfy, Runflow, Vtrix

REFUSED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Httpx(Client):
    """Exchanges over httpx: no proxies, no redirects, and a limit for the whole of each exchange."""

    def open(self) -> None:
        self.http = httpx.Client(timeout=httpx.Timeout(self.request_timeout, connect=10.0), trust_env=False)

    def close(self) -> None:
        self.http.close()

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit: float) -> Reply:
        until = time.monotonic() + limit
        try:
            with self.http.stream(method, url, headers=headers, content=body) as response:
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


class HiapiHttpx(Hiapi, Httpx): ...


class RuncomfyHttpx(Runcomfy, Httpx): ...


class RunflowHttpx(Runflow, Httpx): ...


class VtrixHttpx(Vtrix, Httpx): ...
