"""Source: AzureAD/microsoft-authentication-library-for-js#3070: a server's timestamp is compared to the local clock."""

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import State, StillRunning, client
from base_httpx import HiapiHttpx

PROVIDER = "hiapi"
FOUND_BY = "If the provider's clock is behind, the client takes a fresh job for an old one and reports a timeout."


class Broken(HiapiHttpx):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        if state.kind == "wait" and time.time() - data["data"].get("created", time.time()) > self.patience:
            raise StillRunning(f"timed out: job {job} is still running", job)
        return state


broken, clean = client(Broken), client(HiapiHttpx)
