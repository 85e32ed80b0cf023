"""Source: Comfy-Org/comfy-python-sdk#79: the retry wraps the whole call, so a failed download pays a new job."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import HiapiAiohttp
from base_core import JobError, client

PROVIDER = "hiapi"
FOUND_BY = "A download that fails makes the client submit a second job instead of downloading again."


class Broken(HiapiAiohttp):
    download_tries = 1
    again = 3

    def collect(self, job: str, request: dict[str, Any]) -> Any:
        try:
            return super().collect(job, request)
        except JobError as error:
            if "downloaded" not in str(error) or not self.again:
                raise
            self.again -= 1
            return self.collect(self.submit(request), request)


broken, clean = client(Broken), client(HiapiAiohttp)
