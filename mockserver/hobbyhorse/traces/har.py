"""Recorded traffic (HTTP Archive 1.2) as a trace without secrets. Knows no server.

A HAR file has requests and responses, but not their roles, and it comes from browsers, proxies and other tools that all
leave something out. Reading it takes four steps:

1. Leave out the entries that no server received, and of a request that is listed twice, one (`har_twins`).
2. Find the provider's base URL, unless it is given: the host and path prefix under which most requests match an
   operation of the contract. A documented host wins, then a base with a submission.
3. Assign a role to each request, oldest first: by the operations' paths, or because an earlier response gave its URL
   (links to operations, videos, redirect targets). All other requests to the provider stay, without a role; requests
   to other hosts are left out, and named in a note.
4. Remove secrets. The key is recognised as the contract sends it, and then replaced wherever it occurs in any of its
   encodings, because clients copy it into URLs and bodies. This must come last: roles and jobs depend on the original
   URLs.

A part that a recorder left out is never assumed: the exchange names it as unrecorded (`har_entry`), and a note counts
it, so that rules report not-observed instead of a violation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urldefrag, urljoin, urlsplit

from hobbyhorse.contract.checks.places import ROLE_OF_LINK
from hobbyhorse.contract.folder import path_names
from hobbyhorse.contract.forms.expressions import MISSING, Message
from hobbyhorse.contract.reading import as_json, message_of, read_answer, read_items
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.fault import MEDIA
from hobbyhorse.scenarios.fields import FILE_URLS
from hobbyhorse.traces.annotated import SUBMISSIONS, credentials
from hobbyhorse.traces.exchange import ANSWER, API_KEY, BODY, DURATION, HEADERS, Exchange
from hobbyhorse.traces.har_entry import (
    ANSWER_BYTES,
    Entry,
    an_object,
    entry_of,
    exchange_of,
    headers_of,
    parts_of_url,
    posted,
    short,
)
from hobbyhorse.traces.har_file import Attached, nothing_attached
from hobbyhorse.traces.har_file import HarError as HarError
from hobbyhorse.traces.har_twins import LeftOut, is_own, without_twins
from hobbyhorse.traces.redaction import Redactor
from hobbyhorse.traces.trace import NUMBERED_KEY, REDACTED, Trace, shows_key

# The most entries of a file. Reading time grows with their number; a day of polling once per second has fewer.
MOST_HAR_ENTRIES = 100_000
# Characters of a path that is searched for operations: the search tries each occurrence of a prefix, and no operation
# of a provider has a path of this length.
_LONGEST_PATH = 8_192
# The words that programs write in place of a key. Two of them look equal, but may stand for different keys.
_PLACEHOLDER = re.compile(
    r"\W*(?:redacted|removed|hidden|masked|sanitized|x{3,}|\*+|\u2022+|\.{3}|\u2026)\W*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class RecordedTrace:
    """A trace from recorded traffic, with notes on the limits of its evidence."""

    trace: Trace
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Home:
    """The provider's base URL: its origin, and the prefix of its operations' paths."""

    origin: str
    prefix: str


def read_har(
    value: Any, contract: Contract, base: str | None = None, attached: Attached = nothing_attached
) -> RecordedTrace:
    """Read recorded traffic with a provider, and find its base URL if none is given. Raises HarError.

    The trace has no jobs, callbacks, runs or outcomes: a recording does not show them. `attached` returns the files
    that the recording names.
    """
    log = an_object(an_object(value, "").get("log", MISSING), "/log")
    entries, left_out = without_twins(log, _entries(log, attached))
    home = _given(base) if base is not None else _found(contract, entries)
    reader = _Reader(contract, home)
    for entry in entries:
        reader.read(entry)
    if not any(one.role in contract.operations for one in reader.exchanges):
        raise HarError("/log/entries", _no_match(contract, entries, home))
    return reader.recorded(left_out, is_own(log))


def _no_match(contract: Contract, entries: list[Entry], home: _Home | None) -> str:
    hosts = ", ".join(sorted({urlsplit(entry.url).netloc for entry in entries})[:5]) or "none"
    where = f" below {home.origin}{home.prefix}" if home is not None else ""
    return (
        f"no request matches an operation of {contract.name}{where}; the hosts are {hosts}; "
        "give the base URL with --base, or another provider with --provider"
    )


def _entries(log: Mapping[str, Any], attached: Attached) -> Iterator[Entry]:
    """Yield the HTTP entries. Fields that every entry needs are validated here, others when they are read."""
    listed = log.get("entries")
    if not isinstance(listed, list):
        raise HarError("/log/entries", f"{short(listed)} is not a list")
    if len(listed) > MOST_HAR_ENTRIES:
        raise HarError(
            "/log/entries", f"has {len(listed):,} entries; allowed: {MOST_HAR_ENTRIES:,}; split the recording"
        )
    for number, raw in enumerate(listed):
        entry = entry_of(raw, f"/log/entries/{number}", attached)
        if entry is not None:
            yield entry


def _given(base: str) -> _Home:
    if not base.lower().startswith(("http://", "https://")):
        raise HarError(
            "--base", f"{base!r} is not a URL; give the provider's base URL, such as https://api.example.com"
        )
    origin, path = parts_of_url(base, "--base")
    return _Home(origin, path.rstrip("/"))


def _ordered(contract: Contract) -> list[Operation]:
    """Return the operations, the most specific path first."""
    return sorted(
        contract.operations.values(),
        key=lambda one: ("{" in one.path, -len(one.path.partition("{")[0]), -len(one.path)),
    )


def _found(contract: Contract, entries: Iterable[Entry]) -> _Home | None:
    """Find the base URL: a documented host first, then one with a submission, then one with most matches."""
    met: Counter[_Home] = Counter()
    ordered: set[_Home] = set()
    # Counted once for each distinct request: a job polled a thousand times has one path.
    seen = Counter((entry.method, *parts_of_url(entry.url, entry.at)) for entry in entries)
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
        self._left_out: list[Entry] = []
        self._base: str | None = None
        self._preflights = 0

    def read(self, entry: Entry) -> None:
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
        exchange = exchange_of(entry, role)
        operation = self.contract.operations.get(role or "")
        job = self._given.get(entry.url, ("", None))[1]
        if operation is not None:
            exchange = replace(exchange, job=job)
            exchange = self._learn(operation, path, exchange)
        self._redirected(exchange)
        self.exchanges.append(exchange)

    def _role(self, entry: Entry) -> tuple[str | None, Mapping[str, str], bool]:
        """Return a request's role, its path parameters, and whether it went to the provider."""
        origin, path = parts_of_url(entry.url, entry.at)
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

    def recorded(self, left_out: LeftOut, own: bool) -> RecordedTrace:
        """Return the trace without secrets, with its notes; `own` means that the archive is from this program."""
        home = self.home.origin if self.home is not None else ""
        # Only requests to the provider show its key: elsewhere, the same header may have another account's.
        to_home = [one for one in self.exchanges if parts_of_url(one.url, "")[0] == home]
        redactor = Redactor(self.contract, _keys(self.contract, to_home))
        # Cut after the keys have been replaced: the beginning of a key must not be left.
        safe = [redactor.exchange(one) for one in self.exchanges]
        cut = [replace(one, answer=one.answer[:ANSWER_BYTES]) for one in safe]
        exchanges = tuple(cut if own else _without_unknown_keys(self.contract, cut))
        files = [parts_of_url(one.url, "")[0] for one in exchanges if one.role == MEDIA]
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
        return RecordedTrace(trace, (*self._notes(redactor), *_twin_notes(left_out), *_gaps(self.contract, trace)))

    def _notes(self, redactor: Redactor) -> Iterator[str]:
        if self._left_out:
            hosts = Counter(_host(entry.url) for entry in self._left_out)
            named = ", ".join(f"{host} ({times})" for host, times in hosts.most_common(5))
            more = f" and {len(hosts) - 5} more hosts" if len(hosts) > 5 else ""
            yield f"left out: requests to other hosts: {named}{more}"
        if leaked := sorted({_host(entry.url) for entry in self._left_out if _finds_key(redactor, entry)}):
            yield f"left out, but sent with the provider's key: requests to {', '.join(leaked[:5])}"
        if self._preflights:
            yield f"left out: preflight requests of a browser: {self._preflights}"


def _finds_key(redactor: Redactor, entry: Entry) -> bool:
    headers = tuple(headers_of(entry.request, f"{entry.at}/request"))
    return redactor.finds_key(entry.url, headers, posted(entry) or b"")


def _twin_notes(left_out: LeftOut) -> Iterator[str]:
    if left_out.passed_on:
        yield f"counted once: requests that a service worker passed on: {left_out.passed_on}"
    if left_out.repeated:
        yield f"counted once: entries that the recording repeats: {left_out.repeated}"
    if left_out.unsent:
        yield f"left out: requests that the browser answered itself or did not send: {left_out.unsent}"


def _gaps(contract: Contract, trace: Trace) -> Iterator[str]:
    """Yield a note for each part that the recording lacks."""
    asked = [one for one in trace.exchanges if one.role in contract.operations]
    for part, name, names in (
        (BODY, "request body is", "request bodies are"),
        (ANSWER, "response body is", "response bodies are"),
        (HEADERS, "request's list of headers is", "requests' lists of headers are"),
        (DURATION, "response time is", "response times are"),
    ):
        if number := sum(not one.has(part) for one in asked):
            yield f"{number} {name if number == 1 else names} not recorded, and cannot be judged"
    if not any(shows_key(text) for one in trace.exchanges for text in (one.url, *(value for _, value in one.headers))):
        yield "no request has a key in the recording (browsers omit it), so the rules about keys cannot be judged"


def _without_unknown_keys(contract: Contract, exchanges: list[Exchange]) -> list[Exchange]:
    """Return exchanges that name their key as unrecorded, if the recorder left it out."""
    keys = [credentials(contract, one) for one in exchanges]
    none_shown = not any(shows_key(key or "") for given in keys for key in given)
    lost = [none_shown or any(REDACTED in (key or "") for key in given) for given in keys]
    return [
        replace(one, unrecorded=(*one.unrecorded, API_KEY)) if is_lost and one.has(API_KEY) else one
        for one, is_lost in zip(exchanges, lost, strict=True)
    ]


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _keys(contract: Contract, exchanges: Iterable[Exchange]) -> list[str]:
    """Return the keys in the places where the contract expects them, in order of first use."""
    found = []
    for one in exchanges:
        query = parse_qsl(urlsplit(one.url).query)
        for part, name, before in contract.security:
            for given, value in one.headers if part == "header" else query:
                if given == name and value.lower().startswith(before):
                    found.append(value[len(before) :].strip())
    return [key for key in dict.fromkeys(found) if key and not _is_word(key)]


def _is_word(key: str) -> bool:
    """Whether a key has been replaced by a word already."""
    return NUMBERED_KEY.fullmatch(key) is not None or _PLACEHOLDER.fullmatch(key) is not None
