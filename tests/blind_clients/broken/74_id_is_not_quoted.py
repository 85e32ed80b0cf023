"""Source: RFC 3986 section 3.3: an id with a reserved character goes into the path as it is."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "An id with ?, # or % leads the polls to another address, and the paid job is lost."


class Broken(VtrixHttpx):
    def status_path(self, job: str) -> str:
        return f"/model/v1/generation/task/{job}"


broken, clean = client(Broken), client(VtrixHttpx)
