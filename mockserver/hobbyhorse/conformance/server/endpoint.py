"""A provider's endpoint as a client made from the contract alone meets it: bounded in time, bytes and money.

Knows no server: a real endpoint, the fake and anybody's fake are the same to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson

from hobbyhorse.conformance.contract_client import credentials, filled
from hobbyhorse.conformance.server.budget import Budget
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.trace import KEY, Exchange, Trace

MOST_RESPONSE_BYTES = 16 * 1024 * 1024
"""How much of an answer is read; of a file, ten times as much."""
KEPT_FILE_BYTES = 64 * 1024
REQUEST_SECONDS = 30.0
CERTAIN_REFUSALS = frozenset(range(400, 500)) - {408}
"""Answers to an order that say for certain that nothing was bought."""
ANY = "any"
SHORTEST_SECRET = 8
"""Shorter keys are none: hidden, they would be hidden in the middle of words, too."""


class OutOfTime(Exception):
    """The whole time of the suite is over."""


@dataclass(slots=True)
class Endpoint:
    """One provider at a base URL, with a key; `exchanges` is everything that was sent and answered, oldest first.

    `until` is the moment (of `time.monotonic`) at which nothing more is sent.
    """

    contract: Contract
    base_url: str
    api_key: str
    budget: Budget
    until: float
    http: httpx.Client
    now: Callable[[], float] = time.time
    request_seconds: float = REQUEST_SECONDS
    exchanges: list[Exchange] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(
        self,
        role: str,
        *,
        probe: str,
        expected: str | None = None,
        price: Decimal = Decimal(0),
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = MISSING,
        content: bytes | None = None,
        key: str | None = ANY,
    ) -> Step:
        """Call an operation, paying `price` before; what its path names comes from `path` (`job`, `model`).

        `key` is another API key, or None for none. A submission whose refusal is certain gets its money back.
        Raises NotAffordable, before anything is sent, and OutOfTime.
        """
        operation = self.contract.operations[role]
        url = self.base_url.rstrip("/") + filled(operation, path or {}) + (f"?{urlencode(query)}" if query else "")
        sent = credentials(self.contract, self.api_key if key is ANY else key) | dict(headers or {})
        data = orjson.dumps(body) if body is not MISSING else content or b""
        if body is not MISSING:
            sent.setdefault("content-type", "application/json")
        with self.budget.hold(price) as held:
            exchange, _ = self._send(role, operation.method, url, sent, data, MOST_RESPONSE_BYTES)
            held.refused = exchange.status in CERTAIN_REFUSALS and role in SUBMISSIONS
        told = replace(exchange, probe=probe, expected=expected)
        named = (path or {}).get("job")
        return self._keep(replace(told, job=named) if named else told)

    def fetch(self, url: str, *, probe: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> bytes:
        """Fetch a file, without the key, and return its bytes; `exchanges` has the rest."""
        exchange, data = self._send("media", method, url, dict(headers or {}), b"", 10 * MOST_RESPONSE_BYTES)
        self._keep(replace(exchange, probe=probe, answer=b""))
        return data

    def _send(
        self, role: str, method: str, url: str, headers: Mapping[str, str], data: bytes, most: int
    ) -> tuple[Exchange, bytes]:
        """Send one request; what is not answered in time, or breaks off, is not whole. Redirects are not followed."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise OutOfTime
        seconds = min(self.request_seconds, left)
        ends = time.monotonic() + seconds
        said = {name.lower(): value for name, value in headers.items()}
        exchange = Exchange(self.now(), role, method, url, tuple(said.items()), data[:KEPT_FILE_BYTES])
        body = bytearray()
        try:
            with self.http.stream(
                method, url, headers=said, content=data or None, timeout=seconds, follow_redirects=False
            ) as answer:
                told = tuple((name.lower(), value) for name, value in answer.headers.items())
                exchange = replace(exchange, status=answer.status_code, answer_headers=told)
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > most or time.monotonic() > ends:
                        return self._told(exchange, body, whole=False), bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError):
            return self._told(exchange, body, whole=False), bytes(body)
        return replace(self._told(exchange, body, whole=True), answered=self.now()), bytes(body)

    def _told(self, exchange: Exchange, body: bytearray, *, whole: bool) -> Exchange:
        return replace(
            exchange,
            answer=bytes(body[: MOST_RESPONSE_BYTES if whole else KEPT_FILE_BYTES]),
            size=len(body),
            whole=whole,
        )

    def _keep(self, exchange: Exchange) -> Step:
        with self._lock:
            self.exchanges.append(exchange)
            number = len(self.exchanges)
        step = AnnotatedTrace(self.contract, Trace(self.contract.key, self.base_url, (exchange,))).steps[0]
        return replace(step, number=number)

    def trace(self, **more: Any) -> Trace:
        """Return everything that was seen, oldest first, without the key."""
        with self._lock:
            found = sorted(self.exchanges, key=lambda exchange: exchange.arrived)
        shown = tuple(self._shown(exchange) for exchange in found)
        return Trace(self.contract.key, self.base_url, shown, ended=self.now(), **more)

    def _shown(self, exchange: Exchange) -> Exchange:
        key = self.api_key
        if len(key) < SHORTEST_SECRET:
            return exchange
        hidden = tuple((name, value.replace(key, KEY)) for name, value in exchange.headers)
        told = tuple((name, value.replace(key, KEY)) for name, value in exchange.answer_headers)
        return replace(
            exchange,
            url=exchange.url.replace(key, KEY),
            headers=hidden,
            answer_headers=told,
            body=exchange.body.replace(key.encode(), KEY.encode()),
            answer=exchange.answer.replace(key.encode(), KEY.encode()),
        )
