"""Source: fsspec/filesystem_spec#746: asyncio.TimeoutError has no message, so the caller learns nothing."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import VtrixAiohttp
from base_core import StillRunning, client

PROVIDER = "vtrix"
FOUND_BY = "The exception for the client's deadline does not name the job, so nobody can collect it."


class Broken(VtrixAiohttp):
    def rest(self, job: str, seconds: float, deadline: float) -> None:
        try:
            super().rest(job, seconds, deadline)
        except StillRunning:
            raise asyncio.TimeoutError from None


broken, clean = client(Broken), client(VtrixAiohttp)
