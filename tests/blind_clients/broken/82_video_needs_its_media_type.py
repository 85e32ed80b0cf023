"""Source: RFC 9110 section 8.3: a video that is served as application/octet-stream is refused."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import HiapiAiohttp
from base_core import Reply, client

PROVIDER = "hiapi"
FOUND_BY = "A whole video with another Content-Type than video/mp4 counts as damaged, and the paid job is lost."


class Broken(HiapiAiohttp):
    def whole(self, reply: Reply) -> bool:
        return reply.headers.get("content-type", "").startswith("video/mp4") and super().whole(reply)


broken, clean = client(Broken), client(HiapiAiohttp)
