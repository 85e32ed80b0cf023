"""One entry of an archive as an exchange, with the parts that its recorder left out.

Recorders leave out different parts, and mark it in different ways: an absent text, an empty text beside a positive
size or a `Content-Length`, an empty list of headers, a time of -1. An empty text alone proves nothing: browsers and
proxies write it for a body that they did not keep. So a body counts as recorded only if its text is there, or if
`Content-Length: 0` shows that it is empty. Our own archives name the parts that they lack in `_unrecorded`.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from hobbyhorse.contract.formats import whole_number
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.scenarios.fault import MEDIA
from hobbyhorse.traces.exchange import ANSWER, ANSWER_HEADERS, BODY, DURATION, HEADERS, PARTS, Exchange
from hobbyhorse.traces.har_file import Attached, HarError, nothing_attached

# Bytes of a response that a trace keeps: the same as the fake records, and ample for JSON.
ANSWER_BYTES = 65_536
# Bytes of an unpacked body: far more than JSON has, and too few for a bomb to matter.
_MOST_BODY_BYTES = 16 << 20
# Methods whose requests usually have a body.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# Responses that never have a body (RFC 9110, section 6.4.1); 205 has none either.
_BODILESS = frozenset({204, 205, 304})
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d+))?\s*(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The JSON of an entry, which becomes an `Exchange` if it is about the provider; `at` is its JSON Pointer."""

    at: str
    raw: Mapping[str, Any]
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    method: str
    url: str
    arrived: float
    attached: Attached = nothing_attached

    @property
    def video(self) -> bool:
        """Whether it is a GET with a video type in its response."""
        content = self.response.get("content")
        types = [content.get("mimeType")] if isinstance(content, dict) else []
        types += [value for name, value in headers_of(self.response, f"{self.at}/response") if name == "content-type"]
        return self.method == "GET" and any(isinstance(one, str) and one.lower().startswith("video/") for one in types)

    @property
    def took(self) -> float | None:
        """The duration in seconds; None if it is not recorded."""
        took = number_of(self.raw.get("time"))
        timings = self.raw.get("timings")
        # Some programs write only the parts of the duration; -1 means that a part did not occur.
        if took is None and isinstance(timings, dict):
            parts = [number_of(timings.get(name)) for name in ("blocked", "dns", "connect", "send", "wait", "receive")]
            known = [part for part in parts if part is not None]
            took = sum(known) if known else None
        return None if took is None else took / 1000


def entry_of(raw: Any, at: str, attached: Attached) -> Entry | None:
    """Return an entry; None if it is not about HTTP. Raises HarError if a field that every entry needs is wrong."""
    request = an_object(an_object(raw, at).get("request", MISSING), f"{at}/request")
    method = text_of(request, "method", f"{at}/request").upper()
    url = text_of(request, "url", f"{at}/request").partition("#")[0]
    # Browsers also record data:, blob: and ws: URLs.
    if not url.lower().startswith(("http://", "https://")):
        return None
    parts_of_url(url, f"{at}/request/url")
    response = raw.get("response")
    response = {} if response is None else an_object(response, f"{at}/response")
    return Entry(
        at=at,
        raw=raw,
        request=request,
        response=response,
        method=method,
        url=url,
        arrived=_moment(raw, at),
        attached=attached,
    )


def an_object(value: Any, at: str) -> dict[str, Any]:
    """Return a JSON object. Raises HarError."""
    if not isinstance(value, dict):
        raise HarError(at, "is missing" if value is MISSING else f"{short(value)} is not an object")
    return value


def text_of(fields: Mapping[str, Any], name: str, at: str) -> str:
    """Return a member that is a text and not empty. Raises HarError."""
    value = fields.get(name, MISSING)
    if not isinstance(value, str) or not value:
        raise HarError(f"{at}/{name}", "is missing" if value is MISSING else f"{short(value)} is not a text")
    return value


def short(value: Any) -> str:
    """Return a value as a message quotes it."""
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'JSON object'}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def number_of(value: Any) -> float | None:
    """Return a finite number that is not negative, or None. Archives write -1 for unknown."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def parts_of_url(url: str, at: str) -> tuple[str, str]:
    """Return the origin and the undecoded path of a URL. Raises HarError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise HarError(at, f"{short(url)} is not a URL: {error}") from None
    if not parts.hostname:
        raise HarError(at, f"{short(url)} has no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    standard = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, standard) else ""), parts.path or "/"


def _moment(raw: Mapping[str, Any], at: str) -> float:
    text = text_of(raw, "startedDateTime", at)
    try:
        match = _MOMENT.fullmatch(text.strip())
        if match is None:
            raise ValueError
        date, clock, fraction, sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes)) if sign else timedelta()
        zone = timezone(-offset if sign == "-" else offset)
        whole = datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError):
        raise HarError(f"{at}/startedDateTime", f"{short(text)} is not an ISO 8601 date and time") from None
    return whole + float(f"0.{(fraction or '0')[:9]}")


def exchange_of(entry: Entry, role: str | None) -> Exchange:
    """Return an entry as an exchange that still has its secrets. Raises HarError."""
    status = entry.response.get("status", 0)
    if isinstance(status, bool) or not isinstance(status, int):
        raise HarError(f"{entry.at}/response/status", f"{short(status)} is not a status")
    status = status if 100 <= status <= 999 else 0
    broken = any(one.get("_error") for one in (entry.response, entry.raw))  # Chrome's field for a failed request
    sent, headers = (
        tuple(headers_of(one, f"{entry.at}/{name}"))
        for one, name in ((entry.request, "request"), (entry.response, "response"))
    )
    body, answer, size = posted(entry), *_answer(entry, status, dict(headers), role)
    # A browser that revalidates its cache gives the page the cached response, as if it were new.
    status = 200 if status == 304 and answer else status
    whole = bool(status) and not broken and not _cut(entry, status, dict(headers), size, role)
    return Exchange(
        arrived=entry.arrived,
        role=role,
        method=entry.method,
        url=_without_user(entry.url),
        headers=sent,
        body=body or b"",
        status=status,
        answer_headers=headers,
        answer=b"" if role == MEDIA or answer is None else answer,
        answered=_answered(entry, status, broken),
        whole=whole,
        size=size if status else 0,
        unrecorded=_unrecorded(entry, body, status, answer if role != MEDIA else b"-", size),
        page=page if isinstance(page := entry.raw.get("pageref"), str) and page else None,
    )


def _unrecorded(entry: Entry, body: bytes | None, status: int, answer: bytes | None, size: int) -> tuple[str, ...]:
    """Return the parts that an entry lacks."""
    own = entry.raw.get("_unrecorded")
    if isinstance(own, list):
        return tuple(part for part in PARTS if part in own)
    lacking = {
        BODY: _lacks_body(entry, body),
        HEADERS: not entry.request.get("headers"),
        ANSWER: bool(status) and _lacks_answer(entry, status, answer, size),
        ANSWER_HEADERS: bool(status) and not entry.response.get("headers"),
        DURATION: bool(status) and entry.took is None,
    }
    return tuple(part for part in PARTS if lacking.get(part))


def _announced(message: Mapping[str, Any], at: str) -> int | None:
    """Return the value of a Content-Length, or None."""
    found = next((value for name, value in headers_of(message, at) if name == "content-length"), "")
    return whole_number(found)


def _lacks_body(entry: Entry, body: bytes | None) -> bool:
    announced = _announced(entry.request, f"{entry.at}/request")
    sizes = [size for size in (announced, number_of(entry.request.get("bodySize"))) if size]
    if body:
        encoded = any(name == "content-encoding" for name, _ in headers_of(entry.request, f"{entry.at}/request"))
        return announced is not None and announced > len(body) and not encoded
    return bool(sizes) if entry.method not in _WITH_BODY else announced != 0


def _lacks_answer(entry: Entry, status: int, answer: bytes | None, size: int) -> bool:
    if entry.method == "HEAD" or status in _BODILESS or status < 200 or 300 <= status < 400:
        return False
    if answer is None or not answer:
        return _announced(entry.response, f"{entry.at}/response") != 0
    return len(answer) > ANSWER_BYTES or (len(answer) < size and not _is_json(answer))


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def headers_of(message: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    """Yield the headers of a request or response, their names in lower case. Raises HarError."""
    listed = message.get("headers") or []
    if not isinstance(listed, list):
        raise HarError(f"{at}/headers", f"{short(listed)} is not a list")
    for number, one in enumerate(listed):
        header = an_object(one, f"{at}/headers/{number}")
        name = text_of(header, "name", f"{at}/headers/{number}")
        if not name.startswith(":"):  # a pseudo-header of HTTP/2
            value = header.get("value")
            yield name.lower(), "" if value is None else str(value)


def posted(entry: Entry) -> bytes | None:
    """Return the body of a request; None if it is not recorded. Raises HarError."""
    at = f"{entry.at}/request/postData"
    data = an_object(entry.request.get("postData") or {}, at)
    fields = data.get("params")
    if data.get("text") is None and isinstance(fields, list) and fields:
        pairs = [(one.get("name"), one.get("value")) for one in fields if isinstance(one, dict)]
        return urlencode([(str(name), "" if value is None else str(value)) for name, value in pairs]).encode()
    body = _body(data, at, entry.attached)
    coding = next((value for name, value in headers_of(entry.request, at) if name == "content-encoding"), "")
    return _plain(body, coding)


def _answer(entry: Entry, status: int, headers: Mapping[str, str], role: str | None) -> tuple[bytes | None, int]:
    """Return the body of a response, cut to the bytes that a trace keeps, and its size. Raises HarError."""
    if not status:
        return b"", 0
    at = f"{entry.at}/response/content"
    content = an_object(entry.response.get("content") or {}, at)
    # A trace keeps nothing of a file, which may be large.
    skipped = role == MEDIA and not isinstance(content.get("text"), str)
    raw = None if skipped else _body(content, at, entry.attached)
    body = _plain(raw, headers.get("content-encoding", ""))
    known = [size for size in (number_of(content.get("size")), number_of(entry.response.get("bodySize"))) if size]
    return body, max(len(raw or b""), len(body or b""), int(known[0]) if known else 0)


def _body(content: Mapping[str, Any], at: str, attached: Attached) -> bytes | None:
    """Return a body as it is recorded; None if it is not. Raises HarError."""
    text, name = content.get("text"), content.get("_file")
    # Playwright writes an empty text beside the name of a file.
    if not text and isinstance(name, str) and name:
        try:
            return attached(name)
        except HarError as error:
            raise HarError(f"{at}/_file", str(error).partition(": ")[2]) from None
    if text is None:
        return None
    if not isinstance(text, str):
        raise HarError(f"{at}/text", f"{short(text)} is not a text")
    if content.get("encoding") != "base64":
        return encoded(text)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise HarError(f"{at}/text", f"{short(text)} is not base64") from None


def _plain(body: bytes | None, coding: str) -> bytes | None:
    """Return a body without its content coding; None if it cannot be decoded."""
    coding = coding.strip().lower()
    packed = bool(body) and (body or b"").startswith(b"\x1f\x8b")
    # Most recorders keep the decoded body beside the header that names the coding.
    if body is None or not (packed or (coding == "deflate" and not _is_json(body))):
        return None if body and coding in ("br", "zstd", "compress") and not _is_text(body) else body
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        found = reader.decompress(body, _MOST_BODY_BYTES)
    except zlib.error:
        return None if packed else body
    return found if reader.eof else None


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def encoded(text: str) -> bytes:
    """Return a text as bytes: surrogates that stand for bytes become these bytes again."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def _answered(entry: Entry, status: int, broken: bool) -> float | None:
    """Return when the response was complete; None for an incomplete one of unknown duration."""
    if not status:
        return None
    took = entry.took
    return None if broken and not took else entry.arrived + (took or 0.0)


def _cut(entry: Entry, status: int, headers: Mapping[str, str], size: int, role: str | None) -> bool:
    """Whether fewer bytes arrived than Content-Length announced, if both are known."""
    # These have no body, or a decoded one, whose size is not comparable.
    if entry.method == "HEAD" or status in _BODILESS or "content-encoding" in headers or not size:
        return False
    announced = _announced(entry.response, f"{entry.at}/response")
    # Recorders cut long bodies themselves; their limits are longer than any JSON of a job.
    return announced is not None and size < announced and (role == MEDIA or announced < ANSWER_BYTES)
