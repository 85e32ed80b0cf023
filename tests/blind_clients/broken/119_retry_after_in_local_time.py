"""Source: urllib3/urllib3#1896: mktime() takes the GMT of a Retry-After date for local time."""

import sys
import time
from email.utils import parsedate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_requests import VtrixRequests

PROVIDER = "vtrix"
FOUND_BY = "In a time zone other than UTC, a Retry-After date leads to a wait that is hours too long, or to none."


class Broken(VtrixRequests):
    def retry_after(self, reply: Reply) -> float | None:
        when = parsedate(reply.headers.get("retry-after", ""))
        if when is None:
            return super().retry_after(reply)
        try:
            return max(0.0, time.mktime(when) - time.time())
        except (ValueError, OverflowError):
            return None


broken, clean = client(Broken), client(VtrixRequests)
