"""Source: FredHutch/motuz#355: a job stays at 100% for a while before it has ended."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import VtrixAiohttp
from base_core import State, client

PROVIDER = "vtrix"
FOUND_BY = (
    "A progress of 1.0 counts as the end, so a job that is still uploading is reported as completed without a video."
)


class Broken(VtrixAiohttp):
    empty_tries = 1

    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        return State("done", state.urls) if data.get("progress", 0) >= 1 and state.kind == "wait" else state


broken, clean = client(Broken), client(VtrixAiohttp)
