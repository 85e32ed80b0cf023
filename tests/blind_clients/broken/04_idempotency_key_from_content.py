"""Source: KanishJebaMathewM/Truxify#11434: the idempotency key is a hash of the order's content."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import HiapiRequests

PROVIDER = "hiapi"
FOUND_BY = "A second, equal order carries the same Idempotency-Key, so it gets the first order's job and no new video."


class Broken(HiapiRequests):
    def submit_headers(self, request: dict[str, Any]) -> dict[str, str]:
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        return {**super().submit_headers(request), "Idempotency-Key": key}


broken, clean = client(Broken), client(HiapiRequests)
