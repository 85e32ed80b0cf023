"""The shapes of a job on the page: the bar of its stages, and its moments in words. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from hobbyhorse.traces.timeline import since

# The width of a bar, in its own units.
WIDTH = 100.0
# The least width of a stage, so that a short one can be seen.
LEAST = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar: its place and width, the class of its stage, and whether it is still to come."""

    x: float
    width: float
    kind: str
    ahead: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """The stages of a job from its submission to its end; `words` is its text for a screen reader."""

    parts: tuple[Part, ...]
    words: str


def bar(job: Mapping[str, Any], now: float) -> Bar:
    """Return the bar of a job, as the control plane shows it, at the moment `now`."""
    line = job["timeline"]
    start, ends = line[0]["at"], line[-1]["at"]
    # A stuck job goes on in its last stage; one that is still checked, too.
    end = max(ends, now) if job["finished"] is None and ends <= now else ends
    whole = end - start
    parts: list[Part] = []
    for entry, after in zip(line, [*(one["at"] for one in line[1:]), end], strict=True):
        begin, stop = entry["at"], max(after, entry["at"])
        if whole <= 0 or stop == begin:
            continue
        for left, right, ahead in (
            (begin, min(stop, max(now, begin)), False),
            (max(begin, min(now, stop)), stop, True),
        ):
            if right > left:
                x, width = (left - start) / whole * WIDTH, max((right - left) / whole * WIDTH, LEAST)
                parts.append(Part(round(x, 2), round(width, 2), entry["class"], ahead))
    if not parts or job["finished"] is not None:
        # The whole bar of an ended job has the colour of its end below its stages.
        parts.append(Part(WIDTH - 3 if parts else 0, 3 if parts else WIDTH, job["class"], False))
    words = ", ".join(f"{one['stage']} at {since(one['at'] - start)}" for one in line)
    return Bar(tuple(parts), words)


def at(moment: float) -> str:
    """Return a moment as a time of day in UTC."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%H:%M:%S")


def date(moment: float) -> str:
    """Return a moment as a date and time in UTC."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(seconds: float) -> str:
    """Return how long something is over."""
    return "now" if seconds < 1 else f"{since(seconds)} ago"
