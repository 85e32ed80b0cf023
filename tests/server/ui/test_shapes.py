"""The bar of a job covers its whole width, whatever its timeline is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from hobbyhorse.server.ui.shapes import WIDTH, ago, at, bar, date

LINE = (("queued", "pending", 0.0), ("running", "running", 10.0), ("done", "success", 40.0))


def job(now: float, line: tuple[tuple[str, str, float], ...] = LINE) -> dict[str, Any]:
    stage = [one for one in line if one[2] <= now][-1]
    ended = stage is line[-1] and stage[1] == "success"
    return {
        "timeline": [{"stage": name, "class": kind, "at": moment} for name, kind, moment in line],
        "class": stage[1],
        "finished": line[-1][2] if ended else None,
    }


@pytest.mark.parametrize("now", [0.0, 5.0, 10.0, 25.0, 39.9, 40.0, 100.0])
def test_the_parts_cover_the_bar_without_a_gap(now: float) -> None:
    parts = [one for one in bar(job(now), now).parts if one.kind != "success"]
    assert parts[0].x == 0
    for one, after in pairwise(parts):
        assert one.x + one.width == pytest.approx(after.x, abs=0.02)
    assert parts[-1].x + parts[-1].width == pytest.approx(WIDTH, abs=1.1)


def test_what_is_to_come_is_told_from_what_was() -> None:
    found = bar(job(25.0), 25.0).parts
    assert [(one.kind, one.ahead) for one in found] == [("pending", False), ("running", False), ("running", True)]
    assert [one.x for one in found] == [0, 25, 62.5]
    ended = bar(job(100.0), 100.0).parts
    assert (ended[-1].kind, any(one.ahead for one in ended)) == ("success", False)


def test_a_stuck_job_fills_its_bar_and_an_instant_one_too() -> None:
    stuck = bar(job(1_000.0, LINE[:2]), 1_000.0).parts
    assert [(one.kind, one.width) for one in stuck] == [("pending", 1.0), ("running", 99.0)]
    instant = bar(job(0.0, (("done", "success", 0.0),)), 0.0).parts
    assert [(one.kind, one.x, one.width) for one in instant] == [("success", 0, WIDTH)]


def test_the_bar_is_said_in_words() -> None:
    assert bar(job(0.0), 0.0).words == "queued at 0.0 s, running at 10.0 s, done at 40.0 s"


def test_moments_are_in_utc() -> None:
    assert (at(0.0), date(0.0)) == ("00:00:00", "1970-01-01 00:00:00 UTC")
    assert at(249_999_999_999.0)
    assert (ago(0.2), ago(5.0)) == ("now", "5.0 s ago")
