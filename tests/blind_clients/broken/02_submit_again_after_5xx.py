"""Source: SDU-eScience/UCloud#2089: an HTTP adapter repeats the POST after a 5xx, although the job was started."""

import sys
from pathlib import Path

from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import RuncomfyRequests

PROVIDER = "runcomfy"
FOUND_BY = "After a 500, 502, 503 or 504 for the submission, the client submits the same job again."


class Broken(RuncomfyRequests):
    def open(self) -> None:
        super().open()
        again = Retry(
            total=3,
            connect=0,
            read=False,
            redirect=False,
            status_forcelist=(500, 502, 503, 504),
            allowed_methods={"POST"},
            backoff_factor=1,
            raise_on_status=False,
        )
        self.http.mount("http://", HTTPAdapter(max_retries=again))
        self.http.mount("https://", HTTPAdapter(max_retries=again))


broken, clean = client(Broken), client(RuncomfyRequests)
