"""A client with fixed hosts, with aiohttp."""

from __future__ import annotations

import asyncio

import aiohttp
from flow import run


async def main() -> None:
    """Run the client; its work waits in a thread for the requests."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(trust_env=True) as session:

        async def request(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
            async with session.request(method, url, headers=headers, data=body or None) as response:
                response.raise_for_status()
                return await response.read()

        def send(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
            return asyncio.run_coroutine_threadsafe(request(method, url, headers, body), loop).result(30)

        await asyncio.to_thread(run, send)


asyncio.run(main())
