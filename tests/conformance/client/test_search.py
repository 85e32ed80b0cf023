"""The search for faults that break a client, on a simulated client that depends on the case alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis.strategies import just, nothing

from hobbyhorse.conformance.client.cases import AHEAD, BEHIND, EQUAL, ONCE, TOGETHER, TWICE, Case
from hobbyhorse.conformance.client.planning import overlapping_downloads, simplified, singles, varied
from hobbyhorse.conformance.client.rules import rules as all_rules
from hobbyhorse.conformance.client.search import (
    SHRINKING,
    TIMING_REPEATS,
    CannotRun,
    Plan,
    Progress,
    Search,
    excused_rules,
)
from hobbyhorse.conformance.client.shard import Shard
from hobbyhorse.conformance.client.variations import usual_case
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import Judgement, Rule
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.conftest import CONTRACTS, contracts_that
from tests.tracing import Teller

ROLES = ("submit", "status", "media")
# The faults of a submission after which the made-up client does not know whether it made a job.
DROPS = {"accept_then_drop", "reset_peer"}
# Runs after the single faults: enough for pairs and generated scenarios to find the rule that needs two faults.
BEYOND = 80


def moves_of(case: Case, role: str) -> list[str]:
    return [move["move"] for move in case.scenario.get("moves", {}).get(role, [])]


def ending(contract: Contract) -> tuple[str, str]:
    """Return the role and the situation that give a client its video."""
    role = "result" if "result" in contract.operations else "status"
    names = contract.operations[role].situations
    return role, next(stage.name for stage in contract.graph if stage.kind == "success" and stage.name in names)


class MadeUp:
    """A careless client submits again after a dropped response, and sends its key to media hosts after two faults."""

    def __init__(self, contract: Contract, careless: bool = True, flaky: bool = False) -> None:
        self.contract, self.careless, self.flaky = contract, careless, flaky
        self.ran: list[Case] = []

    def __call__(self, cases: Sequence[Case]) -> Iterator[Trace]:
        for case in cases:
            yield self.play(case)

    def play(self, case: Case) -> Trace:
        self.ran.append(case)
        told = Teller(self.contract, {"n": 1})
        if DROPS & set(moves_of(case, "submit")):
            told.submit(None, status=0, whole=False, answered=None)
            if self.careless:
                told.wait(1).submit(key="another")
        else:
            told.submit()
        gap = 0.01 if self.flaky and len(self.ran) % 2 else 5.0
        running = next(stage.name for stage in self.contract.graph if not stage.terminal)
        for _ in range(3):
            told.wait(gap).status(running)
        if self.careless and case.moves >= 2:
            told.media(headers=(("authorization", "Bearer [key]"),))
        role, situation = ending(self.contract)
        told.wait(5).call(role, situation).media().end("success", size=1000)
        unmet = ("status: html_page",) if moves_of(case, "status") == ["html_page"] else ()
        return replace(told.trace(), scenario=case.scenario, drill=case.kind, point=case.point, unmet=unmet, jobs=None)


def search(contract: Contract, client: MadeUp, runs: int = 200, **plan: object) -> Search:
    found = Search(contract, client, Plan(runs, **plan))  # type: ignore[arg-type]
    found.run("a client", contract.models[0].id)
    return found


@pytest.fixture(scope="module", params=CONTRACTS, ids=lambda contract: contract.key)
def found(request: pytest.FixtureRequest) -> Search:
    roles = (*ROLES, "result")
    most = len(singles(request.param, roles)) + len(varied(request.param, roles)) + BEYOND
    return search(request.param, MadeUp(request.param), most)


def test_each_broken_rule_is_found_with_its_simplest_case(found: Search) -> None:
    smallest = {tally.rule.id: tally.smallest for tally in found.tallies if tally.smallest}
    assert smallest["SUB-01"][0].moves == 1
    assert moves_of(smallest["SUB-01"][0], "submit")[0] in DROPS
    assert "SEC-01" in smallest
    assert smallest["SEC-01"][0].moves == 2


def test_a_run_counts_for_a_rule_only_if_it_shows_something_about_it(found: Search) -> None:
    assert isinstance(found.run_cases, MadeUp)
    dropped = [case for case in found.run_cases.ran if DROPS & set(moves_of(case, "submit"))]
    counts = {tally.rule.id: (tally.observed, tally.broken) for tally in found.tallies}
    assert 0 < len(dropped) < found.runs
    assert counts["SUB-01"] == (len(dropped), len(dropped))
    assert counts["PER-01"] == (0, 0), "no client is restarted"


def test_a_careful_client_is_not_accused_and_every_run_is_used(contract: Contract) -> None:
    careful = search(contract, MadeUp(contract, careless=False), 400)
    assert careful.broken == ()
    assert careful.runs == 400


def test_the_runs_are_bounded_and_no_case_runs_twice(found: Search) -> None:
    assert isinstance(found.run_cases, MadeUp)
    keys = [case.key for case in found.run_cases.ran]
    assert len(keys) == found.runs <= found.plan.runs + 2 * SHRINKING
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("kinds", [(ONCE,), (ONCE, TOGETHER)])
def test_orders_at_once_are_also_run_with_downloads_that_overlap(contract: Contract, kinds: tuple[str, ...]) -> None:
    client = MadeUp(contract)
    search(contract, client, 20, kinds=kinds)
    assert (overlapping_downloads() in client.ran) == (TOGETHER in kinds)


class Batches(MadeUp):
    """A careful client that notes the batches that it was given."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, careless=False)
        self.batches: list[list[Case]] = []

    def __call__(self, cases: Sequence[Case]) -> Iterator[Trace]:
        self.batches.append(list(cases))
        yield from super().__call__(cases)


def test_random_scenarios_run_in_batches_each_after_the_case_that_it_is_compared_with(contract: Contract) -> None:
    client = Batches(contract)
    roles = (*ROLES, "result")
    runs = len(singles(contract, roles)) + len(varied(contract, roles)) + 2 * BEYOND
    found = Search(contract, client, Plan(runs))
    phases: list[str] = []
    found.on_progress = lambda progress: phases.append(progress.phase)
    found.run("a client", contract.models[0].id)
    # Processes would idle if each scenario waited for the one before.
    start = phases.index("random scenarios") - 1
    drawn = client.ran[start:]
    sizes = [len(batch) for batch in client.batches if batch[0] in drawn]
    assert max(sizes) > 1
    compared = [
        (n, usual) for n, case in enumerate(client.ran) if (usual := usual_case(case)) is not None and n >= start
    ]
    assert compared
    assert all(usual in client.ran[:n] for n, usual in compared)
    assert found.runs == runs


def test_the_same_seed_finds_the_same(contract: Contract) -> None:
    one, other = MadeUp(contract), MadeUp(contract)
    first, second = search(contract, one, seed=7), search(contract, other, seed=7)
    assert [case.key for case in one.ran] == [case.key for case in other.ran]
    assert first.broken == second.broken


def test_a_fault_that_the_client_did_not_meet_does_not_count_as_covered(contract: Contract) -> None:
    coverage = Search(contract, MadeUp(contract), Plan(700)).run("a client", "m").coverage
    assert coverage.met < coverage.total
    assert "status: html_page" in coverage.unmet
    assert not coverage.untried
    few = Search(contract, MadeUp(contract), Plan(20)).run("a client", "m").coverage
    assert few.met < 20
    assert few.met + len(few.unmet) + len(few.untried) == few.total == coverage.total
    assert set(few.untried).isdisjoint(few.unmet)


def test_a_timing_finding_that_is_not_confirmed_is_dropped(contract: Contract) -> None:
    assert "POL-07" not in search(contract, MadeUp(contract, careless=False, flaky=True), runs=60).broken


def test_progress_is_reported_after_each_run(contract: Contract) -> None:
    reported: list[Progress] = []
    result = Search(contract, MadeUp(contract), Plan(50), reported.append).run("a client", "m")
    found = [one.runs for one in reported]
    assert found == list(range(result.runs + 1))
    # A finding that depends on time is confirmed by further runs.
    assert 50 <= found[-1] < 50 + TIMING_REPEATS
    assert reported[-1].broken


def test_only_the_chosen_rules_are_judged(contract: Contract) -> None:
    assert {tally.rule.id for tally in search(contract, MadeUp(contract), 40, rules=("SUB-01",)).tallies} == {"SUB-01"}


def test_a_client_that_gets_no_video_from_a_faultless_server_cannot_be_tested(contract: Contract) -> None:
    class Failing(MadeUp):
        def play(self, case: Case) -> Trace:
            return Teller(self.contract).submit().end("failed", message="KeyError: 'id'").trace()

    with pytest.raises(CannotRun, match=r"server without faults.*KeyError"):
        search(contract, Failing(contract))


def test_the_error_about_an_unfetched_video_names_its_host(contract: Contract) -> None:
    class Wary(MadeUp):
        def play(self, case: Case) -> Trace:
            return Teller(self.contract).submit().wait(5).call(*ending(self.contract)).end("failed").trace()

    with pytest.raises(CannotRun, match=r"its video, on the base URL.s host, but did not fetch the video"):
        search(contract, Wary(contract))


def test_a_client_that_submits_no_job_cannot_be_tested(contract: Contract) -> None:
    class Idle(MadeUp):
        def play(self, case: Case) -> Trace:
            return Teller(self.contract).end("success").trace()

    with pytest.raises(CannotRun, match=r"submitted no job; its requests: none; the run ended as .success."):
        search(contract, Idle(contract))


class Fragile(MadeUp):
    """Submits twice in a scenario that contains all the faults of `cause`, and is careful in every other one."""

    def __init__(self, contract: Contract, cause: dict[str, Any]) -> None:
        super().__init__(contract)
        self.cause = cause

    def is_broken_by(self, case: Case) -> bool:
        found = case.scenario.get("moves", {})
        roles = self.cause["moves"].items()
        faults = all(move in _bare(found.get(role, [])) for role, moves in roles for move in moves)
        return faults and ("timeline" in case.scenario or "timeline" not in self.cause)

    def play(self, case: Case) -> Trace:
        self.ran.append(case)
        told = Teller(self.contract, {"n": 1}).nothing("submit")
        if self.is_broken_by(case):
            told.wait(1).submit(key="another")
        role, situation = ending(self.contract)
        running = next(stage.name for stage in self.contract.graph if not stage.terminal)
        told.wait(5).status(running).wait(5).call(role, situation).media().end("success", size=1000)
        return replace(told.trace(), scenario=case.scenario, drill=case.kind, point=case.point, jobs=None)


def _bare(moves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"move": move["move"]} for move in moves]


LARGE: dict[str, Any] = {
    "moves": {
        "submit": [{"move": "latency", "seconds": 5, "times": 2}, {"move": "timeout"}],
        "status": [{"move": "latency", "seconds": 5}, {"move": "html_page", "status": 500, "times": 3}],
        "media": [{"move": "zero_bytes", "times": 2}, {"move": "truncated", "keep": 0.5}],
    },
    "timeline": {"move": "fail", "seconds": 5},
}
CAUSES: list[dict[str, Any]] = [
    {"moves": {"status": [{"move": "html_page"}], "media": [{"move": "truncated"}]}, "timeline": {"move": "fail"}},
    {"moves": {"submit": [{"move": "latency"}, {"move": "timeout"}], "status": [{"move": "html_page"}]}},
    {"moves": {"media": [{"move": "zero_bytes"}, {"move": "truncated"}], "status": [{"move": "latency"}]}},
]


def shrunk(contract: Contract, client: Fragile, monkeypatch: pytest.MonkeyPatch) -> tuple[Search, Case, list[Case]]:
    """Search with LARGE as the only generated scenario; return the search, its finding, and the cases after LARGE."""
    monkeypatch.setattr("hobbyhorse.conformance.client.search.scenarios", lambda contract: just(LARGE))
    monkeypatch.setattr("hobbyhorse.conformance.client.search.drawn_orders", lambda *_: [])
    monkeypatch.setattr("hobbyhorse.conformance.client.search.varied_scenarios", lambda contract, without: nothing())
    roles = (*ROLES, "result")
    runs = len(singles(contract, roles)) + len(varied(contract, roles)) + BEYOND
    found = search(contract, client, runs, rules=("SUB-01",))
    (tally,) = found.tallies
    assert tally.smallest is not None
    return found, tally.smallest[0], client.ran[client.ran.index(Case(LARGE)) + 1 :]


@pytest.mark.parametrize("cause", CAUSES, ids=["three roles", "two faults of a role", "without a timeline"])
def test_a_finding_is_shrunk_to_its_cause(
    contract: Contract, cause: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Fragile(contract, cause)
    found, smallest, tried = shrunk(contract, client, monkeypatch)
    assert smallest == Case(cause)
    assert len(tried) <= SHRINKING
    (tally,) = found.tallies
    assert tally.smallest is not None
    finding = tally.smallest[1]
    assert finding.trace.scenario == cause
    assert finding.messages == ("request 1 may have created a job (no response), but request 2 submits again",)


def test_a_superfluous_role_is_removed_in_one_run_and_not_fault_by_fault(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Fragile(contract, {"moves": {"submit": [{"move": "latency"}, {"move": "timeout"}]}})
    _, smallest, tried = shrunk(contract, client, monkeypatch)
    assert smallest == Case(client.cause)
    broken = [case.scenario.get("moves") for case in tried if client.is_broken_by(case)]
    assert broken[0] == {"submit": LARGE["moves"]["submit"]}
    assert len(tried) < SHRINKING / 2


def test_a_finding_that_needs_every_fault_stays_as_it_is_and_ends_the_search(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Brittle(Fragile):
        def is_broken_by(self, case: Case) -> bool:
            return case.scenario == LARGE

    _, smallest, tried = shrunk(contract, Brittle(contract, LARGE), monkeypatch)
    assert smallest == Case(LARGE)
    neighbours = [case.key for case in simplified(Case(LARGE), contract)]
    assert [case.key for case in tried] == neighbours
    assert len(neighbours) <= SHRINKING


def test_shrinking_stops_when_its_runs_are_used_up(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hobbyhorse.conformance.client.search.SHRINKING", 2)
    client = Fragile(contract, CAUSES[0])
    _, smallest, tried = shrunk(contract, client, monkeypatch)
    assert len(tried) == 2
    assert smallest.moves > Case(CAUSES[0]).moves
    assert client.is_broken_by(smallest)


class Forgetful(MadeUp):
    """Submits twice once a poll got an HTML page, and in every later case of the same process."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract)
        self.spoilt = False

    def play(self, case: Case) -> Trace:
        was_spoilt, self.spoilt = self.spoilt, self.spoilt or moves_of(case, "status") == ["html_page"]
        self.careless, careless = False, was_spoilt
        trace = super().play(case)
        if not careless:
            return trace
        told = Teller(self.contract, {"n": 1}).nothing("submit").wait(1).submit(key="another").end("success")
        return replace(told.trace(), scenario=case.scenario, drill=case.kind, jobs=None)


def test_a_finding_that_needs_an_earlier_case_names_it(contract: Contract) -> None:
    def fresh(cases: Sequence[Case]) -> list[Trace]:
        return list(Forgetful(contract)(cases))

    found = Search(contract, Forgetful(contract), Plan(200, rules=("SUB-01",)), fresh=fresh)
    (verdict,) = found.run("a client", "m").verdicts
    (finding,) = verdict.findings
    assert finding.recurs
    (needed,) = finding.after
    assert moves_of(needed, "status") == ["html_page"]
    unconfirmed = Search(contract, Forgetful(contract), Plan(200, rules=("SUB-01",))).run("a client", "m")
    assert unconfirmed.verdicts[0].findings[0].after == ()


def test_a_client_that_cannot_be_run_in_another_process_keeps_its_findings_with_a_note(contract: Contract) -> None:
    def fresh(cases: Sequence[Case]) -> list[Trace]:
        raise CannotRun("no module named 'here'")

    found = Search(contract, MadeUp(contract), Plan(100), fresh=fresh).run("a client", "m")
    assert "SUB-01" in {one.rule.id for one in found.broken}
    assert found.notes == ("the findings were not confirmed in a fresh process: no module named 'here'",)
    assert not found.errors


def test_each_operation_in_which_a_rule_is_broken_has_a_finding_of_its_own(contract: Contract) -> None:
    class KeyEverywhere(MadeUp):
        """Puts the key into the URL of its download in every case, and of its polls after a lost submission."""

        def play(self, case: Case) -> Trace:
            self.ran.append(case)
            told = Teller(self.contract, {"n": 1})
            lost = bool(DROPS & set(moves_of(case, "submit")))
            told.submit()
            running = next(stage.name for stage in self.contract.graph if not stage.terminal)
            more = {"url": f"{told.base}/x?key=[key]"} if lost else {}
            role, situation = ending(self.contract)
            told.wait(5).status(running, **more).wait(5).call(role, situation)
            told.media(url=f"{told.video}?key=[key]").end("success", size=1000)
            return replace(told.trace(), scenario=case.scenario, drill=case.kind, point=case.point, jobs=None)

    found = search(contract, KeyEverywhere(contract), 100, rules=("SEC-04",))
    (tally,) = found.tallies
    findings = tally.verdict(contract).findings
    assert [one.during for one in findings] == ["download", "poll"]
    happy, lost = (one.trace.scenario for one in findings)
    assert happy == {}
    assert moves_of(Case(lost), "submit")[0] in DROPS
    assert all("media" in message or "video" in message for message in findings[0].messages)


class Interrupted(MadeUp):
    """Raises an exception in its sixth run."""

    def __init__(self, contract: Contract, error: BaseException, at: int = 6) -> None:
        super().__init__(contract)
        self.error, self.at = error, at

    def play(self, case: Case) -> Trace:
        if len(self.ran) + 1 == self.at:
            raise self.error
        return super().play(case)


def test_an_interrupted_search_returns_what_was_judged(contract: Contract) -> None:
    found = Search(contract, Interrupted(contract, KeyboardInterrupt()), Plan(100)).run("a client", "m")
    assert (found.runs, found.interrupted, found.errors, found.status()) == (5, True, (), 130)
    assert any(one.observed for one in found.verdicts)
    assert {one.why for one in found.verdicts if one.verdict == "not-observed" and one.rule.channel == "wire"} == {
        "the suite was stopped before a run showed it: run the suite to its end"
    }


def test_an_unexpected_error_of_a_runner_ends_the_search_with_what_was_judged(contract: Contract) -> None:
    found = Search(contract, Interrupted(contract, RuntimeError("boom")), Plan(100)).run("a client", "m")
    assert (found.runs, found.interrupted, found.status()) == (5, False, 3)
    (error,) = found.errors
    assert str(error).endswith("RuntimeError: boom")
    assert "Traceback" in error.traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom")])
def test_before_the_first_run_there_is_nothing_to_return(contract: Contract, error: BaseException) -> None:
    with pytest.raises(type(error)):
        Search(contract, Interrupted(contract, error, at=1), Plan(100)).run("a client", "m")


def test_a_rule_that_fails_is_reported_and_the_others_are_judged(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(rule: Rule, annotated: AnnotatedTrace) -> Judgement:
        if rule.id == "SEC-01":
            raise KeyError("stage")
        return check(rule, annotated)

    monkeypatch.setattr("hobbyhorse.conformance.fallback.check", failing)
    found = Search(contract, MadeUp(contract), Plan(60)).run("a client", "m")
    assert found.runs >= 60
    assert [error.doing for error in found.errors] == ["judging SEC-01 with a happy server"]
    verdicts = {one.rule.id: one for one in found.verdicts}
    assert verdicts["SUB-01"].verdict == "broken"
    assert (verdicts["SEC-01"].verdict, verdicts["SEC-01"].why) == ("not-observed", "internal error: KeyError: 'stage'")
    assert found.status() == 3


def test_a_client_whose_request_is_refused_gets_a_finding_and_the_reason(contract: Contract) -> None:
    class Wrong(MadeUp):
        def play(self, case: Case) -> Trace:
            self.ran.append(case)
            told = Teller(self.contract, order_for(self.contract, self.contract.models[0]))
            told.submit(None, status=400, answer=b"{}", made=None, body=b"[]")
            return replace(told.end("failed", message="HTTP 400").trace(), model=self.contract.models[0].id)

    client = Wrong(contract)
    found = Search(contract, client, Plan(60)).run("a client", "m")
    assert "SCH-01" in {one.rule.id for one in found.broken}
    assert found.unfit is not None
    assert "HTTP 400" in found.unfit
    assert (found.status(), len(client.ran)) == (1, 1)


def test_a_client_that_remembers_its_order_is_judged_by_two_equal_orders(contract: Contract) -> None:
    class Remembering(MadeUp):
        def play(self, case: Case) -> Trace:
            self.ran.append(case)
            told = Teller(self.contract, {"n": 1})
            if case.kind == EQUAL:
                role, situation = ending(self.contract)
                told.submit().wait(5).call(role, situation).media().end("success", size=1000)
                told.wait(1).again({"n": 1})
            elif case.kind == TWICE:
                told.submit(key="key-1").end("success", size=1000)
                told.wait(1).again({"n": 2}).submit(key="key-2", job="job-2")
            told.end("success", size=1000)
            return replace(told.trace(), scenario=case.scenario, drill=case.kind)

    client = Remembering(contract)
    plan = Plan(60, rules=("ORD-06",), kinds=("once", TWICE, EQUAL))
    result = Search(contract, client, plan, fresh=lambda cases: [client.play(case) for case in cases]).run("c", "m")
    assert "ORD-06" in {one.rule.id for one in result.broken}
    assert client.ran[-1].kind == EQUAL


@pytest.mark.parametrize("broken", [True, False])
def test_a_client_that_runs_well_only_once_is_judged_by_two_runs_in_a_fresh_process(
    contract: Contract, broken: bool
) -> None:
    class OnceOnly(MadeUp):
        def play(self, case: Case) -> Trace:
            self.ran.append(case)
            told = Teller(self.contract, {"n": 1})
            if case.kind == TWICE:
                role, situation = ending(self.contract)
                told.submit().wait(5).call(role, situation).media().end("success", size=1000)
                told.wait(1).again({"n": 2})
                if not broken:
                    told.submit(None, status=500, job=None, key="key-2")
            told.end("failed", message="Event loop is closed")
            return replace(told.trace(), scenario=case.scenario, drill=case.kind)

    client = OnceOnly(contract)
    plan = Plan(60, kinds=("once", TWICE))
    found = Search(contract, client, plan, fresh=lambda cases: [client.play(case) for case in cases])
    if not broken:
        with pytest.raises(CannotRun, match="submitted no job"):
            found.run("a client", "m")
        return
    result = found.run("a client", "m")
    assert "END-02" in {one.rule.id for one in result.broken}
    assert result.unfit is not None
    assert (result.status(), [case.kind for case in client.ran]) == (1, ["once", TWICE])
    with pytest.raises(CannotRun):
        Search(contract, OnceOnly(contract), plan).run("a client", "m")


def test_a_timing_finding_is_confirmed_only_where_it_would_be_reported(contract: Contract) -> None:
    class Hasty(MadeUp):
        def play(self, case: Case) -> Trace:
            self.ran.append(case)
            running = next(stage.name for stage in self.contract.graph if not stage.terminal)
            told = Teller(self.contract, {"n": 1}).submit().wait(5)
            for _ in range(3):
                told.status(running).wait(0.01)
            told.wait(5).call(*ending(self.contract)).media().end("success", size=1000)
            return replace(told.trace(), scenario=case.scenario, drill=case.kind, point=case.point, jobs=None)

    client = Hasty(contract)
    found = search(contract, client, 60, rules=("POL-07",))
    (tally,) = found.tallies
    assert tally.broken > 10
    assert len(client.ran) == tally.broken + TIMING_REPEATS - 1


PLANNED_PHASES = {"ways to run", "orders", "last polls", "single faults", "variations"}
# More than any provider has planned cases, so that some runs are left for random ones.
AMPLE = 800
# Planned cases that may be simpler forms of others.
FEW = 2


class Noting(Search):
    """A search that keeps the planned cases that it ran."""

    planned: list[Case]

    def _run_and_judge(self, cases: list[Case]) -> list[Trace]:
        traces = super()._run_and_judge(cases)
        if self.phase in PLANNED_PHASES:
            self.planned += cases[: len(traces)]
        return traces


def noted(contract: Contract, runs: int, shard: Shard | None = None, careless: bool = True) -> Noting:
    # The rules that the careless client breaks: judging all of them takes ten times as long.
    found = Noting(contract, MadeUp(contract, careless), Plan(runs, 7, ("SUB-01", "SEC-01"), shard=shard))
    found.planned = []
    found.result = found.run("a client", contract.models[0].id)  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module", params=CONTRACTS, ids=lambda contract: contract.key)
def split(request: pytest.FixtureRequest) -> tuple[Noting, list[Noting]]:
    """One search, and the same search in four shards."""
    return noted(request.param, AMPLE), [noted(request.param, AMPLE, Shard(number, 4)) for number in (1, 2, 3, 4)]


def test_the_planned_cases_of_the_shards_are_disjoint_and_together_those_of_one_search(
    split: tuple[Noting, list[Noting]],
) -> None:
    whole, parts = split
    keys = [case.key for part in parts for case in part.planned]
    planned = {case.key for case in whole.planned}
    # A case that has run as a simpler form of an earlier one does not run again as a planned one.
    assert set(keys) - planned <= whole.seen.keys()
    assert planned - set(keys) <= {key for part in parts for key in part.seen}
    assert len(set(keys) ^ planned) <= FEW
    assert len(set(keys)) == len(keys) > 400


def test_the_shards_together_find_what_the_planned_cases_show(split: tuple[Noting, list[Noting]]) -> None:
    whole, parts = split
    shown = {name.partition("/")[0] for case in whole.planned for name in whole.seen[case.key]}
    assert shown
    assert shown <= {rule for part in parts for rule in part.broken}


def test_each_shard_has_random_cases_of_its_own(split: tuple[Noting, list[Noting]]) -> None:
    whole, parts = split
    assert [part.plan.random_seed for part in (whole, *parts)] == [7, 8, 9, 10, 11]
    assert all(part.runs > len(part.planned) + 2 for part in parts)
    clients = [part.run_cases for part in parts]
    drawn = [{case.key for case in client.ran} - set(part.seen) for client, part in zip(clients, parts, strict=True)]  # type: ignore[attr-defined]
    assert not any(drawn)


def test_a_shard_reports_only_the_faults_that_are_its_own(split: tuple[Noting, list[Noting]]) -> None:
    whole, parts = split
    of_whole, *of_parts = (part.result.coverage for part in (whole, *parts))  # type: ignore[attr-defined]
    assert {name for one in of_parts for name in one.reached} == set(of_whole.reached)
    assert all(not one.untried and one.total < of_whole.total for one in of_parts)


@pytest.mark.parametrize("runs", [30, 301])
def test_the_runs_of_the_shards_of_a_short_search_are_those_of_one_search(contract: Contract, runs: int) -> None:
    parts = [noted(contract, runs, Shard(number, 4), careless=False) for number in (1, 2, 3, 4)]
    counts = [part.runs for part in parts]
    assert max(counts) - min(counts) <= max(1, min(counts) / 20)
    # Each shard also runs the happy server and the job that never ends.
    assert sum(len(part.planned) for part in parts) == runs - 2
    whole = noted(contract, runs, careless=False)
    assert {case.key for case in whole.planned} <= {case.key for part in parts for case in part.planned}


def test_confirmations_do_not_displace_the_planned_cases_of_a_shard(contract: Contract) -> None:
    class Hurried(MadeUp):
        """Polls too often under every fault of a request."""

        def play(self, case: Case) -> Trace:
            self.ran.append(case)
            running = next(stage.name for stage in self.contract.graph if not stage.terminal)
            told = Teller(self.contract, {"n": 1}).submit().wait(5)
            for _ in range(3):
                told.status(running).wait(0.01 if "moves" in case.scenario else 5)
            told.wait(5).call(*ending(self.contract)).media().end("success", size=1000)
            return replace(told.trace(), scenario=case.scenario, drill=case.kind, point=case.point, jobs=None)

    found = Noting(contract, Hurried(contract), Plan(60, rules=("POL-07",), shard=Shard(2, 2)))
    found.planned = []
    found.run("a client", "m")
    assert found.broken == ("POL-07",)
    assert len(found.planned) == (60 - 2) / 2


def named(*ids: str) -> list[Rule]:
    return [rule for rule in all_rules() if rule.id in ids]


@pytest.mark.parametrize(
    ("broken", "excused"),
    [
        (("RTY-04", "VAR-19"), {"RTY-04"}),
        (("SUB-01", "SEC-02", "VAR-19"), set()),
        (("RTY-04", "VAR-13", "VAR-19"), set()),
        (("RTY-04",), set()),
        (("VAR-19",), set()),
    ],
)
def test_what_a_form_causes_that_a_client_need_not_know_is_told_by_the_rule_about_the_form(
    broken: tuple[str, ...], excused: set[str]
) -> None:
    assert excused_rules(named(*broken)) == excused


class Called(MadeUp):
    """Gets a callback in each run."""

    def play(self, case: Case) -> Trace:
        found, told = super().play(case), Teller(self.contract).submit()
        callbacks = self.contract.callbacks
        assert callbacks is not None
        told.callback(next(iter(callbacks.situations)))
        return replace(found, deliveries=tuple(told.deliveries))


@contracts_that(lambda contract: contract.callbacks is not None)
def test_a_client_that_gets_callbacks_does_not_run_with_a_clock_that_is_behind(contract: Contract) -> None:
    for client, expected in ((MadeUp(contract, careless=False), True), (Called(contract, careless=False), False)):
        search(contract, client, 20, kinds=(ONCE, AHEAD, BEHIND))
        kinds = {case.kind for case in client.ran}
        assert (BEHIND in kinds, AHEAD in kinds) == (expected, True)


class Literal(MadeUp):
    """A client that gives its job up at a Retry-After that it cannot read."""

    def play(self, case: Case) -> Trace:
        if "retry_after_odd" not in json.dumps(case.scenario.get("moves", {}).get("status", [])):
            return super().play(case)
        told = Teller(self.contract, {"n": 1}).submit().wait(1)
        told.status(None, status=429, answer_headers=(("retry-after", "1.5"),), move="rate_limited")
        told.wait(1).end("failed")
        return replace(told.trace(), scenario=case.scenario, drill=case.kind, point=case.point)


@pytest.mark.parametrize("rules", [frozenset[str](), frozenset({"RTY-04"})])
def test_a_client_that_cannot_read_an_odd_form_is_not_accused_by_the_rule_about_what_follows(
    contract: Contract, rules: frozenset[str]
) -> None:
    most = len(singles(contract, ROLES)) + len(varied(contract, ROLES)) + BEYOND
    made = search(contract, Literal(contract, careless=False), most, rules=rules)
    assert "RTY-04" not in made.broken
    assert ("VAR-19" in made.broken) is (not rules)
