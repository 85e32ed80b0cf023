"""Whether a finding recurs in a fresh process, on simulated clients that keep state between their runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from hobbyhorse.conformance.client.cases import Case, case_of
from hobbyhorse.conformance.client.recurrence import BUDGET, PROCESS_COST, Candidate, Recurrence
from hobbyhorse.conformance.judge import Finding
from hobbyhorse.conformance.rule import Breach
from hobbyhorse.traces.trace import Trace

RULE = "SUB-01"


def case(name: str, faults: int = 1) -> Case:
    return Case({"moves": {"status": [{"move": name}] * faults}})


HARMLESS = [case(f"harmless-{number}") for number in range(20)]
POISON, OTHER = case("poison"), case("other")


class Client:
    """Breaks the rule in the last case of a process if `breaks` says so, given the cases before it."""

    def __init__(self, breaks: Callable[[Sequence[Case], Case], bool]) -> None:
        self.breaks = breaks
        self.processes: list[list[Case]] = []

    def __call__(self, cases: Sequence[Case]) -> Iterator[Trace]:
        self.processes.append(list(cases))
        for number, one in enumerate(cases):
            broken = self.breaks(cases[:number], one)
            yield Trace("p", "broken" if broken else "kept", scenario=one.scenario, drill=one.kind)


def finding(one: Case) -> Finding:
    return Finding(RULE, (Breach("x"),), Trace("p", "broken", scenario=one.scenario), "poll")


def recurrence(client: Client, budget: int = BUDGET) -> Recurrence:
    def breach(of: Finding, trace: Trace) -> Finding | None:
        return finding(case_of(trace)) if trace.base == "broken" else None

    def simpler(one: Case) -> Iterator[Case]:
        moves = one.scenario["moves"]["status"]
        if len(moves) > 1:
            yield Case({"moves": {"status": moves[1:]}})

    return Recurrence(client, breach, simpler, budget)


def candidate(smallest: Case, first: Case | None = None, before: Sequence[Case] = ()) -> Candidate:
    return Candidate(smallest, finding(smallest), first or smallest, before)


def test_a_finding_of_a_client_without_state_is_replayed_once_and_stays() -> None:
    client = Client(lambda before, one: one == POISON)
    one = candidate(POISON, before=HARMLESS)
    assert recurrence(client).confirmed(one) is one.finding
    assert client.processes == [[POISON]]


def test_the_first_case_is_the_cause_if_it_breaks_the_rule_alone_and_is_shrunk_in_fresh_processes() -> None:
    cause = case("cause", faults=4)
    client = Client(lambda before, one: len(one.scenario["moves"]["status"]) >= 2 or cause in before)
    found = recurrence(client).confirmed(candidate(OTHER, first=cause, before=HARMLESS))
    assert case_of(found.trace) == case("cause", faults=2)
    assert (found.after, found.recurs) == ((), True)


@pytest.mark.parametrize("at", [0, 7, 19])
def test_a_finding_that_needs_an_earlier_run_names_only_this_run(at: int) -> None:
    before = [*HARMLESS[:at], POISON, *HARMLESS[at:]]
    found = recurrence(Client(lambda before, one: POISON in before)).confirmed(candidate(OTHER, before=before))
    assert (case_of(found.trace), found.after, found.recurs) == (OTHER, (POISON,), True)


def test_several_needed_runs_keep_their_order() -> None:
    needed = (HARMLESS[3], POISON, HARMLESS[12])
    before = [*HARMLESS[:9], POISON, *HARMLESS[9:]]
    client = Client(lambda before, one: [each for each in before if each in needed] == list(needed))
    assert recurrence(client).confirmed(candidate(OTHER, before=before)).after == needed


def test_the_runs_that_one_finding_needs_are_tried_first_for_the_next_one() -> None:
    client = Client(lambda before, one: POISON in before)
    confirming = recurrence(client)
    before = [POISON, *HARMLESS]
    confirming.confirmed(candidate(OTHER, before=before))
    client.processes.clear()
    third = case("third")
    found = confirming.confirmed(candidate(third, first=OTHER, before=before))
    assert (case_of(found.trace), found.after) == (third, (POISON,))
    assert client.processes == [[third], [OTHER], [POISON, third]]


def test_a_finding_that_nothing_reproduces_is_kept_and_marked() -> None:
    found = recurrence(Client(lambda before, one: False)).confirmed(candidate(OTHER, before=HARMLESS))
    assert (found.rule, found.after, found.recurs) == (RULE, (), False)


def test_each_replay_costs_its_runs_and_a_process() -> None:
    client = Client(lambda before, one: len(before) >= 4)
    confirming = recurrence(client, budget=1_000)
    confirming.confirmed(candidate(OTHER, before=HARMLESS * 4))
    assert len(client.processes) > 1
    assert confirming.budget == 1_000 - sum(len(cases) + PROCESS_COST for cases in client.processes)


def test_the_runs_are_bounded() -> None:
    client = Client(lambda before, one: False)
    confirming = recurrence(client, budget=300)
    for number in range(10):
        confirming.confirmed(candidate(case(f"c{number}"), before=HARMLESS * 50))
    ran = sum(map(len, client.processes))
    # Each finding is replayed alone, whatever the others cost.
    assert len(client.processes) >= 10
    assert ran + PROCESS_COST * len(client.processes) <= 300 + 10 * (1 + PROCESS_COST)


@pytest.mark.parametrize("needed", [1, 2, 5])
def test_shortening_the_preceding_runs_never_exceeds_the_budget(needed: int) -> None:
    before = [*HARMLESS[:9], *(case(f"needed-{number}") for number in range(needed)), *HARMLESS[9:]]
    for budget in range(60, 360, 7):
        client = Client(lambda before, one: sum("needed" in str(each.scenario) for each in before) >= needed)
        confirming = recurrence(client, budget=budget)
        confirming.confirmed(candidate(OTHER, before=before))
        assert confirming.budget >= 0, budget
        assert sum(len(cases) + PROCESS_COST for cases in client.processes) <= budget


def test_a_finding_without_earlier_runs_that_does_not_recur_is_replayed_alone_only() -> None:
    client = Client(lambda before, one: False)
    found = recurrence(client).confirmed(candidate(OTHER, first=POISON))
    assert (found.after, found.recurs) == ((), False)
    assert client.processes == [[OTHER], [POISON]]
