"""Run every benchmark; with `--check`, a missed limit is an error."""

from __future__ import annotations

import sys

from benchmarks import (
    growth,
    harness,
    mediahost,
    memory,
    neighbours,
    polls,
    proxy,
    requests,
    scrape,
    shared,
    startup,
    state,
    video,
)
from benchmarks.report import run

if __name__ == "__main__":
    first = (startup.main, polls.main, memory.main, growth.main, neighbours.main, scrape.main, requests.main)
    sys.exit(run(*first, video.main, mediahost.main, harness.main, proxy.main, state.main, shared.main))
