"""Source: RFC 9110 section 15.3.3: a submission that is answered with 201 or 202 counts as failed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import VtrixAiohttp
from base_core import Reply, client

PROVIDER = "vtrix"
FOUND_BY = "The provider accepts the job with 201 or 202, and the client reports a failure and loses the paid job."


class Broken(VtrixAiohttp):
    def job_of(self, reply: Reply) -> str | None:
        return super().job_of(reply) if reply.status == 200 else None


broken, clean = client(Broken), client(VtrixAiohttp)
