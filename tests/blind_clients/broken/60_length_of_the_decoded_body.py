"""Source: cbcoutinho/nextcloud-mcp-server#1099: Content-Length is compared to the decompressed size."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import NetworkError, client
from base_requests import RunflowRequests

PROVIDER = "runflow"
FOUND_BY = "A compressed response counts as truncated, so an accepted or completed job is lost."


class Broken(RunflowRequests):
    def read(self, response: Any, until: float) -> bytes:
        data = super().read(response, until)
        if int(response.headers.get("Content-Length", len(data))) != len(data):
            raise NetworkError(f"truncated: {len(data)} bytes")
        return data


broken, clean = client(Broken), client(RunflowRequests)
