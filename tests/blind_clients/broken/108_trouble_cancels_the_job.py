"""Source: iqm-finland/QDMI-on-IQM#187: one failed status request ends a healthy job."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, Reply, client
from base_requests import RuncomfyRequests

PROVIDER = "runcomfy"
FOUND_BY = "A poll that fails once makes the client cancel the paid job."


class Broken(RuncomfyRequests):
    def trouble(self, job: str, reply: Reply) -> float | None:
        self.call("POST", f"{self.base}/v1/requests/{job}/cancel", self.headers())
        raise JobError(f"job {job} was cancelled after {self.explain(reply)}", job)


broken, clean = client(Broken), client(RuncomfyRequests)
