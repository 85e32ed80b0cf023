"""The complaints: each names its fault or job, and the next step."""

from __future__ import annotations

from hobbyhorse.worlds.mistakes import COMPLAINTS, INVALID, UNMATCHED, uncollected_complaint, unmet_complaint


def test_an_unmet_fault_is_named_with_three_ways_on() -> None:
    complaint = unmet_complaint("job_slow: timeline slow")
    assert complaint.startswith("job_slow: timeline slow was armed and never met: ")
    for way in ("make the request", "move the clock", "do not arm it"):
        assert way in complaint


def test_an_uncollected_job_is_named_with_its_stage() -> None:
    complaint = uncollected_complaint("job-1", "queued")
    assert complaint.startswith("the job job-1 (queued) was submitted and its end never seen; move the clock")


def test_no_situation_is_both_unmatched_and_invalid() -> None:
    assert not UNMATCHED & INVALID
    assert COMPLAINTS == ("unmatched", "invalid", "unmet", "uncollected")
