"""The suite for servers: opens a session on an endpoint, makes the probes, judges what was seen. Knows no server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

import httpx

from hobbyhorse.conformance.server.budget import Budget
from hobbyhorse.conformance.server.endpoint import REQUEST_SECONDS, Endpoint
from hobbyhorse.conformance.server.probes import Tell, run_probes
from hobbyhorse.conformance.server.receiver import Receiver
from hobbyhorse.conformance.server.results import ServerResult, concluded
from hobbyhorse.conformance.server.rule import ServerRule
from hobbyhorse.conformance.server.session import Session, callback_job_reader, is_internal
from hobbyhorse.contract.values import Contract, Model

TIMEOUT = 300.0
REQUEST_TIME_SHARE = 10
"""One request takes at most this part of the time of the whole suite."""
CALLBACK_GRACE_SECONDS = 1.0
DIAGNOSIS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """What the suite is options to do; `timeout` is for the whole suite, in seconds, `listen` where callbacks come to.

    `picture` is the bytes of a picture, or its address. Without a `budget` nothing that can be billed is sent.
    """

    base_url: str
    api_key: str
    budget: Decimal | None = None
    other_key: str | None = None
    picture: bytes | str | None = None
    callback_url: str | None = None
    callback_secret: str | None = None
    listen: tuple[str, int] = ("127.0.0.1", 0)
    timeout: float = TIMEOUT
    seed: int = 0


@contextmanager
def opened(contract: Contract, model: Model, options: SuiteOptions, *, listening: bool = True) -> Iterator[Session]:
    """Give a session; it opens no connection by itself. Raises LookupError and OSError."""
    until = time.monotonic() + options.timeout
    seconds = min(REQUEST_SECONDS, options.timeout / REQUEST_TIME_SHARE)
    wanted = listening and contract.callbacks is not None and options.budget is not None
    reachable = options.callback_url is not None or local(options.base_url)
    with httpx.Client(trust_env=True, follow_redirects=False) as http:
        budget = Budget(options.budget)
        endpoint = Endpoint(contract, options.base_url, options.api_key, budget, until, http, request_seconds=seconds)
        with _receiving(contract, options) if wanted and reachable else nullcontext() as receiver:
            yield Session(
                endpoint,
                model,
                other_key=options.other_key,
                picture=options.picture,
                receiver=receiver,
                callback_secret=options.callback_secret,
                seed=options.seed,
            )


def _receiving(contract: Contract, options: SuiteOptions) -> Receiver:
    host, port = options.listen
    return Receiver(callback_job_reader(contract), host, port, options.callback_url)


def examine(
    contract: Contract,
    model: Model,
    options: SuiteOptions,
    rules: Sequence[ServerRule],
    *,
    known: Mapping[str, str] | None = None,
    told: Tell = lambda name, says: None,
) -> ServerResult:
    """Hold an endpoint against its contract, run_within the time; `known` is the baseline, `told` hears of each probe.

    Raises LookupError where no document shows an order, and OSError where nothing can be listened at.
    """
    started = time.monotonic()
    with opened(contract, model, options) as session:
        run_within(options.timeout + CALLBACK_GRACE_SECONDS, lambda: run_probes(session, told))
        silent = not any(exchange.status for exchange in list(session.endpoint.exchanges))
        left = options.timeout - (time.monotonic() - started)
        diagnosis = diagnose(options.base_url, min(max(left, 0.1), DIAGNOSIS_SECONDS)) if silent else None
        return concluded(session, contract, rules, time.monotonic() - started, known, diagnosis)


def run_within(seconds: float, work: Callable[[], None]) -> None:
    """Do something in a thread, and leave it alone where it does not end in time; what it raises is raised here."""
    failed: list[Exception] = []

    def do() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=do, name="probes", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed and not thread.is_alive():
        raise failed[0]


def diagnose(base_url: str, seconds: float) -> str:
    """Return one sentence that says why an address gives no answer; the key is not sent."""
    try:
        httpx.get(base_url, timeout=seconds, follow_redirects=False)
    except httpx.TimeoutException:
        return f"{base_url} takes no request, or gives no answer, run_within the time that one has"
    except httpx.ConnectError as error:
        if "SSL" in str(error) or "certificate" in str(error).lower():
            return f"{base_url}: TLS fails: {' '.join(str(error).split())}"
        return f"there is no server at {base_url}: {' '.join(str(error).split()) or 'no connection'}"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"{base_url} cannot be options: {' '.join(str(error).split()) or type(error).__name__}"
    return f"{base_url} answers a plain GET, but no operation of the contract"


def local(url: str) -> bool:
    """Whether an address is one of this machine: what is sent there stays here."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or (is_internal(url) and (host.startswith("127.") or host == "::1"))
