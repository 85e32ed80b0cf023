"""Source: RFC 9110 section 13.1.5: the rest of a download is asked for without If-Range."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_resume import RunflowResuming

PROVIDER = "runflow"
FOUND_BY = "If the file changes between two attempts, the client joins the parts of two files."


class Broken(RunflowResuming):
    def media_headers(self) -> dict[str, str]:
        return {name: value for name, value in super().media_headers().items() if name != "If-Range"}

    def whole(self, reply: Reply) -> bool:
        return reply.data[4:8] == b"ftyp"


broken, clean = client(Broken), client(RunflowResuming)
