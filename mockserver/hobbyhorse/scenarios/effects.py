"""What faults do: a changed response, or one of a closed set of effects. Data only: the server performs them.

A fault of a response returns the response to send (`Sent`), or a `WireEffect` on the connection that carries the usual
response. A fault of a callback returns a `CallbackEffect`, which replaces the first attempt. A fault that none of these
can express needs a new effect here, and its performance in `server/socket_faults.py` or `server/callbacks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import formatdate

# ---- responses


def _rfc850(seconds: int, now: float) -> str:
    return datetime.fromtimestamp(now + seconds, timezone.utc).strftime("%A, %d-%b-%y %H:%M:%S GMT")


def _asctime(seconds: int, now: float) -> str:
    moment = datetime.fromtimestamp(now + seconds, timezone.utc)
    return moment.strftime(f"%a %b {moment.day:2d} %H:%M:%S %Y")


RETRY_AFTER_FORMS: Mapping[str, Callable[[int, float], str]] = {
    "date": lambda seconds, now: formatdate(now + seconds, usegmt=True),
    "rfc850": _rfc850,
    "asctime": _asctime,
    "fraction": lambda seconds, now: f"{max(seconds - 0.5, 0):.1f}",
    "blank": lambda seconds, now: "",
    "negative": lambda seconds, now: str(-max(seconds, 1)),
    "repeated": lambda seconds, now: f"{seconds}, {seconds}",
    "word": lambda seconds, now: "soon",
}
"""The forms of a Retry-After of some seconds, as functions of the seconds and the moment."""

ID_TAILS: Mapping[str, str] = {"legal": "~a.b:c=d+e@f", "reserved": "?a#b%41&c"}
"""What follows a job's id: characters that a path may have as they are, or encoded (RFC 3986, section 3.3)."""


def in_case(name: str, case: str) -> str:
    """Return a header name in `lower`, `upper` or `title` case; any other case leaves it as it is."""
    return {"lower": str.lower, "upper": str.upper, "title": str.title}.get(case, str)(name)


@dataclass(frozen=True, slots=True)
class Sent:
    """A response to send: status, headers (lower-case names, no Content-Length), body.

    `situation` is the name of the contract's situation that it shows, None for one that no contract documents.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    situation: str | None = None

    def typed(self, media_type: str) -> Sent:
        """Return a copy with another Content-Type."""
        return self.headed("content-type", media_type)

    def headed(self, name: str, value: str) -> Sent:
        """Return a copy with a header, which replaces every header of its name."""
        bare = name.lower().encode("latin-1")
        others = tuple(header for header in self.headers if header[0] != bare)
        return replace(self, headers=(*others, (bare, value.encode("latin-1"))))

    def retry_after(self, seconds: int | None, date: int | None, now: float, form: str | None = None) -> Sent:
        """Return a copy with a Retry-After of `seconds`, or of a date this many seconds after `now`.

        A `form` writes the seconds otherwise, as one of RETRY_AFTER_FORMS.
        """
        if seconds is not None and form is not None:
            return self.headed("retry-after", RETRY_AFTER_FORMS[form](seconds, now))
        if seconds is not None:
            return self.headed("retry-after", str(seconds))
        return self if date is None else self.headed("retry-after", formatdate(now + date, usegmt=True))


# ---- effects on the connection


@dataclass(frozen=True, slots=True)
class Delay:
    """Send the response `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Send nothing; close the connection after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection without a byte."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection without a byte."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Declare the whole length, send the part `keep` of the body, and close the connection."""

    keep: float


@dataclass(frozen=True, slots=True)
class Drip:
    """Send the body in at most `pieces` equal pieces over `seconds`."""

    seconds: float
    pieces: int


@dataclass(frozen=True, slots=True)
class Framed:
    """Write the response in another form, of the same meaning; an empty field leaves that part as usual.

    * `names`: the case of header names: `lower`, `upper` or `title`.
    * `coding`: the content coding of the body: `gzip` or `deflate`, in any letters.
    * `framing`: how the end of the body is marked: `chunked`, or `close`.
    * `version`: the HTTP version of the status line: `1.0`, which closes the connection.
    * `ends`: the connection is closed after the response: `announced` in a header, or `silent`.
    * `segment`: the bytes that are written at once; 0 for all.
    """

    names: str = ""
    coding: str = ""
    framing: str = ""
    version: str = ""
    ends: str = ""
    segment: int = 0

    def over(self, other: Framed) -> Framed:
        """Return both forms together; this one wins."""
        return Framed(
            names=self.names or other.names,
            coding=self.coding or other.coding,
            framing=self.framing or other.framing,
            version=self.version or other.version,
            ends=self.ends or other.ends,
            segment=self.segment or other.segment,
        )


@dataclass(frozen=True, slots=True)
class IdleClose:
    """Send the response, and close the connection when it has been idle for `seconds`."""

    seconds: float


WireEffect = Delay | Hold | Reset | Close | Truncate | Drip | Framed | IdleClose
SILENT = (Hold, Reset, Close)
"""The effects that send nothing at all."""


# ---- effects on the first attempt of a callback


@dataclass(frozen=True, slots=True)
class Unsent:
    """Send nothing, now or later."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Deliver the callback `count` times concurrently."""

    count: int


@dataclass(frozen=True, slots=True)
class Postponed:
    """Deliver the callback `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class AfterNext:
    """Deliver the callback after the next one of the same world, or `seconds` later; `note` marks the attempt."""

    seconds: float
    note: str


@dataclass(frozen=True, slots=True)
class FalseFirst:
    """Deliver a false callback, and `apart` seconds later the true one.

    The false one is signed with `secret` (None: the right one), or not at all, `older` seconds ago. With `stranger`, it
    is the callback of a job that was never submitted, and with `failure` also, it reports that this job failed.
    """

    secret: str | None = None
    signed: bool = True
    older: float = 0.0
    stranger: bool = False
    failure: bool = False
    apart: float = 0.0


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Deliver the callback with the body that `change` returns.

    The `names` of its headers are in another case, its signature is `older` by some seconds, and its body comes
    `in_parts`: in two segments, the cut within a character if one has several bytes.
    """

    change: Callable[[bytes], bytes] = lambda body: body
    names: str = ""
    older: float = 0.0
    in_parts: bool = False

    def over(self, other: Rewritten) -> Rewritten:
        """Return both changes together, this one last."""
        return Rewritten(
            lambda body: self.change(other.change(body)),
            self.names or other.names,
            self.older or other.older,
            self.in_parts or other.in_parts,
        )


CallbackEffect = Unsent | Copies | Postponed | AfterNext | FalseFirst | Rewritten
