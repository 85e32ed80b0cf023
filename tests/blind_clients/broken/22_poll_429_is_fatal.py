"""Source: gdsfactory/gsim#98: one refused poll ends the wait and loses the running job."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, Reply, client
from base_urllib import RuncomfyUrllib

PROVIDER = "runcomfy"
FOUND_BY = "A 429 for a poll ends the client with a failure, although the paid job goes on."


class Broken(RuncomfyUrllib):
    def trouble(self, job: str, reply: Reply) -> float | None:
        if self.status_of(reply) == 429:
            raise JobError(f"job {job}: too many requests", job)
        return super().trouble(job, reply)


broken, clean = client(Broken), client(RuncomfyUrllib)
