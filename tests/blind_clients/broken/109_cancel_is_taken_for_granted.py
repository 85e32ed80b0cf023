"""Source: Qiskit/qiskit-ibmq-provider#499: cancel() reports success, although the job goes on."""

import contextlib
import sys
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))

from base_core import BadAnswer, JobError, NetworkError, StillRunning, client
from base_urllib import RuncomfyUrllib

PROVIDER = "runcomfy"
FOUND_BY = (
    "At its deadline the client reports the job as cancelled, although it cannot be cancelled and is still running."
)


class Clean(RuncomfyUrllib):
    """At its deadline it cancels the job, and reports what became of it."""

    def rest(self, job: str, seconds: float, deadline: float) -> None:
        try:
            super().rest(job, seconds, deadline)
        except StillRunning:
            with contextlib.suppress(NetworkError):
                self.call("POST", f"{self.base}/v1/requests/{quote(job, safe='')}/cancel", self.headers())
            if self.is_cancelled(job):
                raise JobError(f"job {job} was cancelled by the client", job) from None
            raise

    def is_cancelled(self, job: str) -> bool:
        try:
            return self.json(self.ask(job))["status"] in ("cancelled", "canceled")
        except (NetworkError, BadAnswer, KeyError, TypeError):
            return False


class Broken(Clean):
    def is_cancelled(self, job: str) -> bool:
        return True


broken, clean = client(Broken), client(Clean)
