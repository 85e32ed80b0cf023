"""Source: encode/httpx#3400: a header value that is not ASCII raises UnicodeEncodeError."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "A prompt that is not ASCII crashes the client before the submission."


class Broken(VtrixHttpx):
    def submit_headers(self, request: dict[str, Any]) -> dict[str, str]:
        title = str(request.get("input", {}).get("prompt", "")).split("\n")[0].strip()[:40]
        return {**super().submit_headers(request), "X-Title": title or "video"}


broken, clean = client(Broken), client(VtrixHttpx)
