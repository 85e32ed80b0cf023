"""Source: RFC 9110 section 5.6.7: a Retry-After in the RFC 850 or asctime form of a date is ignored."""

import sys
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_urllib import VtrixUrllib

PROVIDER = "vtrix"
FOUND_BY = "The client asks again before the moment that a Retry-After in an obsolete date form names."


class Broken(VtrixUrllib):
    def retry_after(self, reply: Reply) -> float | None:
        value = reply.headers.get("retry-after", "")
        if value and not value.strip().isdigit():
            try:
                datetime.strptime(value.strip(), "%a, %d %b %Y %H:%M:%S GMT")
            except ValueError:
                return None
        return super().retry_after(reply)


broken, clean = client(Broken), client(VtrixUrllib)
