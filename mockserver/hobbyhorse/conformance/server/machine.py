"""A Hypothesis state machine that submits several jobs, and reads and cancels them in a mixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from hobbyhorse.conformance.server.endpoint import OutOfTime
from hobbyhorse.conformance.server.session import EndpointUnreachable, Skipped

if TYPE_CHECKING:
    from hobbyhorse.conformance.server.session import Session
    from hobbyhorse.traces.annotated import Step

# Enough jobs to be mixed up, few enough to pay for.
MOST_JOBS = 3
# One order is sent twice: a server that remembers orders shows it.
EQUAL_JOBS = 2
# Most calls wait for the contract's minimum poll interval, so their number bounds the machine's time.
MOST_CALLS = 20
# Sequences, and steps in each: more than MOST_CALLS together, because a step without a job calls nothing.
RUNS, STEPS = 4, 12
PROBE = "machine"


def interleave(session: Session) -> None:
    """Run the machine on a session; the same seed draws the same steps.

    Raises Skipped, OutOfTime and EndpointUnreachable.
    """
    course = _Course(session)

    class JobMachine(RuleBasedStateMachine):
        """Each step is at most one call; the trace is judged later, so no step checks anything."""

        @rule()
        def submit(self) -> None:
            course.submit()

        @rule(which=st.integers(0, MOST_JOBS - 1), role=st.sampled_from(("status", "status", "result", "cancel")))
        def visit(self, which: int, role: str) -> None:
            course.visit(which, role)

        @rule()
        def list(self) -> None:
            course.list()

    chosen = settings(
        max_examples=RUNS,
        stateful_step_count=STEPS,
        database=None,  # an old failure must not replace the sequence that the seed draws
        derandomize=False,
        deadline=None,
        phases=[Phase.generate],  # shrinking would send, and pay for, the failing sequence again and again
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(session.seed)(JobMachine), settings=chosen)
    if course.over is not None:
        raise course.over


class _Course:
    """The calls that the machine makes on a session; `over` is the reason why it makes no more."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._jobs: list[str] = []
        self._first: dict[str, Any] = {}
        self._submitted = 0
        self._calls = 0
        self.over: Exception | None = None

    def submit(self) -> None:
        if self._submitted < MOST_JOBS and self._goes_on():
            self._submitted += 1
            step = self._do(lambda: self._session.submit_order(PROBE, self._body()))
            if step is not None and step.job_told is not None:
                self._jobs.append(step.job_told)

    def _body(self) -> dict[str, Any]:
        """Return the order of the next job. The second is equal to the first, and the third has its labels."""
        session, number = self._session, self._submitted
        if number == 1:
            self._first = session.marked("machine 1")
        # A client that orders twice without an idempotency key wants two videos.
        if number <= EQUAL_JOBS:
            return self._first
        return session.labelled_like(session.marked(f"machine {number}"), self._first)

    def visit(self, which: int, role: str) -> None:
        if role in self._session.contract.operations and self._jobs and self._goes_on():
            self._do(lambda: self._session.poll(self._jobs[which % len(self._jobs)], PROBE, role))

    def list(self) -> None:
        if "list" in self._session.contract.operations and self._jobs and self._goes_on():
            self._do(lambda: self._session.call("list", probe=PROBE))

    def _goes_on(self) -> bool:
        self._calls += 1
        return self.over is None and self._calls <= MOST_CALLS

    def _do(self, call: Callable[[], Step]) -> Step | None:
        """Make a call. If it fails, stop, unless only the budget for a further job is missing."""
        try:
            return call()
        except (Skipped, OutOfTime, EndpointUnreachable) as error:
            if isinstance(error, Skipped) and self._jobs:
                self._session.note(PROBE, str(error))
            else:
                self.over = error
            return None
