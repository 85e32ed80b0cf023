"""Source: rust-lang/rustup#4710: a 200 to a range request is appended to the partial file."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_resume import HiapiResuming

PROVIDER = "hiapi"
FOUND_BY = "A server that ignores Range makes the client save a file that contains its beginning twice."


class Broken(HiapiResuming):
    def start(self, response: Any) -> None:
        if not self.part:
            super().start(response)

    def whole(self, reply: Reply) -> bool:
        return reply.data[4:8] == b"ftyp"


broken, clean = client(Broken), client(HiapiResuming)
