"""Source: RFC 9110 section 15.4: cyclical redirects are not detected."""

import sys
from pathlib import Path
from urllib.parse import urljoin

sys.path.insert(0, str(Path(__file__).parent))

from base_core import REDIRECTS, BadAnswer, Reply, client
from base_requests import HiapiRequests

PROVIDER = "hiapi"
FOUND_BY = "A download that redirects to itself is followed hundreds of times without a pause."


class Broken(HiapiRequests):
    def fetch(self, url: str) -> Reply:
        for _ in range(300):  # so that a test of this client ends
            self.check_url(url)
            reply = self.send("GET", url, self.media_headers(), None, self.media_limit)
            if reply.status not in REDIRECTS or "location" not in reply.headers:
                return reply
            url = urljoin(url, reply.headers["location"])
        raise BadAnswer("too many redirects")


broken, clean = client(Broken), client(HiapiRequests)
