"""Source: RFC 9110 section 15.4.8: the client follows a 307 for the submission with a GET and without the body."""

import sys
from pathlib import Path
from urllib.parse import urljoin

sys.path.insert(0, str(Path(__file__).parent))

from base_core import REDIRECTS, Reply, client, origin
from base_urllib import VtrixUrllib

PROVIDER = "vtrix"
FOUND_BY = "After a 307 or 308 for the submission, the client sends GET instead of the same POST, and no job exists."


class Broken(VtrixUrllib):
    def call(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        reply = self.send(method, url, headers, body, self.api_limit)
        target = urljoin(url, reply.headers.get("location", ""))
        if method == "POST" and reply.status in (307, 308) and origin(target) == origin(self.base):
            return super().call("GET", target, headers)
        if reply.status in REDIRECTS and method == "GET":
            return super().call(method, url, headers, body)
        return reply


broken, clean = client(Broken), client(VtrixUrllib)
