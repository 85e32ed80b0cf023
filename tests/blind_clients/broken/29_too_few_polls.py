"""Source: RevenueCat/purchases-js#1002: the client gives up after a small number of polls, although it was charged."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import StillRunning, client
from base_urllib import RunflowUrllib

PROVIDER = "runflow"
FOUND_BY = "The client reports a timeout within half a minute, although a job of a few minutes would have succeeded."


class Broken(RunflowUrllib):
    polls = 0

    def rest(self, job: str, seconds: float, deadline: float) -> None:
        self.polls += 1
        if self.polls > 10:
            raise StillRunning(f"timed out: job {job} is still running after {self.polls} polls", job)
        super().rest(job, seconds, deadline)


broken, clean = client(Broken), client(RunflowUrllib)
