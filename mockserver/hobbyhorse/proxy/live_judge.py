"""Judges observed exchanges against a contract, live and without secrets. Opens no connection and delays no exchange.

Kept data, and its lifetime:

* The newest `most` exchanges (1,000 by default) with at most 64 MB of bodies, oldest dropped first. Each is also kept
  as a HAR entry without its secrets, and only the entries are judged and written.
* Every finding that was reported, as text, until the end: it keeps a finding from being reported twice, although each
  pass judges all kept exchanges anew. Numbers are removed from the text, so that it grows with the kinds of findings
  and the requests that they name, not with the passes.
* The counts of findings, and the complaints about rules that failed, until the end.

`seen` runs in the proxy's thread and only appends under a lock. `judge` runs in a `LiveJudgeThread`, which takes the
lock just to copy the list. It rests nine times as long as it judged, because all threads share one interpreter lock:
without the rest, judging would take turns with the proxy and delay exchanges.

Incomplete evidence is not judged: a rule that sees half a body, or an exchange that the proxy broke off itself, would
blame a side that did nothing wrong.
"""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import assumption_for, check
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.proxy.proxy import CLIENT, KEPT_BODY_BYTES, PROXY, ObservedExchange
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.exchange import ANSWER, SECRET_HEADERS, Exchange
from hobbyhorse.traces.har import HarError, read_har
from hobbyhorse.traces.har_writing import to_har
from hobbyhorse.traces.redaction import is_secret_name
from hobbyhorse.traces.trace import REDACTED, Trace

# Enough for hundreds of jobs in progress; each pass judges all of them, so the number bounds its time.
MOST_KEPT_EXCHANGES = 1_000
# 1,000 exchanges with two full bodies of 64 KB would be 128 MB; half of that is kept.
MOST_KEPT_BYTES = 64 * 1024 * 1024
# Five findings of one kind show the pattern; a broken server would print thousands.
EACH = 5
# Exchanges arrive in bursts; a short wait judges a burst in one pass.
SETTLE_SECONDS = 0.05
# Judging takes at most a tenth of the time of one core, so that exchanges are not delayed.
REST_FACTOR = 9
# A finding should appear within seconds of its exchange, even after a long pass.
MOST_REST_SECONDS = 5.0

CLIENT_SIDE, UPSTREAM_SIDE, LESSON = "client", "upstream", "lesson"

_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])")
_REQUEST_COUNT = re.compile(r"\b(requests? )(\d+)")
_AGAIN = re.compile(r" \(and \d+ more times?\)")
_FILE = re.compile(r"(?:video|audio|image)/", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """A deviation from the contract; `side` is the client, the upstream, or a lesson.

    A lesson is a deviation of the upstream from something that the contract only assumes.
    """

    side: str
    rule: str
    name: str
    level: str
    message: str

    def __str__(self) -> str:
        side = f"{UPSTREAM_SIDE} ({LESSON})" if self.side == LESSON else self.side
        return f"{side} {self.rule} {self.name} ({self.level}): {self.message}"


class LiveJudge:
    """Keeps observed exchanges and reports each finding once; `base` is their base URL, as the findings name it.

    Errors of the judging itself are passed to `trouble`, and stop nothing.
    """

    def __init__(
        self,
        contract: Contract,
        base: str,
        report: Callable[[Finding], None],
        trouble: Callable[[str], None] = lambda message: None,
        most: int = MOST_KEPT_EXCHANGES,
    ) -> None:
        self.contract, self.base = contract, base
        self.total = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        """The number of findings by side and rule, unreported ones included."""
        self._report, self._trouble, self._most = report, trouble, most
        self._kept: deque[ObservedExchange] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._found: set[tuple[str, str, str]] = set()
        self._kinds: Counter[tuple[str, str, str]] = Counter()
        self._complaints: set[str] = set()
        self._entries: dict[int, dict[str, Any]] = {}

    def seen(self, passed: ObservedExchange) -> None:
        """Keep an exchange."""
        if any(map(_FILE.match, _all(passed.exchange, "content-type"))):
            # No rule reads the bytes of a video, and ten of them would push out everything else.
            passed = replace(passed, exchange=replace(passed.exchange, answer=b""))
        with self._lock:
            self.total += 1
            self._kept.append(passed)
            self._bytes += _kept_bytes(passed)
            while len(self._kept) > self._most or self._bytes > MOST_KEPT_BYTES:
                self._bytes -= _kept_bytes(self._kept.popleft())

    @property
    def findings(self) -> int:
        """The number of findings, without lessons."""
        return sum(count for (side, _), count in self.counts.items() if side != LESSON)

    def judge(self) -> None:
        """Judge the kept exchanges and report new findings."""
        kept, trace = self._read()
        if trace is None:
            trace = Trace(self.contract.key, self.base)
        by_moment = {_micros(one.exchange.arrived): one for one in kept}
        pairs = [(exchange, found) for exchange in trace.exchanges if (found := _of(by_moment, exchange)) is not None]
        pairs = [(exchange, passed) for exchange, passed in pairs if not passed.own and _legible(exchange, passed)]
        # If the client or the proxy aborted an exchange, the upstream is not responsible for the missing bytes.
        theirs = [pair for pair in pairs if pair[1].broken not in (CLIENT, PROXY)]
        self._judge_client(*self._annotated(trace, pairs))
        self._judge_upstream(*self._annotated(trace, theirs))

    def har(self) -> dict[str, Any]:
        """Return the kept exchanges as a HAR archive without secrets."""
        _, trace = self._read()
        return to_har(trace if trace is not None else Trace(self.contract.key, self.base))

    def _read(self) -> tuple[list[ObservedExchange], Trace | None]:
        """Return the kept exchanges, and their trace; None if none of them is about the provider."""
        with self._lock:
            kept = list(self._kept)
        numbers = [one.exchange.number for one in kept]
        self._entries = {
            number: self._entries.get(number) or self._entry(one) for number, one in zip(numbers, kept, strict=True)
        }
        archive = {"log": {"creator": {"name": "hobbyhorse"}, "entries": [self._entries[number] for number in numbers]}}
        try:
            return kept, read_har(archive, self.contract, self.base).trace
        except HarError:
            return kept, None

    def _annotated(
        self, trace: Trace, pairs: list[tuple[Exchange, ObservedExchange]]
    ) -> tuple[AnnotatedTrace, list[int]]:
        exchanges = tuple(exchange for exchange, _ in pairs)
        return AnnotatedTrace(self.contract, replace(trace, exchanges=exchanges)), [
            passed.exchange.number for _, passed in pairs
        ]

    def _judge_client(self, annotated: AnnotatedTrace, numbers: list[int]) -> None:
        for rule in rules():
            with _Caught(self._complain, rule.id):
                for breach in check(rule, annotated).breaches:
                    self._find(Finding(CLIENT_SIDE, rule.id, rule.name, rule.level, breach.message), numbers)

    def _judge_upstream(self, annotated: AnnotatedTrace, numbers: list[int]) -> None:
        for rule in self._server_rules():
            with _Caught(self._complain, rule.id):
                for breach in check(rule, annotated).breaches:
                    side = LESSON if assumption_for(self.contract, breach.places) else UPSTREAM_SIDE
                    self._find(Finding(side, rule.id, rule.name, rule.level, breach.message), numbers)

    def _server_rules(self) -> tuple[Rule, ...]:
        with _Caught(self._complain, "the server rules"):
            return server_rules()
        return ()

    def _find(self, finding: Finding, numbers: list[int]) -> None:
        """Report a new finding; its request numbers are translated to the numbers among all observed exchanges."""
        named = _REQUEST_COUNT.sub(lambda match: match[1] + str(_at(numbers, int(match[2]))), finding.message)
        finding = replace(finding, message=" ".join(named.split())[:500])
        places = " ".join(match[2] for match in _REQUEST_COUNT.finditer(finding.message))
        kind = (finding.side, finding.rule, _NUMBER.sub("#", _AGAIN.sub("", finding.message)))
        # The kind alone would merge findings about different requests; the message alone changes with each pass.
        found = (finding.side, finding.rule, f"{kind[2]} {places}")
        if found in self._found:
            return
        self._found.add(found)
        self._kinds[kind] += 1
        self.counts[finding.side, finding.rule] += 1
        if self._kinds[kind] == EACH:
            finding = replace(finding, message=f"{finding.message} (further ones are counted, not reported)")
        if self._kinds[kind] <= EACH:
            self._report(finding)

    def _complain(self, message: str) -> None:
        if message not in self._complaints:
            self._complaints.add(message)
            self._trouble(message)

    def _entry(self, passed: ObservedExchange) -> dict[str, Any]:
        """Return an exchange as a HAR entry."""
        one, parts = passed.exchange, urlsplit(self.base)
        own = {name for part, name, _ in self.contract.security if part == "header"}
        key = self.contract.idempotency.key
        own |= {key.name.lower()} if key is not None and key.part == "header" else set()
        request: dict[str, Any] = {
            "method": one.method,
            "url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{one.url}",
            "headers": list(_headers(one.headers, own)),
        }
        if one.body:
            cut = f"[cut: {passed.sent} bytes, SHA-256 {passed.sha256}]" if passed.sha256 else ""
            request["postData"] = {"text": one.body.decode(errors="surrogateescape") + cut}
        took = 0.0 if one.answered is None else max(0.0, (one.answered - one.arrived) * 1000)
        # Microseconds, so that the exchange is found again in the trace that is read from this archive.
        began = datetime.fromtimestamp(_micros(one.arrived) / 1e6, timezone.utc)
        return {
            "startedDateTime": began.isoformat(timespec="microseconds"),
            "time": took,
            "request": request,
            "response": _response(passed, own),
            # The proxy sees every byte; only a body that it cannot decode, or has not kept, is missing.
            "_unrecorded": [ANSWER] if one.status and _plain(one) is None else [],
        }


class LiveJudgeThread:
    """A thread that judges soon after an exchange, and is idle most of the time."""

    def __init__(self, judge: LiveJudge, trouble: Callable[[str], None] = lambda message: None) -> None:
        self._live_judge, self._trouble = judge, trouble
        self._news, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="hobbyhorse live judge", daemon=True)
        self._thread.start()

    def seen(self, passed: ObservedExchange) -> None:
        """Keep an exchange, and judge it soon."""
        self._live_judge.seen(passed)
        self._news.set()

    def _run(self) -> None:
        # The first pass imports and compiles: better now than during the first exchange.
        self._judge()
        while not self._over.is_set():
            self._news.wait()
            self._over.wait(SETTLE_SECONDS)
            self._news.clear()
            began = time.thread_time()
            self._judge()
            self._over.wait(min(MOST_REST_SECONDS, REST_FACTOR * (time.thread_time() - began)))

    def _judge(self) -> None:
        with _Caught(self._trouble, "the observed exchanges"):
            self._live_judge.judge()

    def stop(self) -> None:
        """Judge one last time, then end."""
        self._over.set()
        self._news.set()
        self._thread.join()
        self._judge()


class _Caught:
    """Reports an exception of a rule as a sentence."""

    def __init__(self, trouble: Callable[[str], None], subject: str) -> None:
        self._trouble, self._subject = trouble, subject

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> bool:
        if isinstance(error, Exception):
            # Only the type: the message of an exception may quote a body, and so a secret.
            self._trouble(f"{self._subject} could not be judged: {type(error).__name__}")
            return True
        return False


def _headers(headers: tuple[tuple[str, str], ...], own: set[str]) -> Iterator[dict[str, str]]:
    for name, value in headers:
        # The contract's own key headers become `[key]` in the HAR module; any other secret is unknown to it.
        hidden = is_secret_name(name) and name.lower() not in own | SECRET_HEADERS
        if name:
            yield {"name": name, "value": REDACTED if hidden else value}


def _all(one: Exchange, name: str) -> list[str]:
    """Return every value of a header of the response; `name` is in lower case."""
    return [value for key, value in one.answer_headers if key == name]


def _kept_bytes(passed: ObservedExchange) -> int:
    return len(passed.exchange.body) + len(passed.exchange.answer)


def _response(passed: ObservedExchange, own: set[str]) -> dict[str, Any]:
    one = passed.exchange
    if not one.status:
        return {"status": 0, "headers": [], "content": {}, "_error": "no response"}
    content = _plain(one)
    kind = next(iter(_all(one, "content-type")), "")
    body: dict[str, Any] = {"size": one.size if content is None else max(len(content), one.size), "mimeType": kind}
    if content:
        body["text"] = content.decode(errors="surrogateescape")
    return {
        "status": one.status,
        "headers": list(_headers(one.answer_headers, own)),
        "content": body,
        **({"_error": "broken off"} if passed.broken else {}),
    }


def _plain(one: Exchange) -> bytes | None:
    """Return a response's content without its coding; None if it is unknown or not kept in full."""
    coding = ", ".join(_all(one, "content-encoding")).strip().lower()
    if coding in ("", "identity") or not one.size:
        return one.answer if one.size <= KEPT_BODY_BYTES or not one.answer else None
    if coding not in ("gzip", "x-gzip", "deflate") or one.size > KEPT_BODY_BYTES:
        return None
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = reader.decompress(one.answer, KEPT_BODY_BYTES + 1)
    except zlib.error:
        return None
    return plain if reader.eof and len(plain) <= KEPT_BODY_BYTES else None


def _legible(exchange: Exchange, passed: ObservedExchange) -> bool:
    """Whether the request and the response are completely known; a media file need not be."""
    return exchange.role == "media" or (passed.request_complete and _plain(passed.exchange) is not None)


def _micros(moment: float) -> int:
    return round(moment * 1e6)


def _of(by_moment: dict[int, ObservedExchange], exchange: Exchange) -> ObservedExchange | None:
    moment = _micros(exchange.arrived)
    return by_moment.get(moment) or by_moment.get(moment - 1) or by_moment.get(moment + 1)


def _at(numbers: list[int], place: int) -> int:
    return numbers[place - 1] if 0 < place <= len(numbers) else place
