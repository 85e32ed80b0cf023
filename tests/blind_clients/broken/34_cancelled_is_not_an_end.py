"""Source: replicate/replicate-python#21: a cancelled job is polled forever."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import State, client
from base_requests import RuncomfyRequests

PROVIDER = "runcomfy"
FOUND_BY = "The documented state cancelled is no end for the client, so it waits until its deadline."


class Broken(RuncomfyRequests):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        return State("wait") if data["status"] in ("cancelled", "canceled") else state


broken, clean = client(Broken), client(RuncomfyRequests)
