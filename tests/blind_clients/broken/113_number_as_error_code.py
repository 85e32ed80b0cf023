"""Source: hellosign/hellosign-python-sdk#84: composing the message of an error raises another error."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, State, client
from base_requests import HiapiRequests

PROVIDER = "hiapi"
FOUND_BY = "A failed job whose error code is a number raises a TypeError without the provider's reason."


class Broken(HiapiRequests):
    def end(self, job: str, state: State, empty: int) -> int:
        if state.kind == "failed" and state.reason.startswith("{"):
            error = json.loads(state.reason)
            raise JobError("job " + job + " failed: " + error["code"] + ": " + error["message"], job)
        return super().end(job, state, empty)


broken, clean = client(Broken), client(HiapiRequests)
