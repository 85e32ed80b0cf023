"""Source: RFC 8259 section 8.1: the JSON text of a response is decoded as ASCII instead of UTF-8."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import BadAnswer, Reply, client
from base_requests import HiapiRequests

PROVIDER = "hiapi"
FOUND_BY = "A response with a character outside ASCII, such as a failure's reason, is unreadable for the client."


class Broken(HiapiRequests):
    def json(self, reply: Reply) -> Any:
        if not reply.data.isascii():
            raise BadAnswer(f"HTTP {reply.status} cannot be decoded")
        return super().json(reply)


broken, clean = client(Broken), client(HiapiRequests)
