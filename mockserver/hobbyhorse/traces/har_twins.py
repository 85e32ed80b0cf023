"""Entries that no server received, or that stand for a request that another entry shows: left out before reading.

A browser lists a request of a page twice if a service worker passes it on: as the page's request, and as the worker's.
It also lists responses from its own cache, its own redirects to HTTPS, and requests that it blocked. A provider would
have seen none of them, so a rule that counts requests must not either.

Two entries are one request if one is marked as passed on, or, in a browser's recording, if one takes place during the
other, and if everything that both have is equal: method, URL, body, keys, status and response.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hobbyhorse.traces.har_entry import Entry, headers_of
from hobbyhorse.traces.redaction import is_secret_name

# Requests to one URL that may still be under way: browsers open six connections to a host, and HTTP/2 rarely has more
# streams of one URL.
_MOST_OPEN = 16
# Seconds by which recorded times may differ from the true ones: archives have milliseconds, rounded.
_ROUNDING = 0.002
# The archives of browsers, by the beginning of the creator's name in lower case.
_BROWSERS = ("webinspector", "webkit", "firefox", "playwright", "browser", "chrome", "safari", "puppeteer")
# The members with which recorders mark a request that a service worker handled, in an entry or its response.
_MARKS = ("_fetchedViaServiceWorker", "_fromServiceWorker", "_serviceWorker", "fromServiceWorker")
# WebKit's words for the source of a response.
_CACHED = frozenset({"memory cache", "disk cache"})
_VIA_WORKER = "service worker"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The numbers of entries that were left out: passed on by a service worker, listed twice, never sent."""

    passed_on: int = 0
    repeated: int = 0
    unsent: int = 0


def is_own(log: Mapping[str, Any]) -> bool:
    """Whether an archive is from this program, which lists each request once."""
    return _creator(log) == "hobbyhorse"


def _creator(log: Mapping[str, Any]) -> str:
    creator = log.get("creator")
    name = creator.get("name") if isinstance(creator, dict) else None
    return name.strip().lower() if isinstance(name, str) else ""


def without_twins(log: Mapping[str, Any], entries: Iterable[Entry]) -> tuple[list[Entry], LeftOut]:
    """Return the entries that a server received, oldest first, and the numbers of the others."""
    # Programs write entries in order of completion; roles depend on the responses before.
    ordered = sorted(entries, key=lambda entry: entry.arrived)
    if is_own(log):
        return ordered, LeftOut()
    sent = [entry for entry in ordered if not _is_unsent(entry)]
    once = list(_once(sent))
    is_browser = isinstance(log.get("browser"), dict) or _creator(log).startswith(_BROWSERS)
    found = _joined(once, is_browser)
    # A worker that answers from its own cache has passed nothing on.
    kept = [entry for entry in found if not (_via_worker(entry) and _source(entry) not in ("", "network"))]
    unsent = len(ordered) - len(sent) + len(found) - len(kept)
    return kept, LeftOut(passed_on=len(once) - len(found), repeated=len(sent) - len(once), unsent=unsent)


def _is_unsent(entry: Entry) -> bool:
    """Whether a browser did not send a request: it had the response, redirected it itself, or blocked it."""
    cached = bool(entry.raw.get("_fromCache")) or _fetch_type(entry) in _CACHED
    # RFC 6797: the browser itself redirects to HTTPS. No server writes this header.
    redirected = any(name == "non-authoritative-reason" for name, _ in headers_of(entry.response, entry.at))
    errors = [one.get("_error") for one in (entry.raw, entry.response)]
    blocked = any(isinstance(one, str) and one.startswith("net::ERR_BLOCKED_BY") for one in errors)
    return cached or redirected or (blocked and not entry.response.get("status"))


def _fetch_type(entry: Entry) -> str:
    found = [one.get("_fetchType") for one in (entry.raw, entry.response)]
    return next((one.lower() for one in found if isinstance(one, str)), "")


def _via_worker(entry: Entry) -> bool:
    """Whether a recorder marks a request as handled by a service worker."""
    marked = any(one.get(name) for one in (entry.raw, entry.response) for name in _MARKS)
    return marked or _fetch_type(entry) == _VIA_WORKER


def _source(entry: Entry) -> str:
    """Return the source of a service worker's response, in Chrome's words; empty if it is unknown."""
    found = [one.get("_serviceWorkerResponseSource") for one in (entry.raw, entry.response)]
    return next((one for one in found if isinstance(one, str)), "")


def _once(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries without exact repetitions, as in archives that were joined."""
    seen: set[tuple[object, ...]] = set()
    for entry in entries:
        text, status = _text(entry.response.get("content")), entry.response.get("status")
        if (text or _is_redirect(status)) and isinstance(status, int):
            same = (entry.arrived, entry.method, entry.url, entry.took, status, _text(_posted(entry)), text)
            if same in seen:
                continue
            seen.add(same)
        yield entry


def _is_redirect(status: object) -> bool:
    return isinstance(status, int) and 300 <= status < 400


def _posted(entry: Entry) -> Any:
    return entry.request.get("postData")


def _text(content: Any) -> str | None:
    """Return a recorded text, or the name of its file; None if there is neither."""
    found = (content.get("text"), content.get("_file")) if isinstance(content, dict) else ()
    return next((one for one in found if isinstance(one, str) and one), None)


def _joined(entries: list[Entry], is_browser: bool) -> list[Entry]:
    """Return entries without those that a later entry shows as the service worker passed them on."""
    under_way: dict[tuple[str, str], deque[int]] = {}
    found: list[Entry | None] = list(entries)
    for number, entry in enumerate(entries):
        others = under_way.setdefault((entry.method, entry.url), deque(maxlen=_MOST_OPEN))
        for place in others:
            outer = found[place]
            if outer is not None and _passed_on(outer, entry, is_browser):
                found[number], found[place] = _completed(entry, outer), None
                break
        others.append(number)
    return [entry for entry in found if entry is not None]


def _passed_on(outer: Entry, inner: Entry, is_browser: bool) -> bool:
    """Whether an entry shows a request that a service worker passed on for another entry."""
    marked = _via_worker(outer) and not _via_worker(inner)
    took = outer.took or 0.0
    if inner.arrived > outer.arrived + took + _ROUNDING:
        return False
    if marked:
        return _alike(outer, inner)
    nested = inner.arrived + (inner.took or 0.0) <= outer.arrived + took + _ROUNDING
    # Without a mark, only an equal response shows that two requests are one.
    answered = _text(outer.response.get("content")) is not None and _text(inner.response.get("content")) is not None
    return is_browser and nested and answered and not _via_worker(inner) and _alike(outer, inner)


def _alike(one: Entry, other: Entry) -> bool:
    """Whether everything that two entries both have is equal."""
    statuses = {one.response.get("status"), other.response.get("status")} - {0, None}
    pairs = [(_posted(one), _posted(other)), (one.response.get("content"), other.response.get("content"))]
    texts = [(_text(mine), _text(theirs)) for mine, theirs in pairs]
    mine, theirs = _keys(one), _keys(other)
    keyed = all(mine[name] == theirs[name] for name in mine.keys() & theirs.keys())
    return len(statuses) < 2 and keyed and all(None in pair or pair[0] == pair[1] for pair in texts)


def _keys(entry: Entry) -> dict[str, str]:
    """Return the headers that make two requests different ones: keys of any kind, and the range of a download."""
    listed = headers_of(entry.request, f"{entry.at}/request")
    return {name: value for name, value in listed if is_secret_name(name) or name == "range"}


def _completed(entry: Entry, other: Entry) -> Entry:
    """Return an entry with the parts of another entry of the same request that it lacks itself."""
    request, response = dict(entry.request), dict(entry.response)
    if _text(_posted(entry)) is None and _posted(other):
        request["postData"] = _posted(other)
    if not entry.request.get("headers") and other.request.get("headers"):
        request["headers"] = other.request["headers"]
    if not entry.response.get("headers") and other.response.get("headers"):
        response["headers"] = other.response["headers"]
    if _text(entry.response.get("content")) is None and other.response.get("content"):
        response["content"] = other.response["content"]
    return replace(entry, request=request, response=response)
