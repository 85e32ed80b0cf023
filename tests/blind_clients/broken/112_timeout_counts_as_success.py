"""Source: tinyhumansai/openhuman#5411: at the deadline the tool reports success without a video."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import StillRunning, client
from base_httpx import RuncomfyHttpx

PROVIDER = "runcomfy"
FOUND_BY = "When the client's deadline passes, it returns without an error, as if it had a video."


class Broken(RuncomfyHttpx):
    def collect(self, job: str, request: dict[str, Any]) -> Any:
        try:
            return super().collect(job, request)
        except StillRunning:
            return b""


broken, clean = client(Broken), client(RuncomfyHttpx)
