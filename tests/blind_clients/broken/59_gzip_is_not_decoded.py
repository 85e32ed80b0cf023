"""Source: RFC 9110 section 8.4: the client asks for gzip, and does not decode it."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_urllib import VtrixUrllib

PROVIDER = "vtrix"
FOUND_BY = "A compressed JSON response is unreadable for the client, so an accepted or completed job is lost."


class Clean(VtrixUrllib):
    def headers(self) -> dict[str, str]:
        return {**super().headers(), "Accept-Encoding": "gzip"}


class Broken(Clean):
    def decode(self, response: Any, data: bytes) -> bytes:
        return data


broken, clean = client(Broken), client(Clean)
