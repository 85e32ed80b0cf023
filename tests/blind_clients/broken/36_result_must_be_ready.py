"""Source: jhuckaby/Cronicle#156: the result of a job that has just completed is not found yet."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, Reply, client
from base_httpx import RuncomfyHttpx

PROVIDER = "runcomfy"
FOUND_BY = "A result that is one poll late (404, or a state that waits) ends the client, and the paid video is lost."


class Broken(RuncomfyHttpx):
    def ask(self, job: str) -> Reply:
        reply = self.call("GET", self.base + self.status_path(job), self.headers())
        if self.status_of(reply) != 200 or self.state(job, reply).kind != "done":
            return reply
        result = self.call("GET", self.base + self.result_path(job), self.headers())
        if self.status_of(result) == 404 or self.state(job, result).kind == "wait":
            raise JobError(f"job {job} has no result", job)
        return result


broken, clean = client(Broken), client(RuncomfyHttpx)
