"""Source: adplabs/adp-core-node#8: false, 0 and empty strings are removed from the request."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import VtrixRequests

PROVIDER = "vtrix"
FOUND_BY = "watermark: false, seed: 0 or an empty prompt is not sent, so the provider uses its default."


def compact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: compact(part) for name, part in value.items() if part}
    return [compact(part) for part in value] if isinstance(value, list) else value


class Broken(VtrixRequests):
    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        return {name: compact(value) for name, value in super().prepare(request).items() if value}


broken, clean = client(Broken), client(VtrixRequests)
