"""Source: axios/axios#2282: a shared client mixes the responses of concurrent requests."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import State, client
from base_urllib import RunflowUrllib

PROVIDER = "runflow"
FOUND_BY = "The client takes a response about another job for its own, and returns another job's video."


class Broken(RunflowUrllib):
    def read_state(self, job: str, data: Any) -> State:
        return super().read_state(data.get("id") or job, data)


broken, clean = client(Broken), client(RunflowUrllib)
