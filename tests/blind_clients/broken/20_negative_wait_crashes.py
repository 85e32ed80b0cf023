"""Source: pydantic/pydantic-ai#7065: a negative Retry-After, or a date in the past, reaches sleep() and crashes."""

import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_requests import RuncomfyRequests

PROVIDER = "runcomfy"
FOUND_BY = "Retry-After: -1 or a date in the past crashes the client with a ValueError, and the paid job is lost."


class Broken(RuncomfyRequests):
    def retry_after(self, reply: Reply) -> float | None:
        value = reply.headers.get("retry-after", "")
        try:
            return float(int(value))
        except ValueError:
            pass
        try:
            return parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None

    def pace(self, pause: float, hint: float | None) -> float:
        return hint if hint is not None and hint < 0 else super().pace(pause, hint)


broken, clean = client(Broken), client(RuncomfyRequests)
