"""Source: lightly-ai/lightly#187: the client reads a field that is not there yet, and crashes."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, State, client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "A completed job whose output is empty for one poll crashes the client, and the paid job is lost."


class Broken(VtrixHttpx):
    def state(self, job: str, reply: Reply) -> State:
        data: Any = self.json(reply)
        if isinstance(data, dict) and data.get("status") == "completed":
            data["output"][0]["content"][0]["url"]
        return super().state(job, reply)


broken, clean = client(Broken), client(VtrixHttpx)
