"""Source: logto-io/js#1124: the state of one request is kept in a field that all requests share."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, State, client
from base_urllib import VtrixUrllib

PROVIDER = "vtrix"
FOUND_BY = "Concurrent runs poll the job of the run that submitted last, so results are swapped or lost."


CURRENT: dict[str, str] = {}


class Broken(VtrixUrllib):
    def collect(self, job: str, request: dict[str, Any]) -> Any:
        CURRENT["job"] = job
        return super().collect(job, request)

    def ask(self, job: str) -> Reply:
        return super().ask(CURRENT["job"])

    def read_state(self, job: str, data: Any) -> State:
        return super().read_state(CURRENT["job"], data)


broken, clean = client(Broken), client(VtrixUrllib)
