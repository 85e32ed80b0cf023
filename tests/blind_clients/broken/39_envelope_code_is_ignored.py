"""Source: hapi-server/client-python#105: an error inside HTTP 200 is not seen as one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_requests import HiapiRequests

PROVIDER = "hiapi"
FOUND_BY = "A refusal in the envelope of an HTTP 200 is repeated, or polled until the deadline, and its reason is lost."


class Broken(HiapiRequests):
    def status_of(self, reply: Reply) -> int:
        return reply.status


broken, clean = client(Broken), client(HiapiRequests)
