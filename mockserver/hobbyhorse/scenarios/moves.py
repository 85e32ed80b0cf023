"""The moves of a scenario by name: what each does, where it can stand, which options it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EVERY = ("times",)
MEDIA, CALLBACK = "media", "callback"
JOB_URLS = ("status_url", "result_url", "cancel_url")
"""The bound names of the addresses under which a provider has more about a job."""
FILE_URLS = ("video_url", "first_frame_url")
"""The bound names of the addresses of what a job has made."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of move: its family, what it does in one sentence, the options it takes, what it needs to stand on.

    `needs` is the bound name that the operation's answer must have, if the move does not name another one. `names` are
    those of the addresses that it changes; the answer must have one of them.
    """

    family: str
    says: str
    options: tuple[str, ...] = ()
    needs: str | None = None
    names: tuple[str, ...] = ()


MOVES: Mapping[str, Kind] = {
    "latency": Kind("transport", "answers, so many seconds late", ("seconds",)),
    "timeout": Kind("transport", "never answers; closes after so many seconds (an hour)", ("accepted", "seconds")),
    "reset_peer": Kind("transport", "resets the connection (a TCP RST) without a byte", ("accepted",)),
    "empty": Kind("transport", "closes the connection without a byte", ("accepted",)),
    "accept_then_drop": Kind("transport", "reads the whole request, does what it asks, closes without a byte"),
    "truncate": Kind("transport", "breaks off inside the body that Content-Length declared", ("keep",)),
    "slow_body": Kind("transport", "lets the body drip, over so many seconds", ("seconds", "pieces")),
    "malformed_json": Kind("body", "answers with JSON that breaks off"),
    "html_page": Kind("body", "answers with a page of HTML (200)", ("status", "accepted")),
    "empty_body": Kind("body", "answers with no body (200)", ("status", "accepted")),
    "error_envelope": Kind("body", "answers 200 with the body of an error", ("situation", "accepted")),
    "unknown_status": Kind("field", "answers with a stage word that no document has", ("word",), "stage"),
    "regress": Kind("field", "answers as if the job were in its first stage again", (), "stage"),
    "missing_field": Kind("field", "leaves a field out", ("value",)),
    "null_field": Kind("field", "answers null in a field", ("value",)),
    "empty_field": Kind("field", "answers with an empty text in a field", ("value",)),
    "wrong_type": Kind("field", "answers with another JSON type in a field", ("value",)),
    "redirect": Kind("answer", "sends the client to the same path on another origin (307)", ("accepted",)),
    "extra_field": Kind("body", "adds a field that no document has to every object"),
    "reordered": Kind("body", "turns the order of every object's fields round"),
    "opaque_links": Kind(
        "address", "adds an opaque query to the job's addresses, which must be kept", (), names=JOB_URLS
    ),
    "foreign_links": Kind("address", "moves the job's addresses to another origin", (), names=JOB_URLS),
    "private_links": Kind("address", "moves the video's address to a private host", (), names=FILE_URLS),
}
"""What can stand on any operation of a provider; besides these, every situation of the operation is a move."""

SITUATION = Kind(
    "answer", "answers as the contract does in this situation", ("retry_after", "retry_after_date", "accepted")
)
"""What a move is whose name is that of a situation."""

MEDIA_MOVES: Mapping[str, Kind] = {
    **{name: kind for name, kind in MOVES.items() if kind.family == "transport" and name != "accept_then_drop"},
    "truncated": Kind("media", "declares the whole length and sends a part", ("keep",)),
    "wrong_type": Kind("media", "sends the video as another media type (application/octet-stream)", ("type",)),
    "zero_bytes": Kind("media", "sends no bytes at all, as a video"),
    "html_page": Kind("media", "sends a page of HTML (200)", ("status",)),
    "not_video": Kind("media", "sends a picture, as a video"),
    "expired": Kind("media", "refuses the link as expired (403)"),
    "not_found": Kind("media", "has no such file (404)"),
    "unavailable": Kind("media", "asks to come back later (503, Retry-After)", ("retry_after", "retry_after_date")),
}

CALLBACK_MOVES: Mapping[str, Kind] = {
    "lost": Kind("callback", "never sends the callback"),
    "duplicate": Kind("callback", "delivers it so many times, at once", ("count",)),
    "late": Kind("callback", "delivers it so many seconds late", ("seconds",)),
    "out_of_order": Kind("callback", "delivers it after the callback of the next job, or a minute late"),
    "forged": Kind("callback", "delivers another one first that is signed with a wrong secret"),
    "stale": Kind("callback", "delivers another one first whose signature is too old"),
    "unsigned": Kind("callback", "delivers another one first that is not signed"),
    "unknown_job": Kind("callback", "delivers another one first, rightly signed, of a job that nobody ordered"),
    "null_payload": Kind("callback", "delivers it with null for all but the job, its stage and the event"),
}

TIMELINE: Mapping[str, Kind] = {
    "fail": Kind("timeline", "the job fails", ("stage", "code", "message", "seconds")),
    "expire": Kind("timeline", "the job expires", ("stage", "code", "message", "seconds")),
    "cancel": Kind("timeline", "the provider cancels the job", ("stage", "seconds")),
    "stuck": Kind("timeline", "the job never leaves a stage", ("stage", "last")),
    "late_success": Kind("timeline", "the job succeeds after the client's longest wait", ("seconds",)),
    "slow": Kind("timeline", "the job succeeds, so many seconds after its start", ("seconds",)),
}


def kinds(role: str) -> Mapping[str, Kind]:
    """Return the named kinds of move that can stand on a role."""
    return {MEDIA: MEDIA_MOVES, CALLBACK: CALLBACK_MOVES}.get(role, MOVES)
