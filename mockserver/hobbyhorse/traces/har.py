"""Recorded traffic (HTTP Archive 1.2) as a trace, and a trace as an archive, without secrets; knows no server."""

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
from hobbyhorse.scenarios.moves import FILE_URLS, MEDIA
from hobbyhorse.traces.annotated import SUBMISSIONS
from hobbyhorse.traces.trace import KEY, REDACTED, Exchange, Headers, Trace

MOST_HAR_BYTES = 512 << 20
"""Bytes of a file that are read."""
MOST_HAR_ENTRIES = 100_000
"""Entries of a file that are read."""
ANSWER = 65_536
"""Bytes of an answer that a trace keeps."""
SECRET_HAR_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-auth-token"}
)
"""Headers whose values are never shown."""

_SHORTEST = 6
"""A shorter key is hidden where it is sent as one, and not wherever its letters stand."""
_LONGEST_PATH = 8_192
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d+))?\s*(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII)


class HarError(ValueError):
    """Recorded traffic that cannot be read: where, and why."""

    def __init__(self, at: str, reason: str) -> None:
        super().__init__(f"{at or 'the file'}: {reason}")
        self.at = at


@dataclass(frozen=True, slots=True)
class RecordedTrace:
    """A trace that was read from recorded traffic, and what a reader of verdicts should know of it, as sentences."""

    trace: Trace
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry as it stands; `at` is its place."""

    at: str
    raw: Mapping[str, Any]
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    method: str
    url: str
    arrived: float

    @property
    def video(self) -> bool:
        """Whether it is a GET that was answered with a video, by its type."""
        content = self.response.get("content")
        types = [content.get("mimeType")] if isinstance(content, dict) else []
        types += [value for name, value in _headers(self.response, f"{self.at}/response") if name == "content-type"]
        return self.method == "GET" and any(isinstance(one, str) and one.lower().startswith("video/") for one in types)


@dataclass(frozen=True, slots=True)
class _Home:
    """Where the provider is: scheme and host, and what stands before the paths of its operations."""

    origin: str
    prefix: str


def parse_har(data: bytes) -> Any:
    """Read the JSON of a file. Raises HarError."""
    if len(data) > MOST_HAR_BYTES:
        raise HarError(
            "", f"has {len(data):,} bytes; at most {MOST_HAR_BYTES:,} are read: record less, or without videos"
        )
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise HarError(f"line {error.lineno}, column {error.colno}", f"is no JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise HarError(f"byte {error.start}", "is no UTF-8") from None
    except (RecursionError, ValueError) as error:
        raise HarError("", "is nested too deeply" if isinstance(error, RecursionError) else str(error)) from None


def read_har(said: Any, contract: Contract, base: str | None = None) -> RecordedTrace:
    """Read recorded traffic with a provider, whose base URL is found where none is given. Raises HarError.

    Nobody knows from a recording what jobs there are, what callbacks came, and what the client made of it all.
    """
    entries = list(_entries(said))
    home = _given(base) if base is not None else _found(contract, entries)
    reader = _Reader(contract, home)
    for entry in sorted(entries, key=lambda entry: entry.arrived):
        reader.read(entry)
    if not any(one.role in contract.operations for one in reader.exchanges):
        raise HarError("/log/entries", _nothing(contract, entries, home))
    return reader.recorded()


def _nothing(contract: Contract, entries: list[_Entry], home: _Home | None) -> str:
    hosts = ", ".join(sorted({urlsplit(entry.url).netloc for entry in entries})[:5]) or "none"
    where = f" below {home.origin}{home.prefix}" if home is not None else ""
    return (
        f"no request plays a role of {contract.name}{where}; the hosts are {hosts}; "
        "--base says where the provider is, and --provider which it is"
    )


def _entries(said: Any) -> Iterator[_Entry]:
    """Yield the entries that are HTTP, checked as far as all of them are needed."""
    log = _object(_object(said, "").get("log", MISSING), "/log")
    listed = log.get("entries")
    if not isinstance(listed, list):
        raise HarError("/log/entries", f"got {_short(listed)}, which is no list")
    if len(listed) > MOST_HAR_ENTRIES:
        raise HarError(
            "/log/entries", f"are {len(listed):,}; at most {MOST_HAR_ENTRIES:,} are read: record less at a time"
        )
    for number, raw in enumerate(listed):
        at = f"/log/entries/{number}"
        request = _object(_object(raw, at).get("request", MISSING), f"{at}/request")
        method = _text(request, "method", f"{at}/request").upper()
        url = _text(request, "url", f"{at}/request").partition("#")[0]
        if url.lower().startswith(("http://", "https://")):
            _parts(url, f"{at}/request/url")
            response = raw.get("response")
            response = {} if response is None else _object(response, f"{at}/response")
            yield _Entry(at, raw, request, response, method, url, _moment(raw, at))


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HarError(at, "is missing" if value is MISSING else f"got {_short(value)}, which is no object")
    return value


def _text(said: Mapping[str, Any], name: str, at: str) -> str:
    value = said.get(name, MISSING)
    if not isinstance(value, str) or not value:
        raise HarError(f"{at}/{name}", "is missing" if value is MISSING else f"got {_short(value)}, which is no text")
    return value


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'JSON object'}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _number(value: Any) -> float | None:
    """Return a number that is one and not below zero, which is how archives say that they do not know."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _parts(url: str, at: str) -> tuple[str, str]:
    """Return the origin of an address, and its path as it stands."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise HarError(at, f"got {_short(url)}: {error}") from None
    if not parts.hostname:
        raise HarError(at, f"got {_short(url)}, which has no host")
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
        raise HarError(f"{at}/startedDateTime", f"got {_short(text)}, which is no moment (ISO 8601)") from None
    return whole + float(f"0.{(fraction or '0')[:9]}")


def _given(base: str) -> _Home:
    if not base.lower().startswith(("http://", "https://")):
        raise HarError("--base", f"got {base!r}; it is the provider's address, such as https://api.example.com")
    origin, path = _parts(base, "--base")
    return _Home(origin, path.rstrip("/"))


def _ordered(contract: Contract) -> list[Operation]:
    """Return the operations, those whose paths say most first."""
    return sorted(
        contract.operations.values(),
        key=lambda one: ("{" in one.path, -len(one.path.partition("{")[0]), -len(one.path)),
    )


def _found(contract: Contract, entries: Iterable[_Entry]) -> _Home | None:
    """Find where the provider is: at a host of its own, or where a job was ordered and most requests play a role."""
    met: Counter[_Home] = Counter()
    ordered: set[_Home] = set()
    seen = Counter((entry.method, *_parts(entry.url, entry.at)) for entry in entries)
    for (method, origin, path), times in seen.items():
        for home, role in set(_homes(contract, method, origin, path)):
            met[home] += times
            if role in SUBMISSIONS:
                ordered.add(home)

    def worth(home: _Home) -> tuple[bool, bool, int, int]:
        own = home.origin.partition("//")[2] in contract.hosts
        return own, home in ordered, met[home], len(home.prefix)

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
    """Reads entries, oldest first, and remembers the addresses that the answers have told."""

    def __init__(self, contract: Contract, home: _Home | None) -> None:
        self.contract, self.home = contract, home
        self.exchanges: list[Exchange] = []
        self.model: str | None = None
        self._operations = _ordered(contract)
        self._told: dict[str, tuple[str, str | None]] = {}
        self._left_out: list[_Entry] = []
        self._base: str | None = None
        self._preflights = self._bodiless = 0

    def read(self, entry: _Entry) -> None:
        """Take in an entry, if it is about this provider."""
        role, path, ours = self._role(entry)
        if entry.method == "OPTIONS" and role is None:
            self._preflights += ours
            return
        if role is None and not ours:
            self._left_out.append(entry)
            return
        exchange = _exchange(entry, role)
        operation = self.contract.operations.get(role or "")
        told = self._told.get(entry.url, ("", None))[1]
        if operation is not None:
            exchange = replace(exchange, job=told)
            exchange = self._learn(operation, path, exchange)
            self._bodiless += exchange.status not in (0, 204, 304) and exchange.whole and not exchange.answer
        self._redirected(exchange)
        self.exchanges.append(exchange)

    def _role(self, entry: _Entry) -> tuple[str | None, Mapping[str, str], bool]:
        """Return the role of a request, its path's parameters, and whether it went to the provider."""
        origin, path = _parts(entry.url, entry.at)
        told = self._told.get(entry.url) or self._told.get(entry.url.partition("?")[0])
        if told is not None and told[0] == MEDIA and entry.method in ("GET", "HEAD"):
            return MEDIA, {}, False
        ours = self.home is not None and origin == self.home.origin and f"{path}/".startswith(f"{self.home.prefix}/")
        if ours and self.home is not None:
            rest = unquote(path[len(self.home.prefix) :])
            for one in self._operations:
                if one.method == entry.method and (match := one.pattern.fullmatch(rest)):
                    parts = urlsplit(entry.url)
                    self._base = self._base or f"{parts.scheme}://{_host(entry.url)}{self.home.prefix}"
                    return one.role, dict(zip(path_names(one.path), match.groups(), strict=True)), True
        if told is not None and told[0] != MEDIA and self.contract.operations[told[0]].method == entry.method:
            return told[0], {}, ours
        return (MEDIA if entry.video else None), {}, ours

    def _learn(self, operation: Operation, path: Mapping[str, str], exchange: Exchange) -> Exchange:
        """Remember what an answer tells; return the exchange with its job."""
        query = dict(parse_qsl(urlsplit(exchange.url).query))
        asked = Message(path, query, exchange.header, as_json(exchange.body))
        if self.model is None and (named := self._asked(operation, "model", asked)) is not None:
            model = self.contract.model(named)
            self.model = model.id if model is not None else None
        job = self._asked(operation, "job", asked) or exchange.job
        answer = message_of(exchange.answer_headers, as_json(exchange.answer))
        values = read_answer(self.contract.schemas, operation, exchange.status, answer).values
        if job is None and 200 <= exchange.status < 300 and exchange.whole and isinstance(values.get("job"), str):
            job = values["job"]
        for told in (values, *read_items(operation, answer)):
            self._remember(exchange.url, told, job)
        return replace(exchange, job=job)

    @staticmethod
    def _asked(operation: Operation, name: str, message: Message) -> str | None:
        binding = operation.bindings.get(name)
        found = (place.get(message) for place in binding.request) if binding is not None else ()
        return next((value for value in found if isinstance(value, str) and value), None)

    def _remember(self, url: str, values: Mapping[str, Any], job: str | None) -> None:
        for name in (*ROLE_OF_LINK, *FILE_URLS):
            address, role = values.get(name), ROLE_OF_LINK.get(name, MEDIA)
            if isinstance(address, str) and address and (role == MEDIA or role in self.contract.operations):
                self._tell(url, address, role, job)

    def _tell(self, url: str, address: str, role: str, job: str | None) -> None:
        try:
            full = urldefrag(urljoin(url, address)).url
        except ValueError:
            return
        self._told[full] = (role, job)
        if role == MEDIA:
            self._told.setdefault(full.partition("?")[0], (role, job))

    def _redirected(self, exchange: Exchange) -> None:
        location = exchange.answer_header("location")
        if location and exchange.role is not None and 300 <= exchange.status < 400:
            self._tell(exchange.url, location, exchange.role, exchange.job)

    def recorded(self) -> RecordedTrace:
        """Return what was read, without secrets."""
        home = self.home.origin if self.home is not None else ""
        own = [one for one in self.exchanges if _parts(one.url, "")[0] == home]
        veil = _Redactor(self.contract, _keys(self.contract, own))
        exchanges = tuple(map(veil.exchange, self.exchanges))
        files = [_parts(one.url, "")[0] for one in exchanges if one.role == MEDIA]
        ends = [moment for one in exchanges for moment in (one.arrived, one.answered) if moment is not None]
        trace = Trace(
            provider=self.contract.key,
            base=veil.text(self._base or home),
            exchanges=exchanges,
            ended=max(ends, default=0.0),
            model=self.model,
            origins={MEDIA: other} if (other := next((one for one in files if one != home), None)) else {},
        )
        return RecordedTrace(trace, tuple(self._notes(veil, trace)))

    def _notes(self, veil: _Redactor, trace: Trace) -> Iterator[str]:
        if self._left_out:
            hosts = Counter(_host(entry.url) for entry in self._left_out)
            named = ", ".join(f"{host} ({times})" for host, times in hosts.most_common(5))
            more = f" and {len(hosts) - 5} more hosts" if len(hosts) > 5 else ""
            yield f"left out, for they are not about the provider, are requests to {named}{more}"
        if leaked := sorted({_host(entry.url) for entry in self._left_out if veil.betrays(entry)}):
            yield f"of what is left out, requests to {', '.join(leaked[:5])} carry the provider's key"
        if self._preflights:
            yield f"left out are a browser's preflight requests: {self._preflights}"
        if self._bodiless:
            yield f"answers whose body is not in the recording, so that what they said is not known: {self._bodiless}"
        if not any(KEY in text for one in trace.exchanges for text in (one.url, *(value for _, value in one.headers))):
            yield "no request has a key in the recording (browsers leave it out), so where keys went is not known"


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _exchange(entry: _Entry, role: str | None) -> Exchange:
    """Read an entry whole; secrets are still in it."""
    status = entry.response.get("status", 0)
    if isinstance(status, bool) or not isinstance(status, int):
        raise HarError(f"{entry.at}/response/status", f"got {_short(status)}, which is no status")
    status = status if 100 <= status <= 999 else 0
    broken = any(said.get("_error") for said in (entry.response, entry.raw))
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


def _headers(said: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    listed = said.get("headers") or []
    if not isinstance(listed, list):
        raise HarError(f"{at}/headers", f"got {_short(listed)}, which is no list")
    for number, one in enumerate(listed):
        header = _object(one, f"{at}/headers/{number}")
        name = _text(header, "name", f"{at}/headers/{number}")
        if not name.startswith(":"):
            value = header.get("value")
            yield name.lower(), "" if value is None else str(value)


def _body(said: Mapping[str, Any], at: str) -> bytes:
    text = said.get("text")
    if text is None:
        return b""
    if not isinstance(text, str):
        raise HarError(f"{at}/text", f"got {_short(text)}, which is no text")
    if said.get("encoding") != "base64":
        return _encoded(text)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise HarError(f"{at}/text", f"got {_short(text)}, which is no base64") from None


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
    """Return when the answer had come; what was broken off has an end only if the archive tells how long it took."""
    if not status:
        return None
    took = _number(entry.raw.get("time"))
    timings = entry.raw.get("timings")
    if took is None and isinstance(timings, dict):
        parts = (_number(timings.get(name)) for name in ("blocked", "dns", "connect", "send", "wait", "receive"))
        took = sum(part for part in parts if part is not None)
    if broken and not took:
        return None
    return entry.arrived + (took or 0.0) / 1000


def _cut(method: str, status: int, headers: Mapping[str, str], size: int) -> bool:
    """Whether fewer bytes came than were announced, as far as both are known."""
    announced = headers.get("content-length", "")
    if method == "HEAD" or status in (204, 304) or "content-encoding" in headers or not size:
        return False
    return announced.isascii() and announced.isdigit() and len(announced) < 19 and size < int(announced)


def _keys(contract: Contract, exchanges: Iterable[Exchange]) -> frozenset[str]:
    """Return the keys that were sent to the provider as the contract says."""
    found = set()
    for one in exchanges:
        query = parse_qsl(urlsplit(one.url).query)
        for part, name, before in contract.security:
            for given, value in one.headers if part == "header" else query:
                if given == name and value.lower().startswith(before):
                    found.add(value[len(before) :].strip())
    return frozenset(found - {"", KEY, REDACTED})


class _Redactor:
    """Hides keys wherever they stand, and other secrets where they are sent as such."""

    def __init__(self, contract: Contract, keys: frozenset[str]) -> None:
        self._contract, self._keys = contract, keys
        self._names = SECRET_HAR_HEADERS | {name for part, name, _ in contract.security if part == "header"}
        self._query = frozenset(name for part, name, _ in contract.security if part == "query")
        forms = {form for key in keys if len(key) >= _SHORTEST for form in _forms(key)}
        self._forms = sorted(forms, key=len, reverse=True)

    def exchange(self, one: Exchange) -> Exchange:
        """Return an exchange without secrets, and of its answer what a trace keeps."""
        return replace(
            one,
            url=self.url(one.url),
            headers=tuple(self._headers(one.headers)),
            body=self.content(one.body),
            answer_headers=tuple(self._headers(one.answer_headers)),
            answer=self.content(one.answer)[:ANSWER],
        )

    def text(self, text: str) -> str:
        """Return a text with KEY for keys."""
        for form in self._forms:
            text = text.replace(form, KEY)
        return text

    def content(self, content: bytes) -> bytes:
        """Return a body with KEY for keys."""
        for form in self._forms:
            content = content.replace(_encoded(form), KEY.encode())
        return content

    def url(self, url: str) -> str:
        """Return an address without keys."""
        before, mark, query = url.partition("?")
        said = [self._argument(*one.partition("=")) for one in query.split("&")]
        return self.text(before) + mark + "&".join(said)

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

    def betrays(self, entry: _Entry) -> bool:
        """Whether a request that is not about the provider has a key in it."""
        texts = [entry.url, *(value for _, value in _headers(entry.request, f"{entry.at}/request"))]
        return any(self.text(text) != text for text in texts) or self.content(body := _posted(entry)) != body


def _forms(key: str) -> set[str]:
    """Return how a key may be written: plain, in an address, in JSON."""
    quoted = json.dumps(key)[1:-1]
    return {key, quote(key, safe=""), quote_plus(key), quoted, quoted.replace("/", "\\/")}


def to_har(trace: Trace) -> dict[str, Any]:
    """Return a trace as an archive, version 1.2; moments are exact to a microsecond, and secrets are not in it."""
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "hobbyhorse", "version": "1"},
            "pages": [],
            "entries": [_entry(one, trace.secret) for one in trace.exchanges],
        }
    }


def _entry(one: Exchange, secret: str | None) -> dict[str, Any]:
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
    said: dict[str, Any] = {
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
        said["postData"] = {"mimeType": one.header("content-type") or "", **_written(one.body, secret)}
    return said


def _response(one: Exchange, secret: str | None) -> dict[str, Any]:
    size = max(one.size, len(one.answer)) if one.status else 0
    content: dict[str, Any] = {"size": size, "mimeType": one.answer_header("content-type") or ""}
    if one.answer or not size:
        content |= _written(one.answer, secret)
    said = {
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
        said["_error"] = "no answer"
    elif not one.whole or one.answered is None:
        said["_error"] = "the answer did not come as it was meant"
    return said


def _listed(headers: Headers, secret: str | None) -> list[dict[str, str]]:
    return [
        {"name": name, "value": REDACTED if name in SECRET_HAR_HEADERS and KEY not in value else _hidden(value, secret)}
        for name, value in headers
    ]


def _hidden(text: str, secret: str | None) -> str:
    return text.replace(secret, REDACTED) if secret else text


def _written(body: bytes, secret: str | None) -> dict[str, str]:
    body = body.replace(secret.encode(), REDACTED.encode()) if secret else body
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"text": base64.b64encode(body).decode(), "encoding": "base64"}
