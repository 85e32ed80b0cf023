"""Source: RFC 9110 section 10.2.2: a relative Location is not resolved against the request's URL."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import REDIRECTS, BadAnswer, Reply, client
from base_httpx import RunflowHttpx

PROVIDER = "runflow"
FOUND_BY = "A redirect of the download with a relative Location fails, and the paid video is lost."


class Broken(RunflowHttpx):
    def fetch(self, url: str) -> Reply:
        for _ in range(6):
            if not url.startswith("http"):
                raise ValueError(f"{url} has no scheme")
            self.check_url(url)
            reply = self.send("GET", url, self.media_headers(), None, self.media_limit)
            if reply.status not in REDIRECTS or "location" not in reply.headers:
                return reply
            url = reply.headers["location"]
        raise BadAnswer("too many redirects")


broken, clean = client(Broken), client(RunflowHttpx)
