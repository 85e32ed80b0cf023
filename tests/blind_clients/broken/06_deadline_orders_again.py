"""Source: lightdash/lightdash#28893: after its own deadline the client submits a new job while the first one runs."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import StillRunning, client
from base_requests import VtrixRequests

PROVIDER = "vtrix"
FOUND_BY = (
    "When the client's deadline passes, it pays a second job instead of reporting the first one as still running."
)


class Broken(VtrixRequests):
    again = 1

    def collect(self, job: str, request: dict[str, Any]) -> Any:
        try:
            return super().collect(job, request)
        except StillRunning:
            if not self.again:
                raise
            self.again -= 1
            return self.collect(self.submit(request), request)


broken, clean = client(Broken), client(VtrixRequests)
