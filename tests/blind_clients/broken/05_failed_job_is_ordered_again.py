"""Source: wtsi-npg/npg_seq_pipeline#388: a job that failed is ordered once more by itself."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, client
from base_httpx import RunflowHttpx

PROVIDER = "runflow"
FOUND_BY = "A job that the provider reports as failed is submitted again without being asked for."


class Broken(RunflowHttpx):
    again = 1

    def collect(self, job: str, request: dict[str, Any]) -> Any:
        try:
            return super().collect(job, request)
        except JobError as error:
            if " failed: " not in str(error) or not self.again:
                raise
            self.again -= 1
            return self.collect(self.submit(request), request)


broken, clean = client(Broken), client(RunflowHttpx)
