"""Source: superplanehq/superplane#200: a lost callback leaves the job running forever."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import RunflowTrusting, listener
from base_core import StillRunning

PROVIDER = "runflow"
FOUND_BY = "If the callback is lost, the client waits until its deadline, although the job has ended."


class Broken(RunflowTrusting):
    def wait(self, job: str, deadline: float) -> list[str]:
        if self.receiver is None:
            return super().wait(job, deadline)
        while time.monotonic() < deadline:
            message = self.receiver.hear(job, deadline - time.monotonic())
            if message:
                self.message = message
                return super().wait(job, deadline)
        raise StillRunning(f"timed out: job {job} is still running", job)


broken, clean = listener(Broken), listener(RunflowTrusting)
