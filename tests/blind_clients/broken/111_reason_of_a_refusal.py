"""Source: psf/requests#4233: raise_for_status() hides the body that says what is wrong."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_requests import RunflowRequests

PROVIDER = "runflow"
FOUND_BY = "The exception for a refused submission does not contain the provider's reason."


class Broken(RunflowRequests):
    def explain(self, reply: Reply) -> str:
        return f"HTTP {self.status_of(reply)}"


broken, clean = client(Broken), client(RunflowRequests)
