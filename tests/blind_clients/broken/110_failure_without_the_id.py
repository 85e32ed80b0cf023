"""Source: replicate/replicate-python#325: the exception for a failed prediction lacks its id."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, State, client
from base_requests import VtrixRequests

PROVIDER = "vtrix"
FOUND_BY = "The exception for a failed job does not name the job."


class Broken(VtrixRequests):
    def end(self, job: str, state: State, empty: int) -> int:
        try:
            return super().end(job, state, empty)
        except JobError:
            raise RuntimeError(f"the generation failed: {state.reason}") from None


broken, clean = client(Broken), client(VtrixRequests)
