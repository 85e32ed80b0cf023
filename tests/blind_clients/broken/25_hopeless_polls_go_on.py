"""Source: Scottcjn/bottube#2125: HTTP errors of polls are swallowed until a generic timeout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import HiapiAiohttp
from base_core import Reply, client

PROVIDER = "hiapi"
FOUND_BY = (
    "A 401 or 403 for a poll is repeated until the deadline, and the client reports a timeout without the reason."
)


class Broken(HiapiAiohttp):
    def trouble(self, job: str, reply: Reply) -> float | None:
        return self.retry_after(reply)


broken, clean = client(Broken), client(HiapiAiohttp)
