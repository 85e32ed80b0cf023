"""A Hypothesis state machine that orders several jobs, and reads and cancels them in a mixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from hobbyhorse.conformance.server.endpoint import OutOfTime
from hobbyhorse.conformance.server.session import EndpointUnreachable, Skipped

if TYPE_CHECKING:
    from hobbyhorse.conformance.server.session import Session
    from hobbyhorse.traces.annotated import Step

MOST_JOBS = 3
MOST_CALLS = 20
RUNS, STEPS = 4, 12
PROBE = "machine"


def interleave(session: Session) -> None:
    """Run the machine on a session: the same seed draws the same steps. Raises Skipped, OutOfTime and Nobody."""
    course = _Course(session)

    class JobMachine(RuleBasedStateMachine):
        """Each step is a call, or nothing where the budget or the contract has none; what it shows is judged later."""

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
        database=None,
        derandomize=False,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(session.seed)(JobMachine), settings=chosen)
    if course.over is not None:
        raise course.over


class _Course:
    """What the machine does to a session; `over` is why it does no more."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._jobs: list[str] = []
        self._ordered = 0
        self._calls = 0
        self.over: Exception | None = None

    def submit(self) -> None:
        if self._ordered < MOST_JOBS and self._goes_on():
            self._ordered += 1
            step = self._do(lambda: self._session.submit_order(PROBE, self._session.marked(f"machine {self._ordered}")))
            if step is not None and step.job_told is not None:
                self._jobs.append(step.job_told)

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
        """Make a call; where it cannot be made, do no more, unless it is only that no further job can be paid."""
        try:
            return call()
        except (Skipped, OutOfTime, EndpointUnreachable) as error:
            if isinstance(error, Skipped) and self._jobs:
                self._session.note(PROBE, str(error))
            else:
                self.over = error
            return None
