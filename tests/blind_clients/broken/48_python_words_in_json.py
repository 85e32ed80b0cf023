"""Source: RFC 8259 section 3: True and False of Python are written into the JSON text instead of true and false."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import RuncomfyHttpx

PROVIDER = "runcomfy"
FOUND_BY = "A request with a boolean or a null is no JSON (True, False, None), so the provider refuses it."


class Broken(RuncomfyHttpx):
    def encode(self, request: dict[str, Any]) -> bytes:
        texts = (str, dict, list)
        fields = [
            f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False) if isinstance(value, texts) else value}"
            for name, value in request.items()
        ]
        return ("{" + ", ".join(fields) + "}").encode("utf-8")


broken, clean = client(Broken), client(RuncomfyHttpx)
