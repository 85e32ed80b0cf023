"""Source: jjjake/internetarchive#714: a refused submission is repeated without regard to Retry-After."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_urllib import RunflowUrllib

PROVIDER = "runflow"
FOUND_BY = "After a 429 with Retry-After for the submission, the client submits again too early."


class Broken(RunflowUrllib):
    def try_submit(self, url: str, headers: dict[str, str], body: bytes) -> tuple[str | Exception, float | None, bool]:
        problem, _, limited = super().try_submit(url, headers, body)
        return problem, None, limited


broken, clean = client(Broken), client(RunflowUrllib)
