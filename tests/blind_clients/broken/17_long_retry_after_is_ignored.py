"""Source: openai/openai-python#3555: a Retry-After above 60 seconds is ignored, and a short backoff is used."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import HiapiAiohttp
from base_core import Reply, client

PROVIDER = "hiapi"
FOUND_BY = "After a Retry-After of more than a minute, the client asks again within seconds."


class Broken(HiapiAiohttp):
    def retry_after(self, reply: Reply) -> float | None:
        seconds = super().retry_after(reply)
        return seconds if seconds is not None and seconds <= 60 else None


broken, clean = client(Broken), client(HiapiAiohttp)
