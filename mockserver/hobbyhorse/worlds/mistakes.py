"""What a test most likely did not mean, and the words for it."""

from __future__ import annotations

COMPLAINTS = ("unmatched", "invalid", "unmet", "uncollected")
"""What a world complains about."""
UNMATCHED = frozenset({"unknown_path", "wrong_method"})
"""The situations of requests that no operation takes."""
INVALID = frozenset({"invalid_request", "malformed_body", "unsupported_media_type", "body_too_large", "unknown_model"})
"""The situations of requests that the contract does not allow."""


def unmet_complaint(what: str) -> str:
    """Return what is said about a move that no request has met."""
    return (
        f"{what} was armed and never met: a fault that the client did not experience proves nothing; have it "
        "make the request, move the clock, or do not arm it"
    )


def uncollected_complaint(job: str, stage: str) -> str:
    """Return what is said about a job whose end nobody was shown."""
    return (
        f"the job {job} ({stage}) was ordered and its end never seen; move the clock if it has not ended, and poll it, "
        "or cancel it"
    )
