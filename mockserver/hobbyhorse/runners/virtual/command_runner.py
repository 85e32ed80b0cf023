"""Run test cases with a command in virtual time: each case has a world with a time of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hobbyhorse.conformance.client.cases import HAPPY, Case
from hobbyhorse.conformance.client.diagnosis import Fit, without_video
from hobbyhorse.conformance.client.planning import KILLING
from hobbyhorse.conformance.client.search import STUCK_JOB
from hobbyhorse.runners.against_fake import (
    MOST_REQUESTS,
    WATCH_SECONDS,
    Batch,
    CommandRunner,
    run_limit,
)
from hobbyhorse.runners.command import AT_LIMIT, Launch, Running
from hobbyhorse.runners.surroundings import steps_of
from hobbyhorse.runners.virtual.compiled import Unavailable
from hobbyhorse.runners.virtual.timekeeper import Timekeeper
from hobbyhorse.testing.local import MockWorld
from hobbyhorse.traces.pair import each_half
from hobbyhorse.traces.trace import Trace

# Real seconds between two checks of whether a client that is to be killed has ended before.
TICK_SECONDS = 0.05
# Why a run that is cut off in real time has no verdict: the client computed, so time had passed with it, or it did not.
SPINNING, SLOW = "a loop that reads the clock", "more real time than --limit"


@dataclass(slots=True)
class VirtualCommandRunner(CommandRunner):
    """Runs test cases with a command in virtual time, up to `parallel` concurrently.

    `tracer` is the path of the tracer. `accepted` are the calls that were denied in a run that succeeded all the same.
    """

    tracer: Path = Path()
    accepted: frozenset[str] = frozenset()
    slow_runs: int = 0
    """The number of runs in which time passed with the client's computing."""
    _keepers: dict[str, Timekeeper] = field(default_factory=dict)
    """The times of the current runs, by API key."""
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def fit(self) -> Fit:
        """Adapt the test cases to the client, by a run without faults and one with a stuck job; return the fit.

        Raises Unavailable if the client cannot be judged in virtual time.
        """
        return self.fitted(self.checked(HAPPY))

    def checked(self, case: Case) -> Trace:
        """Run a case. Raises Unavailable if the client cannot be judged in virtual time."""
        trace = self.run(case)
        if trace.unjudged:
            raise Unavailable(f"the client uses {trace.unjudged}")
        return trace

    def fitted(self, happy: Trace) -> Fit:
        """Adapt the test cases to the client of a run without faults; return the fit."""
        session = self.session
        session.fit = session.fit.with_role(session.read(happy))
        session.fit = session.fit.with_share(session.read(self.run(STUCK_JOB)))
        return session.fit

    @property
    def in_virtual_time(self) -> bool:
        """Whether the commands run in virtual time."""
        return True

    def late_notes(self) -> tuple[str, ...]:
        """Return notes on the runs, after their end."""
        if not self.slow_runs:
            return ()
        runs = "a run" if self.slow_runs == 1 else f"{self.slow_runs} runs"
        return (f"in {runs}, the client computed for more than a second without a pause, so time passed with it",)

    def _run(self, batch: Batch, case: Case) -> Trace:
        world = self.session.world(case)
        with self._time_of(world, case) as keeper:
            trace = self._run_in(world, batch, case, WATCH_SECONDS)
        if keeper.failure is not None:
            raise keeper.failure
        succeeded = without_video(self.session.read(trace)) is None
        if case == HAPPY and succeeded:
            self.accepted |= frozenset(keeper.denied)
        # A busy machine may be the reason, which says nothing about the client.
        cut = any(run.outcome is not None and run.outcome.message.startswith(AT_LIMIT) for run in trace.runs)
        names = [*keeper.unsupported, *(name for name in keeper.denied if name not in self.accepted)]
        names += [SPINNING if keeper.crept else SLOW] if cut else []
        with self._counting:
            self.slow_runs += bool(keeper.crept)
        unjudged = names[0] if names else ""
        return each_half(trace, lambda half: replace(half, virtual=True, unjudged=unjudged))

    @contextmanager
    def _time_of(self, world: MockWorld, case: Case) -> Iterator[Timekeeper]:
        # A client may wait for one provider, and then for the other.
        limit = sum(run_limit(contract) for contract, _ in self.session.providers)
        keeper = Timekeeper(
            self.session.server.timeline(world),
            self.tracer,
            limit,
            requests=lambda: world.journal_length,
            most_requests=MOST_REQUESTS,
            watched=WATCH_SECONDS,
            steps=steps_of(case, self.session.fit.share),
        )
        self._keepers[world.api_key] = keeper
        try:
            with keeper:
                yield keeper
        finally:
            del self._keepers[world.api_key]

    def _launch(self, world: MockWorld) -> Launch | None:
        return self._keepers[world.api_key].launch

    def _watch(self, world: MockWorld, running: Running) -> None:
        if running.leftovers():
            self._keepers[world.api_key].watch(running.pid)
        # The client may have ended before the server noted that the last response was read.
        self._keepers[world.api_key].settle()

    def _pass_time(self, world: MockWorld, seconds: float) -> None:
        self._keepers[world.api_key].pass_time(seconds)

    def _expect(self, world: MockWorld, count: int) -> None:
        self._keepers[world.api_key].expect(count)

    def _await_held_response(self, world: MockWorld, running: Running) -> bool:
        """Let time stand once the client waits for what is held back; return False if the client ends first."""
        keeper = self._keepers[world.api_key]
        keeper.stop_when(lambda: any(exchange.move in KILLING for exchange in world.journal))
        try:
            while not keeper.reached(TICK_SECONDS):
                if running.ended:
                    return keeper.reached(0)
            return True
        finally:
            running.kill()
            keeper.go_on()
