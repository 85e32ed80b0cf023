"""Source: aio-libs/aiohttp#7222: yarl decodes %2F in the query of a signed URL."""

import sys
from pathlib import Path

from yarl import URL

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import VtrixAiohttp
from base_core import client

PROVIDER = "vtrix"
FOUND_BY = "The client changes the percent-encoding of the video's URL, so the signature does not match."


class Broken(VtrixAiohttp):
    def address(self, url: str) -> URL:
        return URL(url)


broken, clean = client(Broken), client(VtrixAiohttp)
