"""Judges what goes by against a contract, live and without secrets; opens no connection and holds no exchange up."""

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

from hobbyhorse.conformance.client import judge
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.server.rule import ServerRule, assumption_for
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.proxy.proxy import CLIENT, KEPT_BODY_BYTES, PROXY, ObservedExchange
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.har import SECRET_HAR_HEADERS, HarError, read_har, to_har
from hobbyhorse.traces.trace import REDACTED, Exchange, Trace

MOST_KEPT_EXCHANGES = 1_000
"""How many exchanges are kept, the newest."""
MOST_KEPT_BYTES = 64 * 1024 * 1024
"""How many bytes of bodies are kept."""
EACH = 5
"""How many findings of one kind are told."""
SETTLE_SECONDS = 0.05
REST_FACTOR = 9
"""How much longer it rests than it judges."""
MOST_REST_SECONDS = 5.0

CLIENT_SIDE, UPSTREAM_SIDE, LESSON = "client", "upstream", "lesson"

_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])")
_REQUEST_COUNT = re.compile(r"\b(requests? )(\d+)")
_AGAIN = re.compile(r" \(and \d+ times? more\)")
_SECRET = re.compile(r"auth|cookie|token|secret|passw|credential|api-?_?key|(?:^|[-_])key$", re.IGNORECASE)
_FILE = re.compile(r"(?:video|audio|image)/", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """What somebody did otherwise than the contract says: `side` is the client, the upstream, or a lesson.

    A lesson is what the upstream does otherwise than the contract only assumes.
    """

    side: str
    rule: str
    name: str
    level: str
    message: str

    def __str__(self) -> str:
        who = f"{UPSTREAM_SIDE} ({LESSON})" if self.side == LESSON else self.side
        return f"{who} {self.rule} {self.name} ({self.level}): {self.message}"


class LiveJudge:
    """Keeps what goes by, and tells each finding once; `base` is where the exchanges are said to have been.

    What is wrong with the judging itself is told by `trouble`, and stops nothing.
    """

    def __init__(
        self,
        contract: Contract,
        base: str,
        tell: Callable[[Finding], None],
        trouble: Callable[[str], None] = lambda message: None,
        most: int = MOST_KEPT_EXCHANGES,
    ) -> None:
        self.contract, self.base = contract, base
        self.total = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        """How many findings there are by side and rule, those that were not told, too."""
        self._tell, self._trouble, self._most = tell, trouble, most
        self._kept: deque[ObservedExchange] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._found: set[tuple[str, str, str]] = set()
        self._kinds: Counter[tuple[str, str, str]] = Counter()
        self._complaints: set[str] = set()
        self._entries: dict[int, dict[str, Any]] = {}

    def seen(self, passed: ObservedExchange) -> None:
        """Take in an exchange."""
        if passed.answer is not None and any(map(_FILE.match, passed.answer.all("content-type"))):
            passed = replace(passed, content=b"")
        with self._lock:
            self.total += 1
            self._kept.append(passed)
            self._bytes += len(passed.body) + len(passed.content)
            while len(self._kept) > self._most or self._bytes > MOST_KEPT_BYTES:
                old = self._kept.popleft()
                self._bytes -= len(old.body) + len(old.content)

    @property
    def findings(self) -> int:
        """How many findings there are, without lessons."""
        return sum(count for (side, _), count in self.counts.items() if side != LESSON)

    def judge(self) -> None:
        """Judge what is kept, and tell what is new."""
        kept, trace = self._read()
        if trace is None:
            trace = Trace(self.contract.key, self.base)
        by_moment = {_micros(one.arrived): one for one in kept}
        pairs = [(exchange, found) for exchange in trace.exchanges if (found := _of(by_moment, exchange)) is not None]
        pairs = [(exchange, passed) for exchange, passed in pairs if not passed.own and _legible(exchange, passed)]
        theirs = [pair for pair in pairs if pair[1].broken not in (CLIENT, PROXY)]
        self._judge_client(*self._story(trace, pairs))
        self._judge_upstream(*self._story(trace, theirs))

    def har(self) -> dict[str, Any]:
        """Return what is kept as an archive, without secrets."""
        _, trace = self._read()
        return to_har(trace if trace is not None else Trace(self.contract.key, self.base))

    def _read(self) -> tuple[list[ObservedExchange], Trace | None]:
        """Return what is kept, and as a trace; None where nothing is about the provider."""
        with self._lock:
            kept = list(self._kept)
        self._entries = {one.number: self._entries.get(one.number) or self._entry(one) for one in kept}
        said = {"log": {"entries": [self._entries[one.number] for one in kept]}}
        try:
            return kept, read_har(said, self.contract, self.base).trace
        except HarError:
            return kept, None

    def _story(self, trace: Trace, pairs: list[tuple[Exchange, ObservedExchange]]) -> tuple[AnnotatedTrace, list[int]]:
        exchanges = tuple(exchange for exchange, _ in pairs)
        return AnnotatedTrace(self.contract, replace(trace, exchanges=exchanges)), [
            passed.number for _, passed in pairs
        ]

    def _judge_client(self, story: AnnotatedTrace, numbers: list[int]) -> None:
        for rule in rules():
            with _Caught(self._complain, rule.id):
                for message in judge.check(rule, story) or ():
                    self._find(Finding(CLIENT_SIDE, rule.id, rule.name, rule.level, message), numbers)

    def _judge_upstream(self, story: AnnotatedTrace, numbers: list[int]) -> None:
        for rule in self._server_rules():
            with _Caught(self._complain, rule.id):
                for breach in (rule.check(story) if rule.applies(self.contract) else None) or ():
                    side = LESSON if assumption_for(self.contract, breach.places) else UPSTREAM_SIDE
                    self._find(Finding(side, rule.id, rule.name, rule.level, breach.message), numbers)

    def _server_rules(self) -> tuple[ServerRule, ...]:
        with _Caught(self._complain, "the rules for servers"):
            return server_rules()
        return ()

    def _find(self, finding: Finding, numbers: list[int]) -> None:
        """Tell a finding that has not been told; requests have the numbers that they have among all that passed."""
        named = _REQUEST_COUNT.sub(lambda match: match[1] + str(_at(numbers, int(match[2]))), finding.message)
        finding = replace(finding, message=" ".join(named.split())[:500])
        places = " ".join(match[2] for match in _REQUEST_COUNT.finditer(finding.message))
        kind = (finding.side, finding.rule, _NUMBER.sub("#", _AGAIN.sub("", finding.message)))
        found = (finding.side, finding.rule, f"{kind[2]} {places}")
        if found in self._found:
            return
        self._found.add(found)
        self._kinds[kind] += 1
        self.counts[finding.side, finding.rule] += 1
        if self._kinds[kind] == EACH:
            finding = replace(finding, message=f"{finding.message} (more of this kind are counted, not told)")
        if self._kinds[kind] <= EACH:
            self._tell(finding)

    def _complain(self, message: str) -> None:
        if message not in self._complaints:
            self._complaints.add(message)
            self._trouble(message)

    def _entry(self, one: ObservedExchange) -> dict[str, Any]:
        """Return an exchange as an entry of an archive."""
        parts = urlsplit(self.base)
        own = {name for part, name, _ in self.contract.security if part == "header"}
        key = self.contract.idempotency.key
        own |= {key.name.lower()} if key is not None and key.part == "header" else set()
        request: dict[str, Any] = {
            "method": one.request.method,
            "url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{one.request.target}",
            "headers": list(_headers(one.request.headers, own)),
        }
        if one.body:
            cut = f"[cut: {one.sent} bytes, SHA-256 {one.sha256}]" if one.sha256 else ""
            request["postData"] = {"text": one.body.decode(errors="surrogateescape") + cut}
        took = 0.0 if one.answered is None else max(0.0, (one.answered - one.arrived) * 1000)
        began = datetime.fromtimestamp(_micros(one.arrived) / 1e6, timezone.utc)
        return {
            "startedDateTime": began.isoformat(timespec="microseconds"),
            "time": took,
            "request": request,
            "response": _response(one, own),
        }


class LiveJudgeThread:
    """A thread in which a watch judges: soon after something has gone by, and most of the time not."""

    def __init__(self, watch: LiveJudge, trouble: Callable[[str], None] = lambda message: None) -> None:
        self._watch, self._trouble = watch, trouble
        self._news, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="hobbyhorse watching", daemon=True)
        self._thread.start()

    def seen(self, passed: ObservedExchange) -> None:
        """Take in an exchange, and judge it soon."""
        self._watch.seen(passed)
        self._news.set()

    def _run(self) -> None:
        self._judge()
        while not self._over.is_set():
            self._news.wait()
            self._over.wait(SETTLE_SECONDS)
            self._news.clear()
            began = time.thread_time()
            self._judge()
            self._over.wait(min(MOST_REST_SECONDS, REST_FACTOR * (time.thread_time() - began)))

    def _judge(self) -> None:
        with _Caught(self._trouble, "what has gone by"):
            self._watch.judge()

    def stop(self) -> None:
        """Judge for the last time."""
        self._over.set()
        self._news.set()
        self._thread.join()
        self._judge()


class _Caught:
    """Turns an error of what judges into a sentence."""

    def __init__(self, tell: Callable[[str], None], what: str) -> None:
        self._tell, self._what = tell, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> bool:
        if isinstance(error, Exception):
            self._tell(f"{self._what} could not be judged: {type(error).__name__}")
            return True
        return False


def _headers(headers: tuple[tuple[str, str], ...], own: set[str]) -> Iterator[dict[str, str]]:
    for name, value in headers:
        hidden = _SECRET.search(name) and name.lower() not in own | SECRET_HAR_HEADERS
        if name:
            yield {"name": name, "value": REDACTED if hidden else value}


def _response(one: ObservedExchange, own: set[str]) -> dict[str, Any]:
    if one.answer is None:
        return {"status": 0, "headers": [], "content": {}, "_error": "no answer"}
    content = _plain(one)
    kind = next(iter(one.answer.all("content-type")), "")
    said: dict[str, Any] = {"size": one.size if content is None else max(len(content), one.size), "mimeType": kind}
    if content:
        said["text"] = content.decode(errors="surrogateescape")
    return {
        "status": one.answer.status,
        "headers": list(_headers(one.answer.headers, own)),
        "content": said,
        **({"_error": "broken off"} if one.broken else {}),
    }


def _plain(one: ObservedExchange) -> bytes | None:
    """Return the content of an answer without its coding; None where that is not known."""
    coding = ", ".join(one.answer.all("content-encoding")).strip().lower() if one.answer is not None else ""
    if coding in ("", "identity") or not one.size:
        return one.content if one.size <= KEPT_BODY_BYTES or not one.content else None
    if coding not in ("gzip", "x-gzip", "deflate") or one.size > KEPT_BODY_BYTES:
        return None
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = reader.decompress(one.content, KEPT_BODY_BYTES + 1)
    except zlib.error:
        return None
    return plain if reader.eof and len(plain) <= KEPT_BODY_BYTES else None


def _legible(exchange: Exchange, passed: ObservedExchange) -> bool:
    """Whether what was asked and answered is known as it was; a file need not be."""
    return exchange.role == "media" or (passed.asked and _plain(passed) is not None)


def _micros(moment: float) -> int:
    return round(moment * 1e6)


def _of(by_moment: dict[int, ObservedExchange], exchange: Exchange) -> ObservedExchange | None:
    moment = _micros(exchange.arrived)
    return by_moment.get(moment) or by_moment.get(moment - 1) or by_moment.get(moment + 1)


def _at(numbers: list[int], place: int) -> int:
    return numbers[place - 1] if 0 < place <= len(numbers) else place
