"""Source: IBM/mcp-context-forge#5674: float() of a Retry-After that is an HTTP-date raises ValueError."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_requests import HiapiRequests

PROVIDER = "hiapi"
FOUND_BY = "A Retry-After in the form of a date crashes the client, and the paid job is lost."


class Broken(HiapiRequests):
    def retry_after(self, reply: Reply) -> float | None:
        value = reply.headers.get("retry-after")
        return float(value) if value else None


broken, clean = client(Broken), client(HiapiRequests)
