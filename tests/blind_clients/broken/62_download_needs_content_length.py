"""Source: RFC 9112 section 6.3: a chunked response has no Content-Length, and the client needs one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "A chunked download crashes the client with a KeyError, and the paid video is lost."


class Broken(VtrixHttpx):
    def whole(self, reply: Reply) -> bool:
        return len(reply.data) == int(reply.headers["content-length"]) and super().whole(reply)


broken, clean = client(Broken), client(VtrixHttpx)
