"""The faults of a scenario by name: effect, options, and the roles that can have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EVERY = ("times",)
MEDIA, CALLBACK = "media", "callback"
JOB_URLS = ("status_url", "result_url", "cancel_url")
"""The bound names of the URLs of a job's operations."""
FILE_URLS = ("video_url", "first_frame_url")
"""The bound names of the URLs of a job's files."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its family, its effect in one sentence, and its options.

    `needs` is the bound name that a response of the operation must have, unless the fault names another one with
    `value`. `names` are the bound names of the URLs that it changes; a response must have at least one.
    """

    family: str
    effect: str
    options: tuple[str, ...] = ()
    needs: str | None = None
    names: tuple[str, ...] = ()


MOVES: Mapping[str, Kind] = {
    "latency": Kind("transport", "responds after a delay", ("seconds",)),
    "timeout": Kind(
        "transport", "never responds; closes the connection after a delay (an hour)", ("accepted", "seconds")
    ),
    "reset_peer": Kind("transport", "resets the connection (a TCP RST) without a byte", ("accepted",)),
    "empty": Kind("transport", "closes the connection without a byte", ("accepted",)),
    "accept_then_drop": Kind("transport", "reads the whole request, performs it, closes the connection without a byte"),
    "truncate": Kind("transport", "closes the connection within the body that Content-Length declared", ("keep",)),
    "slow_body": Kind("transport", "sends the body in pieces over a period", ("seconds", "pieces")),
    "malformed_json": Kind("body", "responds with truncated JSON"),
    "html_page": Kind("body", "responds with an HTML page (200)", ("status", "accepted")),
    "empty_body": Kind("body", "responds without a body (200)", ("status", "accepted")),
    "error_envelope": Kind("body", "responds 200 with the body of an error", ("situation", "accepted")),
    "unknown_status": Kind("field", "responds with an undocumented stage", ("word",), "stage"),
    "regress": Kind("field", "responds as if the job were in its first stage again", (), "stage"),
    "missing_field": Kind("field", "omits a field", ("value",)),
    "null_field": Kind("field", "sets a field to null", ("value",)),
    "empty_field": Kind("field", "sets a field to the empty string", ("value",)),
    "wrong_type": Kind("field", "changes the JSON type of a field", ("value",)),
    "redirect": Kind("answer", "redirects the client to the same path on another origin (307)", ("accepted",)),
    "extra_field": Kind("body", "adds an undocumented field to every object"),
    "reordered": Kind("body", "reverses the order of the fields in every object"),
    "opaque_links": Kind("address", "adds an opaque query to the job's URLs, which must be kept", (), names=JOB_URLS),
    "foreign_links": Kind("address", "moves the job's URLs to another origin", (), names=JOB_URLS),
    "private_links": Kind("address", "moves the video's URL to a private host", (), names=FILE_URLS),
}
"""The faults of any operation. In addition, every situation of the operation is a fault."""

SITUATION = Kind(
    "answer", "responds as the contract documents for this situation", ("retry_after", "retry_after_date", "accepted")
)
"""The kind of a fault that is named after a situation."""

MEDIA_MOVES: Mapping[str, Kind] = {
    # All but `accept_then_drop`: a request for a file has no effect that could be accepted.
    **{name: kind for name, kind in MOVES.items() if kind.family == "transport" and name != "accept_then_drop"},
    "truncated": Kind("media", "declares the whole length and sends a part of the file", ("keep",)),
    "wrong_type": Kind("media", "sends the video as another media type (application/octet-stream)", ("type",)),
    "zero_bytes": Kind("media", "sends an empty file as a video"),
    "html_page": Kind("media", "sends an HTML page (200)", ("status",)),
    "not_video": Kind("media", "sends a picture as a video"),
    "expired": Kind("media", "refuses the link as expired (403)"),
    "not_found": Kind("media", "responds that the file does not exist (404)"),
    "unavailable": Kind(
        "media",
        "responds that the file is temporarily unavailable (503, Retry-After)",
        ("retry_after", "retry_after_date"),
    ),
}

CALLBACK_MOVES: Mapping[str, Kind] = {
    "lost": Kind("callback", "never sends the callback"),
    "duplicate": Kind("callback", "delivers the callback several times concurrently", ("count",)),
    "late": Kind("callback", "delivers the callback after a delay", ("seconds",)),
    "out_of_order": Kind("callback", "delivers the callback after that of the next job, or a minute late"),
    "forged": Kind("callback", "first delivers another one, signed with a wrong secret"),
    "stale": Kind("callback", "first delivers another one, with an expired signature"),
    "unsigned": Kind("callback", "first delivers another one, without a signature"),
    "unknown_job": Kind("callback", "first delivers another one, correctly signed, for a job that was never submitted"),
    "null_payload": Kind(
        "callback", "delivers the callback with null in every field but the job, its stage and the event"
    ),
}

TIMELINE: Mapping[str, Kind] = {
    "fail": Kind("timeline", "the job fails", ("stage", "code", "message", "seconds")),
    "expire": Kind("timeline", "the job expires", ("stage", "code", "message", "seconds")),
    "cancel": Kind("timeline", "the provider cancels the job", ("stage", "seconds")),
    "stuck": Kind("timeline", "the job never leaves a stage", ("stage", "last")),
    "late_success": Kind("timeline", "the job succeeds after the client's longest wait", ("seconds",)),
    "slow": Kind("timeline", "the job succeeds a given time after its start", ("seconds",)),
}


def kinds(role: str) -> Mapping[str, Kind]:
    """Return the kinds of faults that a role can have, by name."""
    return {MEDIA: MEDIA_MOVES, CALLBACK: CALLBACK_MOVES}.get(role, MOVES)
