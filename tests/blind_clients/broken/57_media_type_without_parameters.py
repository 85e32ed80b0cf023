"""Source: RFC 9110 section 8.3.1: application/json with a charset parameter is taken for another media type."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import BadAnswer, Reply, client
from base_urllib import VtrixUrllib

PROVIDER = "vtrix"
FOUND_BY = "A JSON response with Content-Type: application/json; charset=utf-8 is ignored, so the job is lost."


class Broken(VtrixUrllib):
    def json(self, reply: Reply) -> Any:
        if reply.headers.get("content-type", "application/json") != "application/json":
            raise BadAnswer(f"HTTP {reply.status} with an unexpected media type")
        return super().json(reply)


broken, clean = client(Broken), client(VtrixUrllib)
