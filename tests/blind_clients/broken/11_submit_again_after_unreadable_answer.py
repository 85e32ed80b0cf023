"""Source: RFC 9110 section 9.2.2: a 2xx whose body is no JSON makes the client repeat the POST."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RuncomfyAiohttp
from base_core import JobError, client

PROVIDER = "runcomfy"
FOUND_BY = "After an accepted submission with a broken body, the client submits the job again."


class Broken(RuncomfyAiohttp):
    def unknown(self, message: str, error: Exception | None = None) -> Exception:
        return JobError(message) if "without an id" in message else super().unknown(message, error)


broken, clean = client(Broken), client(RuncomfyAiohttp)
