"""Start-up time of `hobbyhorse serve`, compared with a bare uvicorn: `python -m benchmarks.startup`."""

from __future__ import annotations

import statistics
import sys

from benchmarks.report import Bound, run, show
from benchmarks.servers import OURS, started, uvicorn

ROUNDS = 5  # odd, for the median
NAMES = {"hobbyhorse serve": OURS, "uvicorn, three-line callable": uvicorn("bare:app")}


def main() -> None:
    """Print the milliseconds from each command to the line that prints its URL."""
    taken: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(1 + ROUNDS):
        for name, command in NAMES.items():
            with started(command) as server:
                taken[name].append(server.seconds)
    measured = {name: seconds[1:] for name, seconds in taken.items()}  # the first round fills the disk cache
    ours, bare = (statistics.median(seconds) for seconds in measured.values())
    show(
        f"Start-up, from the command to its URL; median of {ROUNDS}, alternating",
        [
            ("", "ms", "least", "most"),
            *(
                (name, *(f"{1000 * value:.0f}" for value in (statistics.median(found), min(found), max(found))))
                for name, found in measured.items()
            ),
        ],
        Bound("ours/bare", ours / bare, limit=3, target=2),
    )


if __name__ == "__main__":
    sys.exit(run(main))
