"""Source: openstory-so/openstory#1754: a prompt above the client's own limit is silently cut."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import HiapiAiohttp
from base_core import client

PROVIDER = "hiapi"
FOUND_BY = "A long prompt is cut off by the client, although the provider accepts it."


class Broken(HiapiAiohttp):
    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        given = request.get("input", {})
        if isinstance(given.get("prompt"), str):
            return {**request, "input": {**given, "prompt": given["prompt"][:500]}}
        return request


broken, clean = client(Broken), client(HiapiAiohttp)
