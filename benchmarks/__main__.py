"""Run every benchmark; with `--check`, a missed limit is an error."""

from __future__ import annotations

import sys

from benchmarks import harness, mediahost, memory, polls, proxy, requests, startup, video
from benchmarks.report import run

if __name__ == "__main__":
    sys.exit(
        run(startup.main, polls.main, memory.main, requests.main, video.main, mediahost.main, harness.main, proxy.main)
    )
