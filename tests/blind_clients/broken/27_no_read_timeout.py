"""Source: scrapinghub/python-scrapinghub#19: requests has no timeout by default."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import VtrixRequests

PROVIDER = "vtrix"
FOUND_BY = "A response that never comes hangs the client forever."


class Broken(VtrixRequests):
    request_timeout = None  # type: ignore[assignment]


broken, clean = client(Broken), client(VtrixRequests)
