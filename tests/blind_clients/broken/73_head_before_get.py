"""Source: ido-pluto/ipull#12: a HEAD request precedes the download, and a URL signed for GET refuses it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import BadAnswer, Reply, client
from base_requests import VtrixRequests

PROVIDER = "vtrix"
FOUND_BY = "A media host that answers HEAD with 403 or 405 makes the client give up the paid video."


class Broken(VtrixRequests):
    def fetch(self, url: str) -> Reply:
        self.check_url(url)
        head = self.send("HEAD", url, self.media_headers(), None, self.media_limit)
        if head.status >= 400:
            raise BadAnswer(f"HEAD: HTTP {head.status}")
        return super().fetch(url)


broken, clean = client(Broken), client(VtrixRequests)
