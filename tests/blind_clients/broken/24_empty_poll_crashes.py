"""Source: Vonage/vonage-python-sdk#326: a 204 or another response without JSON raises JSONDecodeError."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_requests import RunflowRequests

PROVIDER = "runflow"
FOUND_BY = "An empty or HTML response to a poll crashes the client, and the paid job is lost without its id."


class Broken(RunflowRequests):
    def json(self, reply: Reply) -> Any:
        return json.loads(reply.data)


broken, clean = client(Broken), client(RunflowRequests)
