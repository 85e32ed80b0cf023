"""Source: sapiom/sapiom-js#771: a failed job is completed, too, and its reason is lost."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RuncomfyAiohttp
from base_core import State, client

PROVIDER = "runcomfy"
FOUND_BY = "A failed job is reported as completed without a video, after more polls and without the provider's reason."


class Broken(RuncomfyAiohttp):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        return State("done") if state.kind == "failed" and data["status"] == "failed" else state


broken, clean = client(Broken), client(RuncomfyAiohttp)
