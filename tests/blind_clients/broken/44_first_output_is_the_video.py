"""Source: T8mars/T8-penguin-canvas#17: an output counts as the expected medium whatever its type is."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import State, client
from base_httpx import HiapiHttpx

PROVIDER = "hiapi"
FOUND_BY = "The client downloads the first output whatever its type is, such as the first frame, and not the video."


class Broken(HiapiHttpx):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        if state.kind == "done" and data["data"].get("output"):
            return State("done", [data["data"]["output"][0]["url"]])
        return state


broken, clean = client(Broken), client(HiapiHttpx)
