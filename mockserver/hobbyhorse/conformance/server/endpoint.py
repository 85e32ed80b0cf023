"""A provider's endpoint as seen by a client made from the contract alone: bounded in time, bytes and money.

Knows no server: a real endpoint, our fake and any other fake look the same to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

import httpx
import orjson

from hobbyhorse.conformance.contract_client import credentials, filled
from hobbyhorse.conformance.server.budget import Budget
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.traces.trace import KEY, Trace

# Rule SHA-04 reports longer responses, besides what the suite has submitted itself. To read on would let an endless
# body exhaust the memory. Files may be ten times as long.
MOST_RESPONSE_BYTES = 16 * 1024 * 1024
# Enough of an incomplete body to recognise it in a report, little enough to keep for every request of a trace.
KEPT_FILE_BYTES = 64 * 1024
# A slow response is still a response to judge; a longer wait only delays the report on an endpoint that hangs.
REQUEST_SECONDS = 30.0
# Statuses of a submission that certainly bought nothing. After a 408 the job may still have been accepted.
CERTAIN_REFUSALS = frozenset(range(400, 500)) - {408}
# A long video takes more than one response's time on a slow connection; while its bytes arrive, it is not late.
MEDIA_PATIENCE = 4.0
ANY = "any"
# Masking a shorter key would also replace parts of ordinary words.
SHORTEST_SECRET = 8


class OutOfTime(Exception):
    """Raised when the suite's time limit is reached."""


@dataclass(slots=True)
class Endpoint:
    """One provider at a base URL, with a key. `exchanges` holds every request and its response, oldest first.

    `until` is the moment of `time.monotonic` after which nothing more is sent. `login` is a user and a password that
    are sent to the base URL and not recorded.
    """

    contract: Contract
    base_url: str
    api_key: str
    budget: Budget
    until: float
    http: httpx.Client
    now: Callable[[], float] = time.time
    request_seconds: float = REQUEST_SECONDS
    login: tuple[str, str] | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _submitted: int = 0
    """The bytes of all submissions until now. A response may repeat them: a list of jobs with their pictures, say."""

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
        link: str | None = None,
        seconds: float = 0.0,
    ) -> Step:
        """Call an operation, paying `price` in advance; `path` gives its parameters by bound name (`job`, `model`).

        `link` is a URL of the operation that a response named. `key` is another API key, or None to send none. A
        certain refusal of a submission refunds its price. A response may take `seconds`, if that is longer than usual.
        Raises NotAffordable before anything is sent, and OutOfTime.
        """
        operation = self.contract.operations[role]
        url = link or self.base_url.rstrip("/") + filled(operation, path or {})
        url += f"?{urlencode(query)}" if query else ""
        sent = credentials(self.contract, self.api_key if key is ANY else key) | dict(headers or {})
        data = orjson.dumps(body) if body is not MISSING else content or b""
        if body is not MISSING:
            sent.setdefault("content-type", "application/json")
        with self.budget.hold(price) as held:
            request = self._request(role, operation.method, url, sent, data)
            longest = max(seconds, self.request_seconds)
            with self._lock:
                self._submitted += len(data) if role in SUBMISSIONS else 0
            most = MOST_RESPONSE_BYTES + self._submitted
            exchange, _ = self._send(request, data, most, silence=longest, whole=longest, login=self.login)
            held.refused = exchange.status in CERTAIN_REFUSALS and role in SUBMISSIONS
        labelled = replace(exchange, probe=probe, expected=expected)
        named = (path or {}).get("job")
        return self._keep(replace(labelled, job=named) if named else labelled)

    def fetch(self, url: str, *, probe: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> bytes:
        """Fetch a file without the key and return its bytes; the exchange is recorded without its body."""
        request = self._request("media", method, url, headers or {})
        usual = self.request_seconds
        most = 10 * MOST_RESPONSE_BYTES
        exchange, data = self._send(request, b"", most, silence=usual, whole=MEDIA_PATIENCE * usual)
        self._keep(replace(exchange, probe=probe, answer=b""))
        return data

    def _request(self, role: str, method: str, url: str, headers: Mapping[str, str], data: bytes = b"") -> Exchange:
        """Return the exchange of a request that is about to be sent."""
        sent = tuple((name.lower(), value) for name, value in headers.items())
        sent += (("content-length", str(len(data))),) if data else ()
        kept = data[:KEPT_FILE_BYTES]
        return Exchange(arrived=self.now(), role=role, method=method, url=url, headers=sent, body=kept)

    def _send(
        self,
        exchange: Exchange,
        data: bytes,
        most: int,
        *,
        silence: float,
        whole: float,
        login: tuple[str, str] | None = None,
    ) -> tuple[Exchange, bytes]:
        """Send one request without following redirects; a late or truncated response is marked as not whole.

        The response may take `whole` seconds, and `silence` seconds without a byte.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise OutOfTime
        # httpx's timeout is per read: a body that drips one byte at a time would never hit it.
        ends = time.monotonic() + min(whole, left)
        sent = dict(exchange.headers)
        body = bytearray()
        try:
            with self.http.stream(
                exchange.method,
                exchange.url,
                headers=sent,
                content=data or None,
                timeout=min(silence, left),
                follow_redirects=False,
                auth=login,
            ) as response:
                received = tuple((name.lower(), value) for name, value in response.headers.items())
                exchange = replace(exchange, status=response.status_code, answer_headers=received)
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > most or time.monotonic() > ends:
                        return self._abandoned(exchange, body), bytes(body)
        except httpx.TimeoutException:
            return self._abandoned(exchange, body), bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError):
            return replace(self._received(exchange, body, whole=False), broken_off=True), bytes(body)
        return replace(self._received(exchange, body, whole=True), answered=self.now()), bytes(body)

    def _abandoned(self, exchange: Exchange, body: bytearray) -> Exchange:
        """Return an exchange that the suite gave up, with its waiting time unless the suite's own end cut it short."""
        waited = self.now() - exchange.arrived if time.monotonic() < self.until else 0.0
        return replace(self._received(exchange, body, whole=False), waited=waited)

    def _received(self, exchange: Exchange, body: bytearray, *, whole: bool) -> Exchange:
        return replace(
            exchange,
            answer=bytes(body[: MOST_RESPONSE_BYTES + self._submitted if whole else KEPT_FILE_BYTES]),
            size=len(body),
            whole=whole,
        )

    def _keep(self, exchange: Exchange) -> Step:
        with self._lock:
            self.exchanges.append(exchange)
            number = len(self.exchanges)
        # A trace of this exchange alone would number it 1; rules and reports use its place in the whole run.
        step = AnnotatedTrace(self.contract, Trace(self.contract.key, self.base_url, (exchange,))).steps[0]
        return replace(step, number=number)

    def trace(self, **more: Any) -> Trace:
        """Return all exchanges, oldest first, with the key and the password masked."""
        with self._lock:
            found = sorted(self.exchanges, key=lambda exchange: exchange.arrived)
        shown = tuple(self._shown(exchange) for exchange in found)
        return Trace(self.contract.key, self.base_url, shown, ended=self.now(), **more)

    def _shown(self, exchange: Exchange) -> Exchange:
        for secret in (self.api_key, self.login[1] if self.login is not None else ""):
            exchange = _masked(exchange, secret) if len(secret) >= SHORTEST_SECRET else exchange
        return exchange


def _masked(exchange: Exchange, secret: str) -> Exchange:
    """Return an exchange without a secret."""
    hidden = tuple((name, value.replace(secret, KEY)) for name, value in exchange.headers)
    received = tuple((name, value.replace(secret, KEY)) for name, value in exchange.answer_headers)
    return replace(
        exchange,
        url=exchange.url.replace(secret, KEY),
        headers=hidden,
        answer_headers=received,
        body=exchange.body.replace(secret.encode(), KEY.encode()),
        answer=exchange.answer.replace(secret.encode(), KEY.encode()),
    )


def without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Return a URL without its user and password, and these: a URL stands in reports, which are uploaded."""
    parts = urlsplit(url)
    login, mark, host = parts.netloc.rpartition("@")
    if not mark:
        return url, None
    user, _, password = login.partition(":")
    return urlunsplit(parts._replace(netloc=host)), (unquote(user), unquote(password))
