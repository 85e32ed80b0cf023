"""Source: danielfernau/unifi-protect-video-downloader#515: HTML error pages are saved as MP4."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import VtrixAiohttp
from base_core import Reply, client

PROVIDER = "vtrix"
FOUND_BY = "An HTML or JSON page that answers the download with 200 is saved as the video."


class Broken(VtrixAiohttp):
    def whole(self, reply: Reply) -> bool:
        return len(reply.data) > 0


broken, clean = client(Broken), client(VtrixAiohttp)
