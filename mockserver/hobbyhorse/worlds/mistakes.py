"""Complaints about a test: situations that the test probably did not intend, and their messages."""

from __future__ import annotations

COMPLAINTS = ("unmatched", "invalid", "unmet", "uncollected")
"""The kinds of complaints, which are the values of a documented setting of the pytest plugin."""
UNMATCHED = frozenset({"unknown_path", "wrong_method"})
"""The situations of requests that match no operation."""
INVALID = frozenset({"invalid_request", "malformed_body", "unsupported_media_type", "body_too_large", "unknown_model"})
"""The situations of requests that the contract does not allow."""


def unmet_complaint(what: str) -> str:
    """Return the complaint about an armed fault that no request has hit."""
    return (
        f"{what} was armed and never met: a fault that the client did not experience proves nothing; let it "
        "make the request, move the clock, or do not arm it"
    )


def uncollected_complaint(job: str, stage: str) -> str:
    """Return the complaint about a job whose end no response has shown."""
    return (
        f"the job {job} ({stage}) was submitted and its end never seen; move the clock if it has not ended, and poll "
        "it, or cancel it"
    )
