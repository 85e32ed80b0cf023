"""Source: microsoft/tyger#254: whether a signed URL has expired is decided by the client's clock."""

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import HiapiAiohttp
from base_core import JobError, State, client

PROVIDER = "hiapi"
FOUND_BY = (
    "If the provider's clock is behind, the client refuses a link that is still good, and the paid video is lost."
)


class Broken(HiapiAiohttp):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        for item in data["data"].get("output") or []:
            if item.get("url") in state.urls and item.get("expireAt", time.time() + 1) <= time.time():
                raise JobError(f"job {job}: the link has expired", job)
        return state


broken, clean = client(Broken), client(HiapiAiohttp)
