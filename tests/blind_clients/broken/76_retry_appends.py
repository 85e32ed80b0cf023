"""Source: huggingface/huggingface_hub#3778: the whole file is appended to what an interruption left."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import RuncomfyRequests

PROVIDER = "runcomfy"
FOUND_BY = "A download that is repeated after an interruption contains the first part twice."


class Broken(RuncomfyRequests):
    part: bytearray | None = None

    def sink(self, response: Any) -> bytearray:
        if response.headers.get("Content-Type", "").startswith("video/"):
            self.part = bytearray() if self.part is None else self.part
            return self.part
        return super().sink(response)


broken, clean = client(Broken), client(RuncomfyRequests)
