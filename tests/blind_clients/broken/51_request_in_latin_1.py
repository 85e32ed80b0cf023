"""Source: RFC 8259 section 8.1: the JSON text of the request is encoded in ISO-8859-1 instead of UTF-8."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import RunflowRequests

PROVIDER = "runflow"
FOUND_BY = "Characters of the prompt outside ASCII arrive as question marks or as invalid UTF-8."


class Broken(RunflowRequests):
    def encode(self, request: dict[str, Any]) -> bytes:
        return json.dumps(request, ensure_ascii=False).encode("latin-1", "replace")


broken, clean = client(Broken), client(RunflowRequests)
