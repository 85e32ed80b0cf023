"""Source: open-policy-agent/opa#6728: the API's Authorization header is sent to the store of the signed URL."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import RuncomfyHttpx

PROVIDER = "runcomfy"
FOUND_BY = "The client sends its API key to the host of the video."


class Broken(RuncomfyHttpx):
    def media_headers(self) -> dict[str, str]:
        return {**super().media_headers(), "Authorization": f"Bearer {self.key}"}


broken, clean = client(Broken), client(RuncomfyHttpx)
