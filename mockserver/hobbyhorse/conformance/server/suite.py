"""The server suite from start to verdict: open a session, run the probes, judge the trace. Knows no server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

import httpx

from hobbyhorse.conformance.judge import InternalError
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.conformance.server.budget import Budget
from hobbyhorse.conformance.server.endpoint import REQUEST_SECONDS, Endpoint, without_login
from hobbyhorse.conformance.server.probes import OnProbe, run_probes
from hobbyhorse.conformance.server.receiver import Receiver
from hobbyhorse.conformance.server.results import ServerResult, Stopped, concluded
from hobbyhorse.conformance.server.session import Session, callback_job_reader, is_internal
from hobbyhorse.contract.values import Contract, Model

# The default of `--timeout`: long enough to poll one job of a real provider to its end, short enough for a CI job.
TIMEOUT = 300.0
# One request may take a tenth of the suite's time, so that a hanging operation cannot use up all of it.
REQUEST_TIME_SHARE = 10
# Extra time for the probes' thread to notice its own deadline; only then is the thread abandoned.
CALLBACK_GRACE_SECONDS = 1.0
# The diagnosis runs after the verdict is lost, so it trades certainty for a quick end.
DIAGNOSIS_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """The options of one run.

    `timeout` bounds the whole suite, in seconds. `listen` is the address of the callback receiver. `picture` is the
    picture's bytes or its URL. Without a `budget` no billable request is sent. `models` are all models to judge, if
    there are several.
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
    models: tuple[Model, ...] = ()


@contextmanager
def opened(contract: Contract, model: Model, options: SuiteOptions, *, listening: bool = True) -> Iterator[Session]:
    """Yield a session on an endpoint; opening it makes no connection. Raises LookupError and OSError."""
    until = time.monotonic() + options.timeout
    seconds = min(REQUEST_SECONDS, options.timeout / REQUEST_TIME_SHARE)
    # Without a budget no job is submitted, and a remote endpoint cannot reach a private address.
    needed = contract.callbacks is not None or any(one.images is not None for one in options.models or (model,))
    wanted = listening and needed and options.budget is not None
    reachable = options.callback_url is not None or local(options.base_url)
    # A followed redirect would carry the API key to another host.
    with httpx.Client(trust_env=True, follow_redirects=False) as http:
        budget = Budget(options.budget)
        url, login = without_login(options.base_url)
        endpoint = Endpoint(contract, url, options.api_key, budget, until, http, request_seconds=seconds, login=login)
        with _receiving(contract, options) if wanted and reachable else nullcontext() as receiver:
            yield Session(
                endpoint,
                model,
                other_key=options.other_key,
                picture=options.picture,
                receiver=receiver,
                callback_secret=options.callback_secret,
                seed=options.seed,
                models=options.models,
            )


def _receiving(contract: Contract, options: SuiteOptions) -> Receiver:
    host, port = options.listen
    return Receiver(callback_job_reader(contract), host, port, options.callback_url)


def examine(
    contract: Contract,
    model: Model,
    options: SuiteOptions,
    rules: Sequence[Rule],
    *,
    known: Mapping[str, str] | None = None,
    on_probe: OnProbe = lambda name, summary: None,
) -> ServerResult:
    """Run every probe against an endpoint and judge the trace, within the time limit.

    `known` is the baseline: rule ids and the reasons why their findings are accepted. `on_probe` receives the name and
    summary of each probe. Raises LookupError if no document shows a submission, and OSError if the callback receiver
    cannot listen.
    """
    started = time.monotonic()
    with opened(contract, model, options) as session:
        stopped = _probed(session, options.timeout + CALLBACK_GRACE_SECONDS, on_probe)
        silent = not any(exchange.status for exchange in list(session.endpoint.exchanges))
        left = options.timeout - (time.monotonic() - started)
        diagnosis = diagnose(options.base_url, min(max(left, 0.1), DIAGNOSIS_SECONDS)) if silent else None
        seconds = time.monotonic() - started
        return concluded(session, contract, rules, seconds, known=known, diagnosis=diagnosis, stopped=stopped)


def _probed(session: Session, seconds: float, on_probe: OnProbe) -> Stopped:
    """Run the probes within a time; return what stopped them."""
    try:
        run_within(seconds, lambda: run_probes(session, on_probe))
    except KeyboardInterrupt:
        # The thread of the probes goes on until its next request, which must not cost anything any more.
        session.endpoint.until = 0.0
        return Stopped(interrupted=True)
    except Exception as error:
        return Stopped(errors=(InternalError.of("running the probes", error),))
    return Stopped()


def run_within(seconds: float, work: Callable[[], None]) -> None:
    """Run `work` in a thread and abandon it after `seconds`; an error of a finished thread is raised here."""
    failed: list[Exception] = []

    def do() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    # A daemon, because a request that hangs must not keep the process alive after the report.
    thread = threading.Thread(target=do, name="probes", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed and not thread.is_alive():
        raise failed[0]


def diagnose(base_url: str, seconds: float) -> str:
    """Return one sentence that explains why an address does not respond. Sends one GET, without the key."""
    base_url, login = without_login(base_url)
    try:
        httpx.get(base_url, timeout=seconds, follow_redirects=False, auth=login)
    except httpx.TimeoutException:
        return f"{base_url} did not accept a connection, or gave no response, within {seconds:.1f} s"
    except httpx.ConnectError as error:
        if "SSL" in str(error) or "certificate" in str(error).lower():
            return f"{base_url}: TLS failed: {' '.join(str(error).split())}"
        return f"no server at {base_url}: {' '.join(str(error).split()) or 'no connection'}"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"cannot send a request to {base_url}: {' '.join(str(error).split()) or type(error).__name__}"
    return f"{base_url} responds to a plain GET, but not to any operation of the contract"


def local(url: str) -> bool:
    """Whether a URL names this machine, so that requests to it never leave it."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or (is_internal(url) and (host.startswith("127.") or host == "::1"))
