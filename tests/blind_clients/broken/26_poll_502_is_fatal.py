"""Source: openslop/openslop#739: a gateway error for one poll fails the whole generation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, Reply, client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "A 502 or 504 for a poll ends the client with a failure, although the paid job goes on."


class Broken(VtrixHttpx):
    def trouble(self, job: str, reply: Reply) -> float | None:
        if self.status_of(reply) in (502, 504):
            raise JobError(f"job {job}: {self.explain(reply)}", job)
        return super().trouble(job, reply)


broken, clean = client(Broken), client(VtrixHttpx)
