"""Source: wjh18/pyspeedinsights#14: strptime with %f refuses a moment without a fraction."""

import contextlib
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import State, client
from base_urllib import RuncomfyUrllib

PROVIDER = "runcomfy"
FOUND_BY = (
    "A created_at or finished_at without milliseconds crashes the client after success, and the paid video is lost."
)


class Clean(RuncomfyUrllib):
    """It computes how long the job took."""

    took = 0.0

    def moment(self, text: str) -> datetime:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))

    def measure(self, data: Any) -> None:
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            self.took = (self.moment(data["finished_at"]) - self.moment(data["created_at"])).total_seconds()

    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        if state.kind == "done" and data.get("finished_at") and data.get("created_at"):
            self.measure(data)
        return state


class Broken(Clean):
    def moment(self, text: str) -> datetime:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")

    def measure(self, data: Any) -> None:
        self.took = (self.moment(data["finished_at"]) - self.moment(data["created_at"])).total_seconds()


broken, clean = client(Broken), client(Clean)
