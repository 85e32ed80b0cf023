"""Interleaved submissions, polls, cancellations, result fetches and clock moves never violate the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hobbyhorse.contract.lifecycle import cut
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.request import ContractBroken
from hobbyhorse.worlds.world import Ending
from tests.conftest import contracts_that, many
from tests.world import Mock, Reply

Result = TypeVar("Result")


class Interleaving(RuleBasedStateMachine):
    """Several jobs of one provider under one clock. The model is the contract's own graph."""

    contract: Contract
    jobs = Bundle("jobs")

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.mock = Mock([self.contract])
        self.seen: dict[str, frozenset[str]] = {}
        self.final: dict[tuple[str, str], bytes] = {}
        self.cancelled: set[str] = set()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    @rule(target=jobs, ending=st.sampled_from(["", "success", "failure", "expired"]))
    def submit(self, ending: str) -> str:
        graph = self.contract.graph
        stages = [stage.name for stage in graph.terminals() if stage.kind == ending]
        if stages:
            self.mock.world.endings.append(Ending(stages[-1], message="an armed failure"))
        job = self.run(self.mock.submit(self.contract))
        assert job not in self.seen, "an id is used twice"
        self.seen[job] = frozenset({graph.initial})
        return job

    @rule(job=jobs)
    def poll(self, job: str) -> None:
        reply = self.run(self.mock.call(self.contract, "status", path={"job": job}))
        self.judge("status", job, reply)

    @rule(job=jobs)
    def fetch(self, job: str) -> None:
        if "result" in self.contract.operations:
            self.judge("result", job, self.run(self.mock.call(self.contract, "result", path={"job": job})))

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        if "cancel" not in self.contract.operations:
            return
        now = self.mock.clock.now()
        before = self.mock.world.jobs[job].stage(now)
        reply = self.run(self.mock.call(self.contract, "cancel", path={"job": job}))
        after = self.judge("cancel", job, reply)
        if before.cancellable:
            self.cancelled.add(job)
            assert {self.contract.graph[name].kind for name in after} == {"cancelled"}
        else:
            assert before.name in after, "cancelling a job that cannot be cancelled changed it"

    @rule(job=jobs, key=st.sampled_from(["unknown", "another"]))
    def read_with_another_key(self, job: str, key: str) -> None:
        reply = self.run(self.mock.call(self.contract, "status", path={"job": job}, key=key))
        assert reply.reading is not None
        assert not reply.reading.stages, "another key sees the job"

    @rule(seconds=st.floats(0, 300) | st.sampled_from([0.0, 1e-3, 86_400.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.mock.clock.advance(seconds))

    @invariant()
    def no_response_is_a_server_error(self) -> None:
        """Check that no response was a server error; strict mode has validated their schemas."""
        if hasattr(self, "mock"):
            assert not [one for one in self.mock.world.journal if one.status >= 500]

    def judge(self, role: str, job: str, reply: Reply) -> frozenset[str]:
        """Check a response by the graph, and by the earlier responses about the job."""
        graph = self.contract.graph
        assert reply.reading is not None
        stages = reply.reading.stages
        assert stages, f"{role} returned {reply.body!r}, which shows no stage"
        before = self.seen[job]
        assert any(graph.leads_to(early, late) for early in before for late in stages), f"{before} -> {stages}"
        self.seen[job] = stages
        if all(graph[name].terminal for name in stages):
            assert self.final.setdefault((job, role), reply.body) == reply.body, "a terminal answer changed"
        else:
            assert (job, role) not in self.final, "an ended job goes on"
        if job in self.cancelled:
            assert {graph[name].kind for name in stages} == {"cancelled"}, "a cancelled job goes on"
        video = reply.reading.values.get("video_url")
        assert video is None or {graph[name].kind for name in stages} == {"success"}
        return stages

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.mock.fake.close())
            self.loop.close()


def machine(contract: Contract) -> type[Interleaving]:
    return type("Machine", (Interleaving,), {"contract": contract})


SETTINGS = settings(max_examples=many(60, 30), stateful_step_count=40)
ONLY_SEE_IT_FAIL = settings(SETTINGS, phases=[Phase.generate], report_multiple_bugs=False)


def test_no_interleaving_shows_a_state_that_the_contract_forbids(contract: Contract) -> None:
    run_state_machine_as_test(machine(contract), settings=SETTINGS)


def test_a_job_that_comes_back_from_its_end_is_caught(contract: Contract) -> None:
    """Check that the machine can fail: a timeline that goes back to its start is caught."""

    class Turning(machine(contract)):  # type: ignore[misc]
        @rule()
        def turn(self) -> None:
            for name, _ in list(self.final):
                job = self.mock.world.jobs[name]
                job.timeline = (*job.timeline, (job.finished, self.contract.graph.initial))
                self.poll(name)

    with pytest.raises((AssertionError, ContractBroken)):
        run_state_machine_as_test(Turning, settings=ONLY_SEE_IT_FAIL)


@contracts_that(lambda contract: "cancel" in contract.operations)
def test_a_cancelled_job_that_succeeds_is_caught(contract: Contract) -> None:

    class Reviving(machine(contract)):  # type: ignore[misc]
        @rule()
        def revive(self) -> None:
            graph = self.contract.graph
            for job in self.mock.world.jobs.values():
                if graph[job.timeline[-1][1]].kind == "cancelled":
                    success = graph.ending("success")
                    job.timeline = (*job.timeline[:-1], (job.finished, success.name))

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Reviving, settings=ONLY_SEE_IT_FAIL)


def test_a_move_that_is_not_in_the_graph_is_refused(contract: Contract) -> None:
    graph = contract.graph
    timeline = ((0.0, graph.terminals()[0].name),)
    with pytest.raises(ValueError, match="no transition"):
        cut(graph, timeline, 1.0, graph.initial)


@pytest.mark.anyio
async def test_concurrent_polls_of_one_job_agree(contract: Contract) -> None:
    """Overlapping polls agree, and follow the order of the stages."""
    mock = Mock([contract])
    job = await mock.submit(contract)
    graph = contract.graph
    last = frozenset({graph.initial})
    for _ in range(10):
        await mock.clock.advance(30)
        calls = [mock.call(contract, "status", path={"job": job}) for _ in range(20)]
        replies = await asyncio.gather(*calls)
        bodies = {reply.body for reply in replies}
        assert len(bodies) == 1
        reading = replies[0].reading
        assert reading is not None
        assert any(graph.leads_to(early, late) for early in last for late in reading.stages)
        last = reading.stages
