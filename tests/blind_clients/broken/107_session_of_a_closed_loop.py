"""Source: python/cpython#91987: a session of one event loop is used in another one."""

import sys
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import VtrixAiohttp
from base_core import client

PROVIDER = "vtrix"
FOUND_BY = "The second run in a process fails, because its session belongs to the loop of the first run."


SESSIONS: list[aiohttp.ClientSession] = []


class Broken(VtrixAiohttp):
    def session(self) -> aiohttp.ClientSession:
        if not SESSIONS:
            SESSIONS.append(super().session())
        return SESSIONS[0]

    def close(self) -> None:
        self.loop.close()


broken, clean = client(Broken), client(VtrixAiohttp)
