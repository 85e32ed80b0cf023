"""Source: RFC 9110 section 9.3.3: the result of a POST is cached, although nothing says that it may be."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import HiapiRequests

PROVIDER = "hiapi"
FOUND_BY = "A second, equal order returns the first order's video without a new job."


VIDEOS: dict[str, bytes] = {}


class Broken(HiapiRequests):
    def generate(self, request: dict[str, Any]) -> Any:
        order = self.base + self.key + json.dumps(request, sort_keys=True)
        if order not in VIDEOS:
            VIDEOS[order] = super().generate(request)
        return VIDEOS[order]


broken, clean = client(Broken), client(HiapiRequests)
