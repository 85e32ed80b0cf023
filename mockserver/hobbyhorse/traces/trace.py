"""The traffic between a client and a provider, as frozen values and as JSON. Knows no contract and no server."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hobbyhorse.traces.exchange import UNWRITTEN
from hobbyhorse.traces.exchange import Exchange as Exchange
from hobbyhorse.traces.exchange import Headers as Headers

# Raised when a reader would misread the new form; new optional fields do not change it.
TRACE_FORMAT = 1
# Replaces the API key in headers, URLs and bodies. Distinct from REDACTED, because rules check where the key went.
KEY = "[key]"
# The replacements if a trace has several API keys: each keeps a number, because two keys mean two accounts.
NUMBERED_KEY = re.compile(r"\[key(?:-[1-9]\d{0,5})?\]")
# Replaces every other secret in a header.
REDACTED = "[redacted]"
# A run ends with the video, with a failure of the provider, at its own deadline, with another error, or not at all.
OUTCOMES = ("success", "failed", "timeout", "error", "unfinished")


def shows_key(text: str) -> bool:
    """Whether a text has a replaced API key in it."""
    return NUMBERED_KEY.search(text) is not None


# How the message of an unfinished run begins if its process was lost.
PROCESS_LOST = (
    "the client ended its own process",
    "the client's process was ended",
    "the client replaced its own process",
    "the client closed the files of its process",
)


class TraceError(ValueError):
    """A trace that cannot be read."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver a callback, and the receiver's response.

    `kind` is `genuine`, or the reason why a receiver must not act on it: `forged`, `stale`, `unsigned`, `unknown_job`.
    `note` is the applied fault, or a remark of the receiver. `status` is None without a response within the deadline;
    `error` is then the reason.
    """

    sent: float
    job: str | None
    number: int
    body: bytes = b""
    headers: Headers = ()
    answered: float | None = None
    status: int | None = None
    error: str | None = None
    kind: str = "genuine"
    note: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver responded with a 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one run of a client; `kind` is one of OUTCOMES.

    `told` means that the client named the kind itself; otherwise it is inferred from an exit status or an exception.
    `id_exposed` means that the client's caller learned the job's id; None if unknown. `sha256` and `size` describe the
    video that the client returned, if any. `by_reference` means that it returned a URL instead. `kept` means that it
    left a file behind without reporting success. `stuck` means that every thread of the client waited for an event that
    could not happen. `reasons` are the provider's error codes and messages that the client's caller learned; None if
    unknown. `saved` is the path that the client returned; `replaced` means that another run has overwritten or removed
    the file there, and is None without such a file. `shows_key` tells whether the API key or the callback secret is in
    the messages of its error or in what it printed; None if unknown.
    """

    kind: str
    ended: float
    told: bool = False
    job: str | None = None
    id_exposed: bool | None = None
    sha256: str | None = None
    size: int | None = None
    by_reference: bool = False
    kept: bool = False
    message: str = ""
    stuck: bool = False
    reasons: tuple[str, ...] | None = None
    saved: str = ""
    replaced: bool | None = None
    shows_key: bool | None = None

    def __post_init__(self) -> None:
        if self.kind not in OUTCOMES:
            raise TraceError(f"the outcome is {self.kind!r}; allowed: {', '.join(OUTCOMES)}")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a client: its start, the base URL and the request that it was given, and its outcome.

    `resumed` means that it was restarted after the previous run had been killed.
    """

    started: float
    base: str
    request: Mapping[str, Any] | None = None
    outcome: Outcome | None = None
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class TracedJob:
    """A job as the fake knows it: when it was made, the class of its last stage, whether it is billed, its video.

    `kind` is the class of a stage: `pending`, `running`, `success`, `failure`, `cancelled` or `expired`.
    """

    id: str
    made: float
    kind: str
    billable: bool
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """The content of a fetched file: `facts` as `hobbyhorse probe --json` prints them, or an `error`.

    If the first frame was compared with the submitted picture, `facts` also has `first_frame_difference`: the mean
    difference of a sample, from 0 to 255.
    """

    job: str | None
    url: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything observed of a client: exchanges, deliveries and runs, oldest first.

    `base` is the provider's base URL as the client used it; `origins` are the origins of the other servers that
    responses name: `media`, `foreign`, `private`. `ended` is the end of the observation, a quiet time after the last
    run. `drill` is the kind of the test case, `point` the request at which the client was killed. `jobs` is None if
    unknown (recorded traffic). `scenario` was armed; `unmet` are its faults that no request met. `secret` signs the
    callbacks. `virtual` means that the client ran in virtual time. `plain` is the outcome
    of the same case without its variations, if it has some. `order` is the body that the test case gave to the client,
    unless that is the plain one. `patience` is the time in seconds after which the client gives up a job that never
    ends, if another run has shown it. `real_dates` means that a library may have read the date of the machine in place
    of the virtual one. `unjudged` names what the client used that virtual time does not cover: the run proves nothing.

    A client that falls back to a second provider has a trace for each. `partner` is the trace of the same runs with the
    other provider, and `rank` the place of this one, from 0.
    """

    provider: str
    base: str
    exchanges: tuple[Exchange, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    runs: tuple[Run, ...] = ()
    jobs: tuple[TracedJob, ...] | None = None
    ended: float = 0.0
    model: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    drill: str = "once"
    point: int = 0
    scenario: Mapping[str, Any] = field(default_factory=dict)
    unmet: tuple[str, ...] = ()
    videos: tuple[Video, ...] = ()
    secret: str | None = None
    virtual: bool = False
    order: Mapping[str, Any] | None = None
    plain: Outcome | None = None
    patience: float | None = None
    real_dates: bool = False
    unjudged: str = ""
    partner: Trace | None = None
    rank: int = 0


_KINDS: Mapping[str, Any] = {
    "exchanges": Exchange,
    "deliveries": Delivery,
    "runs": Run,
    "jobs": TracedJob,
    "videos": Video,
}
_BYTES = frozenset({"body", "answer"})
_PAIRS = frozenset({"headers", "answer_headers"})


def to_json(trace: Trace) -> dict[str, Any]:
    """Return a trace as JSON: UTF-8 bytes as text, other bytes as `{"base64": ...}`, without default values."""
    return {"format": TRACE_FORMAT, **_object(trace)}


def written_fields(kind: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a record that its JSON has."""
    return [one for one in dataclasses.fields(kind) if one.metadata != UNWRITTEN]


def _object(value: Any) -> dict[str, Any]:
    fields = {}
    for one in written_fields(type(value)):
        found = getattr(value, one.name)
        default = one.default_factory() if one.default_factory is not dataclasses.MISSING else one.default
        # Defaults are omitted, so that traces in the repository stay short and new fields do not change them.
        if found != default or one.default is dataclasses.MISSING:
            fields[one.name] = _plain(found)
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if dataclasses.is_dataclass(value):
        return _object(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def read_trace(value: Any) -> Trace:
    """Read a trace from JSON. Raises TraceError."""
    if not isinstance(value, dict) or value.get("format") != TRACE_FORMAT:
        got = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise TraceError(f"'format' is {got!r}; allowed: {TRACE_FORMAT}")
    trace: Trace = _read(Trace, {name: one for name, one in value.items() if name != "format"}, "")
    return trace


def _read(kind: Any, fields: Any, at: str) -> Any:
    if not isinstance(fields, dict):
        raise TraceError(f"{at or '/'}: {fields!r} is not an object")
    known = [one.name for one in written_fields(kind)]
    if unknown := sorted(set(fields) - set(known)):
        raise TraceError(f"{at}/{unknown[0]}: unknown; allowed: {', '.join(known)}")
    values = {name: _value(kind, name, value, f"{at}/{name}") for name, value in fields.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise TraceError(f"{at or '/'}: {error}") from None


def _value(kind: Any, name: str, value: Any, at: str) -> Any:
    if kind is Trace and name in _KINDS and value is not None:
        if not isinstance(value, list):
            raise TraceError(f"{at}: {value!r} is not a list")
        return tuple(_read(_KINDS[name], item, f"{at}/{number}") for number, item in enumerate(value))
    if name in ("outcome", "plain") and value is not None:
        return _read(Outcome, value, at)
    if name == "partner" and value is not None:
        return _read(Trace, value, at)
    if name in _BYTES:
        return _bytes(value, at)
    if name in _PAIRS:
        return tuple((str(key), str(text)) for key, text in value)
    # JSON has no tuples, and a frozen value must not contain a list.
    if name in ("unmet", "unrecorded", "reasons") and value is not None:
        return tuple(value)
    return value


def _bytes(value: Any, at: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["base64"], validate=True)
    except (TypeError, KeyError, ValueError):
        raise TraceError(f"{at}: {value!r} is neither text nor base64") from None
