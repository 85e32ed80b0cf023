"""Source: customerio/customerio-node#69: Content-Length counts characters, so a body with 'ï' is cut off."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_urllib import HiapiUrllib

PROVIDER = "hiapi"
FOUND_BY = "A prompt that is not ASCII reaches the provider as a truncated body."


class Broken(HiapiUrllib):
    def submit_headers(self, request: dict[str, Any]) -> dict[str, str]:
        size = len(self.encode(request).decode("utf-8"))
        return {**super().submit_headers(request), "Content-Length": str(size)}


broken, clean = client(Broken), client(HiapiUrllib)
