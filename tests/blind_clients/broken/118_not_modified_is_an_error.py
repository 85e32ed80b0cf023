"""Source: RFC 9110 section 15.4.5: a 304 to a conditional poll is taken for an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RunflowAiohttp
from base_core import JobError, Reply, client

PROVIDER = "runflow"
FOUND_BY = "A poll that is answered with 304 ends the client, and the paid job is lost."


class Clean(RunflowAiohttp):
    """Its polls are conditional; a 304 means that nothing has changed."""

    tag = ""
    last: Reply | None = None

    def headers(self) -> dict[str, str]:
        return {**super().headers(), **({"If-None-Match": self.tag} if self.tag else {})}

    def ask(self, job: str) -> Reply:
        reply = super().ask(job)
        if reply.status == 304 and self.last:
            return self.last
        if reply.status == 200:
            self.tag, self.last = reply.headers.get("etag", ""), reply
        return reply


class Broken(Clean):
    def ask(self, job: str) -> Reply:
        reply = RunflowAiohttp.ask(self, job)
        if reply.status == 200:
            self.tag = reply.headers.get("etag", "")
        if reply.status == 304:
            raise JobError(f"job {job} cannot be read: HTTP 304", job)
        return reply


broken, clean = client(Broken), client(Clean)
