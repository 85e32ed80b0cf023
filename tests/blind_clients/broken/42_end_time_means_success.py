"""Source: WikiWatershed/model-my-watershed#829: a job that has ended, but failed, counts as succeeded."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import State, client
from base_urllib import HiapiUrllib

PROVIDER = "hiapi"
FOUND_BY = "The completed moment of a failed job counts as success, so its reason is lost."


class Broken(HiapiUrllib):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        return State("done", state.urls) if data["data"].get("completed") else state


broken, clean = client(Broken), client(HiapiUrllib)
