"""Source: aio-libs/aiohttp#7841: JSON with another Content-Type, such as text/plain, is refused."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RuncomfyAiohttp
from base_core import BadAnswer, Reply, client

PROVIDER = "runcomfy"
FOUND_BY = (
    "A JSON response without the media type application/json is ignored, so an accepted or completed job is lost."
)


class Broken(RuncomfyAiohttp):
    def json(self, reply: Reply) -> Any:
        if not reply.headers.get("content-type", "").lower().startswith("application/json"):
            raise BadAnswer(f"HTTP {reply.status} with an unexpected media type")
        return super().json(reply)


broken, clean = client(Broken), client(RuncomfyAiohttp)
