"""Source: huggingface/huggingface_hub#4164: only in_progress counts as waiting, so queued raises."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, State, client
from base_urllib import VtrixUrllib

PROVIDER = "vtrix"
FOUND_BY = (
    "A waiting state that the client does not know, such as queued, ends it with a failure while the job goes on."
)


class Broken(VtrixUrllib):
    def read_state(self, job: str, data: Any) -> State:
        if data["status"] not in ("in_progress", "completed", "failed"):
            raise JobError(f"job {job} has an unexpected status: {data['status']}", job)
        return super().read_state(job, data)


broken, clean = client(Broken), client(VtrixUrllib)
