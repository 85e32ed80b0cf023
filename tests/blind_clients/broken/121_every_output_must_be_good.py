"""Source: spinje/pflow#159: one failed item among the results spoils all of them."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import VtrixAiohttp
from base_core import BadAnswer, State, client

PROVIDER = "vtrix"
FOUND_BY = "An output without a URL beside a good video makes the client lose the paid video."


class Broken(VtrixAiohttp):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        for item in data.get("output") or []:
            for part in item["content"]:
                if not part["url"].startswith("http"):
                    raise BadAnswer("an output without a URL")
        return state


broken, clean = client(Broken), client(VtrixAiohttp)
