"""Source: woocommerce/woocommerce-square#106: each attempt of one submission has an idempotency key of its own."""

import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_httpx import HiapiHttpx

PROVIDER = "hiapi"
FOUND_BY = "The repeated submission carries another Idempotency-Key than the first one, so a second job is paid."


class Broken(HiapiHttpx):
    def call(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        if method == "POST":
            headers = {**headers, "Idempotency-Key": str(uuid.uuid4())}
        return super().call(method, url, headers, body)


broken, clean = client(Broken), client(HiapiHttpx)
