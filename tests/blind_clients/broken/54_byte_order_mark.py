"""Source: RFC 8259 section 8.1: a byte order mark before the JSON text makes the response unreadable."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import BadAnswer, Reply, client
from base_urllib import RunflowUrllib

PROVIDER = "runflow"
FOUND_BY = "Responses with a byte order mark are polled until the deadline, or an accepted job counts as lost."


class Broken(RunflowUrllib):
    def json(self, reply: Reply) -> Any:
        try:
            return json.loads(reply.data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"HTTP {reply.status} without JSON") from error


broken, clean = client(Broken), client(RunflowUrllib)
