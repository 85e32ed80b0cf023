"""Source: RFC 9110 section 5.1: the name of Retry-After is looked up with its capitals."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client, seconds_of
from base_urllib import HiapiUrllib

PROVIDER = "hiapi"
FOUND_BY = "A Retry-After whose name is written in lower case is ignored, and the client asks again too early."


class Broken(HiapiUrllib):
    def names(self, response: Any) -> dict[str, str]:
        return {**super().names(response), **dict(response.headers.items())}

    def retry_after(self, reply: Reply) -> float | None:
        return seconds_of(reply.headers.get("Retry-After"), reply.headers.get("date"))


broken, clean = client(Broken), client(HiapiUrllib)
