"""Good clients that use aiohttp, on an event loop of their own."""

import asyncio

import aiohttp
from base_core import Client, NetworkError, NotSent, Reply
from base_providers import Hiapi, Runcomfy, Runflow, Vtrix
from yarl import URL


class Aiohttp(Client):
    """Exchanges over aiohttp: no proxies, no redirects, and a limit for the whole of each exchange."""

    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.http: aiohttp.ClientSession | None = None

    def close(self) -> None:
        if self.http:
            self.loop.run_until_complete(self.http.close())
        self.loop.close()

    def sleep(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit: float) -> Reply:
        try:
            return self.loop.run_until_complete(self.exchange(method, url, headers, body, limit))
        except aiohttp.ClientConnectorError as error:
            raise NotSent(repr(error)) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            raise NetworkError(repr(error)) from error

    def session(self) -> aiohttp.ClientSession:
        if self.http is None:
            self.http = aiohttp.ClientSession(trust_env=False)
        return self.http

    def address(self, url: str) -> URL:
        return URL(url, encoded=True)

    async def exchange(self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit: float) -> Reply:
        timeout = aiohttp.ClientTimeout(total=limit, sock_connect=10.0, sock_read=self.request_timeout)
        async with self.session().request(
            method, self.address(url), headers=headers, data=body, timeout=timeout, allow_redirects=False
        ) as response:
            names = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, names, await response.read())


class HiapiAiohttp(Hiapi, Aiohttp): ...


class RuncomfyAiohttp(Runcomfy, Aiohttp): ...


class RunflowAiohttp(Runflow, Aiohttp): ...


class VtrixAiohttp(Vtrix, Aiohttp): ...
