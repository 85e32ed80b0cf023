"""Source: pypa/pip#14131: the offset of a partial response is not compared to the bytes that are there."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_resume import VtrixResuming

PROVIDER = "vtrix"
FOUND_BY = "A partial response that starts elsewhere is appended, and a damaged file is saved."


class Broken(VtrixResuming):
    def fits(self, response: Any) -> bool:
        return True

    def whole(self, reply: Reply) -> bool:
        return reply.data[4:8] == b"ftyp"


broken, clean = client(Broken), client(VtrixResuming)
