"""Source: remotion-dev/remotion#956: the status of the download is not checked."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_requests import RunflowRequests

PROVIDER = "runflow"
FOUND_BY = "The body of a 403, 404 or 500 is saved as the video."


class Broken(RunflowRequests):
    failed = False

    def fetch(self, url: str) -> Reply:
        reply = super().fetch(url)
        self.failed = reply.status >= 400
        return Reply(200, reply.headers, reply.data)

    def whole(self, reply: Reply) -> bool:
        return self.failed or super().whole(reply)


broken, clean = client(Broken), client(RunflowRequests)
