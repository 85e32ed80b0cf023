"""Source: RFC 9110 section 10.2.3: the seconds of Retry-After are taken for milliseconds."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RuncomfyAiohttp
from base_core import Reply, client

PROVIDER = "runcomfy"
FOUND_BY = "After Retry-After: 30, the client asks again within a second or two."


class Broken(RuncomfyAiohttp):
    def retry_after(self, reply: Reply) -> float | None:
        seconds = super().retry_after(reply)
        return None if seconds is None else seconds / 1000


broken, clean = client(Broken), client(RuncomfyAiohttp)
