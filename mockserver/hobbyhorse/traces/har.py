"""Recorded traffic (HTTP Archive 1.2) as a trace, and a trace as an archive, without secrets. Knows no server.

A HAR file has requests and responses, but not their roles, and it comes from browsers, proxies and other tools that all
leave something out. Reading it takes three steps:

1. Find the provider's base URL, unless it is given: the host and path prefix under which most requests match an
   operation of the contract. A documented host wins, then a base with a submission.
2. Assign a role to each request, oldest first: by the operations' paths, or because an earlier response gave its URL
   (links to operations, videos, redirect targets). All other requests to the provider stay, without a role; requests
   to other hosts are left out, and named in a note.
3. Remove secrets. The key is recognised as the contract sends it, and then replaced wherever it occurs in any of its
   encodings, because clients copy it into URLs and bodies. This must come last: roles and jobs depend on the original
   URLs.

Evidence that a recorder may have left out is never assumed. A body, header or duration that is missing becomes a note,
an empty value or None, so that rules report not-observed instead of a violation.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urldefrag, urlencode, urljoin, urlsplit

import orjson

from hobbyhorse.contract.checks.places import ROLE_OF_LINK
from hobbyhorse.contract.folder import path_names
from hobbyhorse.contract.forms.expressions import MISSING, Message
from hobbyhorse.contract.reading import as_json, message_of, read_answer, read_items
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.fault import MEDIA
from hobbyhorse.scenarios.fields import FILE_URLS
from hobbyhorse.traces.annotated import SUBMISSIONS
from hobbyhorse.traces.exchange import Exchange, Headers
from hobbyhorse.traces.trace import KEY, REDACTED, Trace

# The largest file that is read: parsed JSON takes several times its size in memory.
MOST_HAR_BYTES = 512 << 20
# The most entries of a file. Reading time grows with their number; a day of polling once per second has fewer.
MOST_HAR_ENTRIES = 100_000
# Bytes of a response that a trace keeps: the same as the fake records, and ample for JSON.
ANSWER = 65_536
# Headers whose values are never shown.
SECRET_HAR_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-auth-token"}
)

# Characters of a key that is replaced everywhere. A shorter key would match ordinary words, so it is replaced only in
# its own header or parameter.
_SHORTEST = 6
# Characters of a path that is searched for operations: the search tries each occurrence of a prefix, and no operation
# of a provider has a path of this length.
_LONGEST_PATH = 8_192
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d+))?\s*(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII)


class HarError(ValueError):
    """Recorded traffic that cannot be read; `at` is the place in the file."""

    def __init__(self, at: str, reason: str) -> None:
        super().__init__(f"{at or 'the file'}: {reason}")
        self.at = at


@dataclass(frozen=True, slots=True)
class RecordedTrace:
    """A trace from recorded traffic, with notes on the limits of its evidence."""

    trace: Trace
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """The JSON of an entry, which becomes an `Exchange` if it is about the provider; `at` is its JSON Pointer."""

    at: str
    raw: Mapping[str, Any]
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    method: str
    url: str
    arrived: float

    @property
    def video(self) -> bool:
        """Whether it is a GET with a video type in its response."""
        content = self.response.get("content")
        types = [content.get("mimeType")] if isinstance(content, dict) else []
        types += [value for name, value in _headers(self.response, f"{self.at}/response") if name == "content-type"]
        return self.method == "GET" and any(isinstance(one, str) and one.lower().startswith("video/") for one in types)


@dataclass(frozen=True, slots=True)
class _Home:
    """The provider's base URL: its origin, and the prefix of its operations' paths."""

    origin: str
    prefix: str


def parse_har(data: bytes) -> Any:
    """Read the JSON of a file. Raises HarError."""
    if len(data) > MOST_HAR_BYTES:
        raise HarError("", f"has {len(data):,} bytes; allowed: {MOST_HAR_BYTES:,}; record less, or without videos")
    # Windows programs write a byte order mark, which orjson refuses.
    data = data.removeprefix(b"\xef\xbb\xbf")
    # orjson is several times as fast, but refuses NaN and lone surrogates, which some recorders write.
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise HarError(f"line {error.lineno}, column {error.colno}", f"is not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise HarError(f"byte {error.start}", "is not UTF-8") from None
    except (RecursionError, ValueError) as error:
        raise HarError("", "is nested too deeply" if isinstance(error, RecursionError) else str(error)) from None


def read_har(value: Any, contract: Contract, base: str | None = None) -> RecordedTrace:
    """Read recorded traffic with a provider, and find its base URL if none is given. Raises HarError.

    The trace has no jobs, callbacks, runs or outcomes: a recording does not show them.
    """
    entries = list(_entries(value))
    home = _given(base) if base is not None else _found(contract, entries)
    reader = _Reader(contract, home)
    # Programs write entries in order of completion; roles depend on the responses before.
    for entry in sorted(entries, key=lambda entry: entry.arrived):
        reader.read(entry)
    if not any(one.role in contract.operations for one in reader.exchanges):
        raise HarError("/log/entries", _no_match(contract, entries, home))
    return reader.recorded()


def _no_match(contract: Contract, entries: list[_Entry], home: _Home | None) -> str:
    hosts = ", ".join(sorted({urlsplit(entry.url).netloc for entry in entries})[:5]) or "none"
    where = f" below {home.origin}{home.prefix}" if home is not None else ""
    return (
        f"no request matches an operation of {contract.name}{where}; the hosts are {hosts}; "
        "give the base URL with --base, or another provider with --provider"
    )


def _entries(value: Any) -> Iterator[_Entry]:
    """Yield the HTTP entries. Fields that every entry needs are validated here, others when they are read."""
    log = _object(_object(value, "").get("log", MISSING), "/log")
    listed = log.get("entries")
    if not isinstance(listed, list):
        raise HarError("/log/entries", f"{_short(listed)} is not a list")
    if len(listed) > MOST_HAR_ENTRIES:
        raise HarError(
            "/log/entries", f"has {len(listed):,} entries; allowed: {MOST_HAR_ENTRIES:,}; split the recording"
        )
    for number, raw in enumerate(listed):
        at = f"/log/entries/{number}"
        request = _object(_object(raw, at).get("request", MISSING), f"{at}/request")
        method = _text(request, "method", f"{at}/request").upper()
        url = _text(request, "url", f"{at}/request").partition("#")[0]
        # Browsers also record data:, blob: and ws: URLs.
        if url.lower().startswith(("http://", "https://")):
            _parts(url, f"{at}/request/url")
            response = raw.get("response")
            response = {} if response is None else _object(response, f"{at}/response")
            yield _Entry(
                at=at,
                raw=raw,
                request=request,
                response=response,
                method=method,
                url=url,
                arrived=_moment(raw, at),
            )


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HarError(at, "is missing" if value is MISSING else f"{_short(value)} is not an object")
    return value


def _text(fields: Mapping[str, Any], name: str, at: str) -> str:
    value = fields.get(name, MISSING)
    if not isinstance(value, str) or not value:
        raise HarError(f"{at}/{name}", "is missing" if value is MISSING else f"{_short(value)} is not a text")
    return value


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'JSON object'}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _number(value: Any) -> float | None:
    """Return a finite number that is not negative, or None. Archives write -1 for unknown."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _parts(url: str, at: str) -> tuple[str, str]:
    """Return the origin and the undecoded path of a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise HarError(at, f"{_short(url)} is not a URL: {error}") from None
    if not parts.hostname:
        raise HarError(at, f"{_short(url)} has no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    standard = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, standard) else ""), parts.path or "/"


def _moment(raw: Mapping[str, Any], at: str) -> float:
    text = _text(raw, "startedDateTime", at)
    try:
        match = _MOMENT.fullmatch(text.strip())
        if match is None:
            raise ValueError
        date, clock, fraction, sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes)) if sign else timedelta()
        zone = timezone(-offset if sign == "-" else offset)
        whole = datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError):
        raise HarError(f"{at}/startedDateTime", f"{_short(text)} is not an ISO 8601 date and time") from None
    return whole + float(f"0.{(fraction or '0')[:9]}")


def _given(base: str) -> _Home:
    if not base.lower().startswith(("http://", "https://")):
        raise HarError(
            "--base", f"{base!r} is not a URL; give the provider's base URL, such as https://api.example.com"
        )
    origin, path = _parts(base, "--base")
    return _Home(origin, path.rstrip("/"))


def _ordered(contract: Contract) -> list[Operation]:
    """Return the operations, the most specific path first."""
    return sorted(
        contract.operations.values(),
        key=lambda one: ("{" in one.path, -len(one.path.partition("{")[0]), -len(one.path)),
    )


def _found(contract: Contract, entries: Iterable[_Entry]) -> _Home | None:
    """Find the base URL: a documented host first, then one with a submission, then one with most matches."""
    met: Counter[_Home] = Counter()
    ordered: set[_Home] = set()
    # Counted once for each distinct request: a job polled a thousand times has one path.
    seen = Counter((entry.method, *_parts(entry.url, entry.at)) for entry in entries)
    for (method, origin, path), times in seen.items():
        for home, role in set(_homes(contract, method, origin, path)):
            met[home] += times
            if role in SUBMISSIONS:
                ordered.add(home)

    def worth(home: _Home) -> tuple[bool, bool, int, int]:
        documented = home.origin.partition("//")[2] in contract.hosts
        # At a tie the longer prefix wins: a shorter one matches the same requests only by chance.
        return documented, home in ordered, met[home], len(home.prefix)

    return max(met, key=worth, default=None)


def _homes(contract: Contract, method: str, origin: str, path: str) -> Iterator[tuple[_Home, str]]:
    if len(path) > _LONGEST_PATH:
        return
    for operation in contract.operations.values():
        beginning = operation.path.partition("{")[0]
        start = path.find(beginning) if operation.method == method else -1
        while start >= 0:
            if operation.pattern.fullmatch(unquote(path[start:])):
                yield _Home(origin, path[:start]), operation.role
            start = path.find(beginning, start + 1)


class _Reader:
    """Reads entries, oldest first, and remembers the URLs that responses gave."""

    def __init__(self, contract: Contract, home: _Home | None) -> None:
        self.contract, self.home = contract, home
        self.exchanges: list[Exchange] = []
        self.model: str | None = None
        self._operations = _ordered(contract)
        self._given: dict[str, tuple[str, str | None]] = {}
        self._left_out: list[_Entry] = []
        self._base: str | None = None
        self._preflights = self._bodiless = 0

    def read(self, entry: _Entry) -> None:
        """Add an entry to the trace if it concerns the provider."""
        role, path, ours = self._role(entry)
        # A browser sends preflight requests itself; the client's code does not control them.
        if entry.method == "OPTIONS" and role is None:
            self._preflights += ours
            return
        # Traffic to other hosts is not the provider's to judge, and may be private.
        if role is None and not ours:
            self._left_out.append(entry)
            return
        exchange = _exchange(entry, role)
        operation = self.contract.operations.get(role or "")
        job = self._given.get(entry.url, ("", None))[1]
        if operation is not None:
            exchange = replace(exchange, job=job)
            exchange = self._learn(operation, path, exchange)
            self._bodiless += exchange.status not in (0, 204, 304) and exchange.whole and not exchange.answer
        self._redirected(exchange)
        self.exchanges.append(exchange)

    def _role(self, entry: _Entry) -> tuple[str | None, Mapping[str, str], bool]:
        """Return a request's role, its path parameters, and whether it went to the provider."""
        origin, path = _parts(entry.url, entry.at)
        given = self._given.get(entry.url) or self._given.get(entry.url.partition("?")[0])
        if given is not None and given[0] == MEDIA and entry.method in ("GET", "HEAD"):
            return MEDIA, {}, False
        ours = self.home is not None and origin == self.home.origin and f"{path}/".startswith(f"{self.home.prefix}/")
        if ours and self.home is not None:
            rest = unquote(path[len(self.home.prefix) :])
            for one in self._operations:
                if one.method == entry.method and (match := one.pattern.fullmatch(rest)):
                    parts = urlsplit(entry.url)
                    self._base = self._base or f"{parts.scheme}://{_host(entry.url)}{self.home.prefix}"
                    return one.role, dict(zip(path_names(one.path), match.groups(), strict=True)), True
        if given is not None and given[0] != MEDIA and self.contract.operations[given[0]].method == entry.method:
            return given[0], {}, ours
        return (MEDIA if entry.video else None), {}, ours

    def _learn(self, operation: Operation, path: Mapping[str, str], exchange: Exchange) -> Exchange:
        """Remember the URLs in a response, and return the exchange with its job."""
        query = dict(parse_qsl(urlsplit(exchange.url).query))
        request = Message(path, query, exchange.header, as_json(exchange.body))
        if self.model is None and (named := self._bound(operation, "model", request)) is not None:
            model = self.contract.model(named)
            self.model = model.id if model is not None else None
        job = self._bound(operation, "job", request) or exchange.job
        response = message_of(exchange.answer_headers, as_json(exchange.answer))
        values = read_answer(self.contract.schemas, operation, exchange.status, response).values
        # Only a complete success names the job that a request made.
        if job is None and 200 <= exchange.status < 300 and exchange.whole and isinstance(values.get("job"), str):
            job = values["job"]
        for found in (values, *read_items(operation, response)):
            self._remember(exchange.url, found, job)
        return replace(exchange, job=job)

    @staticmethod
    def _bound(operation: Operation, name: str, message: Message) -> str | None:
        """Return a bound text value of a request, or None."""
        binding = operation.bindings.get(name)
        found = (place.get(message) for place in binding.request) if binding is not None else ()
        return next((value for value in found if isinstance(value, str) and value), None)

    def _remember(self, url: str, values: Mapping[str, Any], job: str | None) -> None:
        for name in (*ROLE_OF_LINK, *FILE_URLS):
            address, role = values.get(name), ROLE_OF_LINK.get(name, MEDIA)
            if isinstance(address, str) and address and (role == MEDIA or role in self.contract.operations):
                self._expect(url, address, role, job)

    def _expect(self, url: str, address: str, role: str, job: str | None) -> None:
        try:
            full = urldefrag(urljoin(url, address)).url
        except ValueError:
            return
        self._given[full] = (role, job)
        if role == MEDIA:
            # A client may drop or renew the signature in the query.
            self._given.setdefault(full.partition("?")[0], (role, job))

    def _redirected(self, exchange: Exchange) -> None:
        location = exchange.answer_header("location")
        if location and exchange.role is not None and 300 <= exchange.status < 400:
            self._expect(exchange.url, location, exchange.role, exchange.job)

    def recorded(self) -> RecordedTrace:
        """Return the trace without secrets, with its notes."""
        home = self.home.origin if self.home is not None else ""
        # Only requests to the provider show its key: elsewhere, the same header may have another account's.
        own = [one for one in self.exchanges if _parts(one.url, "")[0] == home]
        redactor = _Redactor(self.contract, _keys(self.contract, own))
        exchanges = tuple(map(redactor.exchange, self.exchanges))
        files = [_parts(one.url, "")[0] for one in exchanges if one.role == MEDIA]
        # The last known moment is the end of the observation.
        ends = [moment for one in exchanges for moment in (one.arrived, one.answered) if moment is not None]
        trace = Trace(
            provider=self.contract.key,
            base=redactor.text(self._base or home),
            exchanges=exchanges,
            ended=max(ends, default=0.0),
            model=self.model,
            origins={MEDIA: other} if (other := next((one for one in files if one != home), None)) else {},
        )
        return RecordedTrace(trace, tuple(self._notes(redactor, trace)))

    def _notes(self, redactor: _Redactor, trace: Trace) -> Iterator[str]:
        if self._left_out:
            hosts = Counter(_host(entry.url) for entry in self._left_out)
            named = ", ".join(f"{host} ({times})" for host, times in hosts.most_common(5))
            more = f" and {len(hosts) - 5} more hosts" if len(hosts) > 5 else ""
            yield f"left out: requests to other hosts: {named}{more}"
        if leaked := sorted({_host(entry.url) for entry in self._left_out if redactor.finds_key(entry)}):
            yield f"left out, but sent with the provider's key: requests to {', '.join(leaked[:5])}"
        if self._preflights:
            yield f"left out: preflight requests of a browser: {self._preflights}"
        if self._bodiless:
            yield f"responses without their body in the recording, which cannot be judged: {self._bodiless}"
        if not any(KEY in text for one in trace.exchanges for text in (one.url, *(value for _, value in one.headers))):
            yield "no request has a key in the recording (browsers omit it), so the rules about keys cannot be judged"


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _exchange(entry: _Entry, role: str | None) -> Exchange:
    """Return an entry as an exchange that still has its secrets."""
    status = entry.response.get("status", 0)
    if isinstance(status, bool) or not isinstance(status, int):
        raise HarError(f"{entry.at}/response/status", f"{_short(status)} is not a status")
    status = status if 100 <= status <= 999 else 0
    broken = any(one.get("_error") for one in (entry.response, entry.raw))  # Chrome's field for a failed request
    headers = tuple(_headers(entry.response, f"{entry.at}/response"))
    content = entry.response.get("content") or {}
    body = _body(_object(content, f"{entry.at}/response/content"), f"{entry.at}/response/content") if status else b""
    known = [size for size in (_number(content.get("size")), _number(entry.response.get("bodySize"))) if size]
    size = max(len(body), int(known[0]) if known else 0)
    return Exchange(
        arrived=entry.arrived,
        role=role,
        method=entry.method,
        url=_without_user(entry.url),
        headers=tuple(_headers(entry.request, f"{entry.at}/request")),
        body=_posted(entry),
        status=status,
        answer_headers=headers,
        answer=b"" if role == MEDIA else body,
        answered=_answered(entry, status, broken),
        whole=bool(status) and not broken and not _cut(entry.method, status, dict(headers), size),
        size=size if status else 0,
    )


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def _headers(message: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    listed = message.get("headers") or []
    if not isinstance(listed, list):
        raise HarError(f"{at}/headers", f"{_short(listed)} is not a list")
    for number, one in enumerate(listed):
        header = _object(one, f"{at}/headers/{number}")
        name = _text(header, "name", f"{at}/headers/{number}")
        if not name.startswith(":"):  # a pseudo-header of HTTP/2
            value = header.get("value")
            yield name.lower(), "" if value is None else str(value)


def _body(content: Mapping[str, Any], at: str) -> bytes:
    text = content.get("text")
    if text is None:
        return b""
    if not isinstance(text, str):
        raise HarError(f"{at}/text", f"{_short(text)} is not a text")
    if content.get("encoding") != "base64":
        return _encoded(text)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise HarError(f"{at}/text", f"{_short(text)} is not base64") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def _posted(entry: _Entry) -> bytes:
    at = f"{entry.at}/request/postData"
    posted = _object(entry.request.get("postData") or {}, at)
    fields = posted.get("params")
    if posted.get("text") is None and isinstance(fields, list):
        pairs = [(one.get("name"), one.get("value")) for one in fields if isinstance(one, dict)]
        return urlencode([(str(name), "" if value is None else str(value)) for name, value in pairs]).encode()
    return _body(posted, at)


def _answered(entry: _Entry, status: int, broken: bool) -> float | None:
    """Return when the response was complete; None for an incomplete one of unknown duration."""
    if not status:
        return None
    took = _number(entry.raw.get("time"))
    timings = entry.raw.get("timings")
    # Some programs write only the parts of the duration; -1 means that a part did not occur.
    if took is None and isinstance(timings, dict):
        parts = (_number(timings.get(name)) for name in ("blocked", "dns", "connect", "send", "wait", "receive"))
        took = sum(part for part in parts if part is not None)
    if broken and not took:
        return None
    return entry.arrived + (took or 0.0) / 1000


def _cut(method: str, status: int, headers: Mapping[str, str], size: int) -> bool:
    """Whether fewer bytes arrived than Content-Length announced, if both are known."""
    announced = headers.get("content-length", "")
    # These have no body, or a decoded one, whose size is not comparable.
    if method == "HEAD" or status in (204, 304) or "content-encoding" in headers or not size:
        return False
    return announced.isascii() and announced.isdigit() and len(announced) < 19 and size < int(announced)


def _keys(contract: Contract, exchanges: Iterable[Exchange]) -> frozenset[str]:
    """Return the keys in the places where the contract expects them."""
    found = set()
    for one in exchanges:
        query = parse_qsl(urlsplit(one.url).query)
        for part, name, before in contract.security:
            for given, value in one.headers if part == "header" else query:
                if given == name and value.lower().startswith(before):
                    found.add(value[len(before) :].strip())
    return frozenset(found - {"", KEY, REDACTED})


class _Redactor:
    """Replaces keys wherever they occur, and other secrets in the headers that carry them."""

    def __init__(self, contract: Contract, keys: frozenset[str]) -> None:
        self._contract, self._keys = contract, keys
        self._names = SECRET_HAR_HEADERS | {name for part, name, _ in contract.security if part == "header"}
        self._query = frozenset(name for part, name, _ in contract.security if part == "query")
        # The longest form first: a shorter one may be part of it.
        forms = {form for key in keys if len(key) >= _SHORTEST for form in _forms(key)}
        self._forms = sorted(forms, key=len, reverse=True)

    def exchange(self, one: Exchange) -> Exchange:
        """Return an exchange without secrets, and with only the part of its response that a trace keeps."""
        return replace(
            one,
            url=self.url(one.url),
            headers=tuple(self._headers(one.headers)),
            body=self.content(one.body),
            answer_headers=tuple(self._headers(one.answer_headers)),
            answer=self.content(one.answer)[:ANSWER],
        )

    def text(self, text: str) -> str:
        """Return a text with KEY in place of each key."""
        for form in self._forms:
            text = text.replace(form, KEY)
        return text

    def content(self, content: bytes) -> bytes:
        """Return a body with KEY in place of each key."""
        for form in self._forms:
            content = content.replace(_encoded(form), KEY.encode())
        return content

    def url(self, url: str) -> str:
        """Return a URL without keys."""
        before, mark, query = url.partition("?")
        arguments = [self._argument(*one.partition("=")) for one in query.split("&")]
        return self.text(before) + mark + "&".join(arguments)

    def _argument(self, name: str, equals: str, value: str) -> str:
        if unquote(name) in self._query and value not in (KEY, REDACTED):
            value = KEY if unquote(value) in self._keys else REDACTED
        return self.text(name) + equals + self.text(value)

    def _headers(self, headers: Headers) -> Iterator[tuple[str, str]]:
        for name, value in headers:
            yield name, self._secret(name, value) if name in self._names else self.text(value)

    def _secret(self, name: str, value: str) -> str:
        for part, way, before in self._contract.security:
            if (part, way) == ("header", name) and value.lower().startswith(before):
                given = value[len(before) :].strip()
                if given == KEY or given in self._keys:
                    return value[: len(before)] + KEY
        hidden = self.text(value)
        return hidden if hidden != value or value == KEY else REDACTED

    def finds_key(self, entry: _Entry) -> bool:
        """Whether a request has a key in it."""
        texts = [entry.url, *(value for _, value in _headers(entry.request, f"{entry.at}/request"))]
        return any(self.text(text) != text for text in texts) or self.content(body := _posted(entry)) != body


def _forms(key: str) -> set[str]:
    """Return the encodings of a key: plain, in a URL, and in JSON."""
    quoted = json.dumps(key)[1:-1]
    return {key, quote(key, safe=""), quote_plus(key), quoted, quoted.replace("/", "\\/")}


def to_har(trace: Trace) -> dict[str, Any]:
    """Return a trace as a HAR 1.2 archive without secrets; times are exact to a microsecond."""
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "hobbyhorse", "version": "1"},
            "pages": [],
            "entries": [_entry(one, trace.secret) for one in trace.exchanges],
        }
    }


def _entry(one: Exchange, secret: str | None) -> dict[str, Any]:
    # Rounded to microseconds, so that writing and reading a trace is stable.
    took = 0.0 if one.answered is None else max(0.0, round((one.answered - one.arrived) * 1000, 3))
    began = datetime.fromtimestamp(one.arrived, timezone.utc).isoformat(timespec="microseconds")
    about = {"_role": one.role, "_job": one.job, "_situation": one.situation, "_move": one.move}
    return {
        "startedDateTime": began.replace("+00:00", "Z"),
        "time": took,
        "request": _request(one, secret),
        "response": _response(one, secret),
        "cache": {},
        "timings": {"send": 0, "wait": took, "receive": 0},
        **{name: value for name, value in about.items() if value is not None},
    }


def _request(one: Exchange, secret: str | None) -> dict[str, Any]:
    url = _hidden(one.url, secret)
    request: dict[str, Any] = {
        "method": one.method,
        "url": url,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _listed(one.headers, secret),
        "queryString": [{"name": name, "value": value} for name, value in parse_qsl(urlsplit(url).query, True)],
        "headersSize": -1,
        "bodySize": len(one.body),
    }
    if one.body:
        request["postData"] = {"mimeType": one.header("content-type") or "", **_content(one.body, secret)}
    return request


def _response(one: Exchange, secret: str | None) -> dict[str, Any]:
    size = max(one.size, len(one.answer)) if one.status else 0
    content: dict[str, Any] = {"size": size, "mimeType": one.answer_header("content-type") or ""}
    if one.answer or not size:
        content |= _content(one.answer, secret)
    response = {
        "status": one.status,
        "statusText": "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _listed(one.answer_headers, secret),
        "content": content,
        "redirectURL": _hidden(one.answer_header("location") or "", secret),
        "headersSize": -1,
        "bodySize": -1,
    }
    if not one.status:
        response["_error"] = "no response"
    elif not one.whole or one.answered is None:
        response["_error"] = "the response is incomplete"
    return response


def _listed(headers: Headers, secret: str | None) -> list[dict[str, str]]:
    return [
        {"name": name, "value": REDACTED if name in SECRET_HAR_HEADERS and KEY not in value else _hidden(value, secret)}
        for name, value in headers
    ]


def _hidden(text: str, secret: str | None) -> str:
    return text.replace(secret, REDACTED) if secret else text


def _content(body: bytes, secret: str | None) -> dict[str, str]:
    body = body.replace(secret.encode(), REDACTED.encode()) if secret else body
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"text": base64.b64encode(body).decode(), "encoding": "base64"}
