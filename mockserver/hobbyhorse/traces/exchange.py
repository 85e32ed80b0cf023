"""One request and its response: the record that the journal, the proxy, traces and HAR archives share.

The journal and the proxy each collect an exchange in an object of their own while it is in progress, as raw bytes,
because they are on the path of every request. Both return this record. It never changes: whoever needs another
version, such as one without secrets, makes a copy with `dataclasses.replace`.

Imports nothing of the project, so that every layer from `worlds` up may import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Headers = tuple[tuple[str, str], ...]
RawHeaders = Iterable[tuple[bytes, bytes]]
SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-auth-token"}
    | {"x-mock-control-key", "x-mock-admin-key"}
)
"""Headers whose values are never shown; a contract may name more."""

# The metadata of fields that are not part of a trace's JSON: they have secrets, or only matter inside one process.
UNWRITTEN: Mapping[str, Any] = {"unwritten": True}
# The parts of an exchange that a recording may lack. A rule that needs a missing part has no evidence.
BODY, HEADERS, API_KEY = "body", "headers", "key"
ANSWER, ANSWER_HEADERS, DURATION = "answer", "answer_headers", "duration"
PARTS = (BODY, HEADERS, API_KEY, ANSWER, ANSWER_HEADERS, DURATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its response. Times are seconds since 1970 by the client's clock.

    `role` is the operation's role, `media` for a file, or None for a request that matches no operation. `answered` is
    when the last byte of the response was sent, None if it never was. A `status` of 0 means no response. `whole` means
    that the client received the response complete and as intended. `size` is the length of the whole body; `answer`
    keeps its first 64 KB, and nothing of a file. `unrecorded` names the PARTS that the recording lacks: their values
    here are empty, but were not empty on the wire. `page` is the page of a browser that sent the request, if known.

    Only a fake knows `situation` (the contract's response that it chose), `move` (the fault that it applied), and
    `made` (the job that a submission made, whether or not the response had its id). Only the server suite knows
    `probe` (the purpose of the request) and `expected` (the situation that it should produce). It also knows why a
    response is not whole: the connection was `broken_off`, or the suite `waited` that many seconds and gave up.

    Only the journal and the proxy know the `number` of a request, in order of arrival. Only the journal knows the
    `provider`, the `root` (the beginning of the URL that the provider's paths are relative to), the `notes` that
    explain a refusal, and the `raw_headers` with their secrets, which its `headers` do not show. `connections` is how
    many of the client's connections to the server were open when the response was decided; 0 if unknown.
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
    unrecorded: tuple[str, ...] = ()
    page: str | None = None
    broken_off: bool = field(default=False, metadata=UNWRITTEN)
    waited: float = field(default=0.0, metadata=UNWRITTEN)
    number: int = field(default=0, metadata=UNWRITTEN)
    provider: str | None = field(default=None, metadata=UNWRITTEN)
    root: str = field(default="", metadata=UNWRITTEN)
    notes: tuple[str, ...] = field(default=(), metadata=UNWRITTEN)
    raw_headers: RawHeaders = field(default=(), metadata=UNWRITTEN, repr=False)
    connections: int = field(default=0, metadata=UNWRITTEN)

    def header(self, name: str) -> str | None:
        """Return a header of the request, or None."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def answer_header(self, name: str) -> str | None:
        """Return a header of the response, or None."""
        return next((value for key, value in self.answer_headers if key == name.lower()), None)

    def has(self, *parts: str) -> bool:
        """Whether the recording has some of the PARTS."""
        return not any(part in self.unrecorded for part in parts)

    @property
    def moment(self) -> float:
        """The moment of arrival."""
        return self.arrived

    @property
    def path(self) -> str:
        """The decoded path below `root`."""
        return unquote(self.url[len(self.root) :].partition("?")[0])

    @property
    def query(self) -> str:
        """The query, without its question mark."""
        return self.url[len(self.root) :].partition("?")[2]
