"""The shards of a search: disjoint, complete, and of equal size."""

from __future__ import annotations

import pytest

from hobbyhorse.conformance.client.cases import HAPPY, KILLED, Case
from hobbyhorse.conformance.client.shard import LAST_POLLS, PhaseCases, Shard, read_shard


def case(number: int) -> Case:
    return Case({"number": number})


def numbers(cases: list[Case]) -> list[int]:
    return [one.scenario["number"] for one in cases]


PHASES: list[PhaseCases] = [
    ("orders", [case(number) for number in range(5)]),
    (LAST_POLLS, [case(100), case(101)]),
    ("faults", [case(2), HAPPY, *(case(number) for number in range(5, 20))]),  # the first two are repeated
]
EACH = [Shard(number, 4) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("most", [0, 1, 9, 22, 50])
def test_the_shards_split_the_cases_that_one_search_runs(most: int) -> None:
    whole = Shard(1, 1).part(PHASES, {HAPPY.key}, most)
    parts = [one.part(PHASES, {HAPPY.key}, most) for one in EACH]
    split = [number for part in parts for number in numbers(part.cases)]
    assert sorted(split) == sorted(set(split)) == sorted(numbers(whole.cases))
    assert len(split) == min(most, 22) == whole.planned == parts[0].planned
    sizes = [len(part.cases) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    left = [number for part in parts for number in numbers(list(part.untried))]
    assert sorted([*split, *left]) == [*range(20), 100, 101]


def test_a_part_keeps_the_order_and_the_names_of_the_phases() -> None:
    part = Shard(1, 2).part(PHASES, {HAPPY.key}, 50)
    assert [(name, numbers(list(cases))) for name, cases in part.phases] == [
        ("orders", [0, 2, 4]),
        (LAST_POLLS, [100]),
        ("faults", [6, 8, 10, 12, 14, 16, 18]),
    ]


def test_the_number_of_the_clients_requests_does_not_move_the_other_cases_to_another_shard() -> None:
    killed = [Case({"number": number}, KILLED, number) for number in (200, 201, 202)]
    some: list[PhaseCases] = [("ways to run", killed[:1]), PHASES[0], (LAST_POLLS, [case(100)]), PHASES[2]]
    more: list[PhaseCases] = [("ways to run", killed), *PHASES]
    for shard in EACH:
        usual, other = (numbers(shard.part(phases, {HAPPY.key}, 50).cases) for phases in (some, more))
        assert [one for one in usual if one < 100] == [one for one in other if one < 100]


@pytest.mark.parametrize("runs", [0, 1, 3, 4, 150, 1_001])
def test_the_shares_of_the_runs_add_up_and_differ_by_at_most_one(runs: int) -> None:
    shares = [shard.share(runs) for shard in EACH]
    assert sum(shares) == runs
    assert max(shares) - min(shares) <= 1


def test_a_shard_is_read_as_it_is_written() -> None:
    assert read_shard("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"


@pytest.mark.parametrize(
    "text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "1.5/4", "a/b", "1 / 4", "٣/٤", "1/99999"]
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: K/N with K from 1 to N, such as 1/4"):
        read_shard(text)
