"""Source: isaaczafuta/whatapi#12: a failure without the expected member of the error raises another error."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import State, client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "A failed job whose error is missing, a string, or without a message is polled until the deadline."


class Broken(VtrixHttpx):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        return State("failed", reason=data["error"]["message"]) if state.kind == "failed" else state


broken, clean = client(Broken), client(VtrixHttpx)
