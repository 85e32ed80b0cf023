"""Every benchmark in one run; `--check` makes a missed bound an error."""

from __future__ import annotations

import sys

from benchmarks import mediahost, memory, polls, startup, video
from benchmarks.report import BoundMissed


def run() -> int:
    """Run all of them, and return the exit status."""
    missed = []
    for benchmark in (startup, polls, memory, video, mediahost):
        try:
            benchmark.main()
        except BoundMissed as error:
            missed.append(str(error))
    return 1 if missed and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(run())
