"""Serve a mutant's contract in time that only the suite's pauses move, and run the suite with the true contract."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from typing import Any

import httpx
from PIL import Image

from hobbyhorse.clock.clock import Clock, ManualClock
from hobbyhorse.conformance.judge import judge
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.conformance.server.budget import Budget
from hobbyhorse.conformance.server.endpoint import Endpoint, OutOfTime
from hobbyhorse.conformance.server.probes import Probe, each_probe
from hobbyhorse.conformance.server.receiver import Receiver
from hobbyhorse.conformance.server.results import ServerResult, concluded
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.session import EndpointUnreachable, Session, Skipped, callback_job_reader
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import ServerThread
from hobbyhorse.worlds.world import Ending
from tests.broken_servers.bending import KEY, OTHER, Bend, Bent
from tests.media_samples import encoded

from .in_process import URL, InProcess, OwnLoop, Passing

BUDGET = Decimal(50)
# Real seconds of one response. A mutant that hangs has fewer, or each of its requests would take half a minute.
REQUEST_SECONDS, IMPATIENT_SECONDS = 30.0, 3.0
# Virtual seconds after the last probe: the suite blames a server for a silence of ten seconds.
SILENCE_SECONDS = 11.0
# Real seconds of all probes together: many times as long as the slowest contract's, also on a busy machine.
SECONDS = 300.0
# Virtual time never runs out; `SECONDS` is looked at between two probes.
FOREVER = 1e9
# A stage lasts longer than the least interval between two polls, so that the suite sees each stage.
STAGE_SECONDS = 2.5
# Links end within the time that the suite waits for an expiry, and after it has fetched the video.
LINK_SECONDS = 40.0
# The least difference of two times: so small that a whole run adds up to a millisecond.
TICK = 1e-6


@dataclass(frozen=True, slots=True)
class Served:
    """A server to test: the contract that it serves, and the change of its messages, made anew for each run.

    `model` is the index of the model that the suite orders. Jobs of the probes in `failing` end in a failure. The
    suite waits `request_seconds` for a response.
    """

    contract: Contract
    bend: Callable[[Contract], Bend] = lambda contract: Bend()
    model: int = 0
    failing: tuple[str, ...] = ("machine",)
    request_seconds: float = REQUEST_SECONDS


@cache
def picture() -> bytes:
    """Return a picture to submit, large enough for every model."""
    return encoded(Image.linear_gradient("L").resize((1280, 720)).convert("RGB"))


class ManualTime:
    """One time for a server and for the suite; only `sleep` moves it."""

    def __init__(self) -> None:
        self._clocks: list[Clock] = []
        self._reads = itertools.count()
        self.run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run

    def clock(self) -> Clock:
        """Return a clock for a new world of the server."""
        self._clocks.append(ManualClock(self._moment()) if self._clocks else ManualClock())
        return self._clocks[-1]

    def now(self) -> float:
        """Return the time; during a pause, that of the clock which is furthest. Two calls never return the same."""
        # Requests overlap only if their times do, and no time passes while they are sent.
        return self._moment() + next(self._reads) * TICK

    def _moment(self) -> float:
        return max(one.now() for one in self._clocks)

    def sleep(self, seconds: float) -> None:
        """Move every clock, and run the actions that become due."""
        self.run(self.advance(seconds))

    async def advance(self, seconds: float) -> None:
        """Do the same within the server's event loop."""
        goal = self._moment() + seconds
        for one in self._clocks:
            await one.advance(max(goal - one.now(), 0.0))


def adapted(contract: Contract) -> Contract:
    """Return a contract of the same facts, but with jobs and links that last for seconds."""
    stages = {
        stage.name: stage if stage.terminal else replace(stage, lasts=(STAGE_SECONDS, STAGE_SECONDS))
        for stage in contract.graph
    }
    life = None if contract.retention.result_url is None else LINK_SECONDS
    return replace(
        contract,
        graph=replace(contract.graph, stages=stages),
        retention=replace(contract.retention, result_url=life),
    )


@dataclass(slots=True)
class Watched:
    """An ASGI application that keeps the errors of another one: a mutant that crashes proves nothing."""

    app: Bent
    errors: list[Exception] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            self.errors.append(error)
            raise


@contextmanager
def _started(served: Served, moments: ManualTime) -> Iterator[tuple[Fake, str, httpx.Client]]:
    """Serve a mutant; yield the fake, its base URL, and a client. Raises the first error of the server."""
    options = Options(api_keys=frozenset({KEY, OTHER}), pace="realistic", make_clock=moments.clock, plain_videos=True)
    fake = Fake([served.contract], options)
    app = Bent(fake, served.contract, served.bend(served.contract))
    watched = Watched(app)
    with _in_thread(app, watched, moments) if app.relays else _in_process(app, watched, moments) as http:
        yield fake, f"{app.url}/{served.contract.key}", http
    if watched.errors:
        raise watched.errors[0]


@contextmanager
def _in_thread(app: Bent, watched: Watched, moments: ManualTime) -> Iterator[httpx.Client]:
    """Serve on a socket, which the callbacks of a changed server are relayed to."""
    server = ServerThread(watched)
    app.url = server.url
    moments.run = lambda work: asyncio.run_coroutine_threadsafe(work, server.loop).result()
    try:
        with httpx.Client(trust_env=False, transport=Passing(moments.sleep)) as http:
            yield http
    finally:
        server.stop()


@contextmanager
def _in_process(app: Bent, watched: Watched, moments: ManualTime) -> Iterator[httpx.Client]:
    """Serve in the calling thread."""
    loop = OwnLoop()
    app.url, moments.run = URL, loop.run
    try:
        with httpx.Client(transport=InProcess(watched, loop, moments.advance)) as http:
            yield http
    finally:
        loop.run(app.fake.close())
        loop.close()


@contextmanager
def on_server(contract: Contract, served: Served) -> Iterator[tuple[Fake, Session]]:
    """Yield a fake that serves a mutant, and a session on it with the true contract.

    Raises the first error of the server.
    """
    moments = ManualTime()
    with (
        _started(served, moments) as (fake, url, http),
        Receiver(callback_job_reader(contract), now=moments.now) as receiver,
    ):
        until = time.monotonic() + FOREVER
        endpoint = Endpoint(
            contract, url, KEY, Budget(BUDGET), until, http, now=moments.now, request_seconds=served.request_seconds
        )
        session = Session(
            endpoint,
            contract.models[served.model],
            other_key=OTHER,
            picture=picture(),
            receiver=receiver,
            callback_secret=DEFAULT_SECRET,
            sleep=moments.sleep,
            clock=moments.now,
        )
        yield fake, session


def run_suite(
    contract: Contract, served: Served, rules: Sequence[Rule] | None = None, *, whole: bool = False
) -> ServerResult:
    """Run the suite on a server, with the true contract, until its first finding; with `whole`, to its end.

    Raises TimeoutError, and the first error of the server.
    """
    found_before: list[ServerResult] = []
    try:
        _run(contract, served, rules or server_rules(), found_before, whole=whole)
    except Exception:
        # A server that a changed contract lets accept anything may fail later; its findings came first.
        if not any(one.breaches for result in found_before for one in result.verdicts):
            raise
    return found_before[0]


def _run(
    contract: Contract, served: Served, rules: Sequence[Rule], results: list[ServerResult], *, whole: bool
) -> None:
    """Run the suite on a server and append the result. Raises TimeoutError, and the first error of the server."""
    began, judged = time.monotonic(), 0
    with on_server(contract, served) as (fake, session):
        for probe in each_probe(session):
            if time.monotonic() - began > SECONDS:
                raise TimeoutError(f"{probe.name} was not reached within {SECONDS:g} s")
            _set_ending(fake, served, probe)
            if not _probed(session, probe):
                break
            # Half as many exchanges again since the last look: the judge reads all of them each time.
            if not whole and len(session.endpoint.exchanges) > 1.5 * judged:
                judged = len(session.endpoint.exchanges)
                if found(session, contract, rules):
                    break
        # As long as the requests that got no response would have taken.
        session.sleep(SILENCE_SECONDS)
        results.append(concluded(session, contract, rules, time.monotonic() - began))


def _set_ending(fake: Fake, served: Served, probe: Probe) -> None:
    """Let the jobs of a probe fail if they are to."""
    world = fake.worlds.of(KEY)
    graph = served.contract.graph
    failure = graph.ending("failure")
    assert world is not None
    world.endings.clear()
    if probe.name in served.failing and failure is not None:
        world.endings.extend([Ending(failure.name)] * 5)


def _probed(session: Session, probe: Probe) -> bool:
    """Run a probe; return False if the endpoint does not respond at all."""
    try:
        probe.run(session)
    except Skipped as error:
        session.note(probe.name, str(error))
    except (EndpointUnreachable, OutOfTime):
        return False
    return True


def found(session: Session, contract: Contract, rules: Sequence[Rule]) -> bool:
    """Whether a rule is broken by what was seen until now."""
    return session.judgeable and any(one.breaches for one in judge(contract, [session.trace()], rules, []))
