"""What passed between a client and a provider, as frozen values and as JSON; knows no contract and no server."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TRACE_FORMAT = 1
KEY = "[key]"
"""What stands in a trace wherever the API key of the client stood: in headers, addresses and bodies."""
REDACTED = "[redacted]"
"""What stands in a trace for any other secret in a header."""
OUTCOMES = ("success", "failed", "timeout", "error", "unfinished")
"""How a client's run ends: with the video, the provider's failure, its own patience, another mistake, or not at all."""

Headers = tuple[tuple[str, str], ...]


class TraceError(ValueError):
    """A trace that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer; moments are seconds since 1970 by the clock that the client reads.

    `role` is the operation's, `media` for a file, None for a request that no operation takes. `answered` is when the
    last byte of the answer had been handed over, None if that never came about. A `status` of 0 is no answer at all.
    `whole` says that the client got the answer as it was meant, to its end. `size` is that of the whole body, of which
    `answer` keeps 64 KB, and nothing of a file. `situation` and `move` are what a fake knows: which answer of the
    contract it gave, and what a scenario made of it. `made` is the job that a submission made, told or not. `probe` and
    `expected` are what the suite for servers knows: what it sent the request for, and which situation it asks for.
    """

    arrived: float
    role: str | None
    method: str
    url: str
    headers: Headers = ()
    body: bytes = b""
    status: int = 0
    answer_headers: Headers = ()
    answer: bytes = b""
    answered: float | None = None
    whole: bool = True
    size: int = 0
    job: str | None = None
    made: str | None = None
    situation: str | None = None
    move: str | None = None
    probe: str | None = None
    expected: str | None = None

    def header(self, name: str) -> str | None:
        """Return a header of the request, or None."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def answer_header(self, name: str) -> str | None:
        """Return a header of the answer, or None."""
        return next((value for key, value in self.answer_headers if key == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try to deliver a callback, and how it was received.

    `kind` is `genuine`, or why its receiver must not act on it: `forged`, `stale`, `unsigned`, `unknown_job`. `note`
    is what a scenario made of it. `status` is None where no answer came within the deadline, and `error` says why.
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
        """Whether the receiver answered 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of a client ended, one of OUTCOMES.

    `told` says that the client named the kind itself; otherwise it is inferred from an exit status or an exception.
    `id_exposed`: whether whoever called the client learned the job's id; None is unknown. `sha256` and `size` are those
    of the video that it handed over, None where there is none. `by_reference`: it handed over an address instead.
    `kept`: it left a file behind although it reports no success.
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

    def __post_init__(self) -> None:
        if self.kind not in OUTCOMES:
            raise TraceError(f"an outcome is {self.kind!r}; allowed are {', '.join(OUTCOMES)}")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a client: when it began, the request that it was asked to send, and how it ended.

    `resumed`: it was started again, after the run before it had been killed. `base` is the base URL that it was given.
    """

    started: float
    base: str
    request: Mapping[str, Any] | None = None
    outcome: Outcome | None = None
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class TracedJob:
    """What a fake knows of a job: when it was made, the class of its last stage, what that is billed, its video.

    `kind` is a stage's class: `pending`, `running`, `success`, `failure`, `cancelled` or `expired`.
    """

    id: str
    made: float
    kind: str
    billable: bool
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """What is in a file that was fetched: `facts` as `hobbyhorse probe --json` says them, or why it is no video.

    `facts` has `first_frame_difference` too, where the first frame was compared with the picture that was sent: the
    mean difference of a sample, from 0 to 255.
    """

    job: str | None
    url: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that was seen of a client: exchanges, deliveries and runs, oldest first.

    `base` is the provider's base URL as the client used it; `origins` are the addresses of other servers that the
    answers name: `media`, `foreign`, `private`. `ended` is when the last look was taken, after a quiet time behind the
    last run. `drill` is how the client was made to run, `point` the request at which it was killed. `jobs` is None
    where nobody knows (recorded traffic). `scenario` is what was armed, `unmet` which moves of it no request has met.
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
    """What signs callbacks."""


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
    """Return a trace as JSON: bytes that are UTF-8 as text, others as `{"base64": ...}`; defaults are left out."""
    return {"format": TRACE_FORMAT, **_object(trace)}


def _object(value: Any) -> dict[str, Any]:
    said = {}
    for one in dataclasses.fields(value):
        found = getattr(value, one.name)
        default = one.default_factory() if one.default_factory is not dataclasses.MISSING else one.default
        if found != default or one.default is dataclasses.MISSING:
            said[one.name] = _plain(found)
    return said


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


def read_trace(said: Any) -> Trace:
    """Read a trace from JSON. Raises TraceError."""
    if not isinstance(said, dict) or said.get("format") != TRACE_FORMAT:
        got = said.get("format") if isinstance(said, dict) else type(said).__name__
        raise TraceError(f"no trace of format {TRACE_FORMAT}: got {got!r}")
    trace: Trace = _read(Trace, {name: value for name, value in said.items() if name != "format"}, "")
    return trace


def _read(kind: Any, said: Any, at: str) -> Any:
    if not isinstance(said, dict):
        raise TraceError(f"{at or '/'}: got {said!r}, which is no object")
    known = {one.name: one for one in dataclasses.fields(kind)}
    if unknown := sorted(set(said) - set(known)):
        raise TraceError(f"{at}/{unknown[0]}: unknown; {kind.__name__} has {', '.join(known)}")
    values = {name: _value(kind, name, value, f"{at}/{name}") for name, value in said.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise TraceError(f"{at or '/'}: {error}") from None


def _value(kind: Any, name: str, value: Any, at: str) -> Any:
    if kind is Trace and name in _KINDS and value is not None:
        if not isinstance(value, list):
            raise TraceError(f"{at}: got {value!r}, which is no list")
        return tuple(_read(_KINDS[name], item, f"{at}/{number}") for number, item in enumerate(value))
    if kind is Run and name == "outcome" and value is not None:
        return _read(Outcome, value, at)
    if name in _BYTES:
        return _bytes(value, at)
    if name in _PAIRS:
        return tuple((str(key), str(text)) for key, text in value)
    if name == "unmet":
        return tuple(value)
    return value


def _bytes(value: Any, at: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["base64"], validate=True)
    except (TypeError, KeyError, ValueError):
        raise TraceError(f"{at}: got {value!r}, which is neither a text nor base64") from None
