"""Cases: their words, their JSON, and which of two is simpler."""

from __future__ import annotations

import pytest

from hobbyhorse.conformance.client.cases import CASE_KINDS, HAPPY, KILLED, LONG, ONCE, SHOWN_CHARACTERS, Case


def test_a_case_in_words_names_its_kind_and_faults() -> None:
    moves = {"submit": [{"move": "timeout", "accepted": True}], "media": [{"move": "truncated", "times": 2}]}
    assert str(Case({"moves": moves, "timeline": {"move": "stuck"}}, LONG)) == (
        "long; submit: timeout (accepted=True); media: truncated (times=2); timeline: stuck"
    )
    assert str(HAPPY) == "a happy server"
    assert Case({}, ONCE).size < Case({}, LONG).size < Case({"timeline": {"move": "stuck"}}).size


def test_a_killed_case_names_the_request() -> None:
    assert str(Case({"moves": {"submit": [{"move": "timeout"}]}}, KILLED, 2)) == "killed at request 2; submit: timeout"


def test_faults_of_one_role_are_named_in_their_order() -> None:
    case = Case({"moves": {"status": [{"move": "latency"}, {"move": "timeout"}]}})
    assert str(case) == "status: latency, then timeout"


def test_a_case_as_json_has_its_point_only_if_the_client_is_killed() -> None:
    assert HAPPY.to_json() == {"drill": "once", "scenario": {}}
    assert Case({}, KILLED, 3).to_json() == {"drill": "killed", "scenario": {}, "point": 3}


def test_an_order_is_part_of_the_case_and_the_plain_one_is_the_simplest() -> None:
    ordered = Case(order={"prompt": "駿馬"})
    assert ordered.to_json() == {"drill": "once", "scenario": {}, "order": {"prompt": "駿馬"}}
    assert str(ordered) == 'order: {"prompt": "駿馬"}'
    assert len({HAPPY.key, ordered.key, Case(order={"prompt": "馬"}).key}) == 3
    assert HAPPY.size < Case(order={"prompt": "a"}).size < ordered.size < Case({"timeline": {"move": "fail"}}).size


def test_a_long_order_is_shortened_in_words() -> None:
    assert len(str(Case(order={"prompt": "a" * 5_000}))) == len("order: ") + SHOWN_CHARACTERS + len("...")


def test_the_timeline_counts_as_one_fault() -> None:
    moves = {"submit": [{"move": "timeout"}], "media": [{"move": "expired"}, {"move": "timeout"}]}
    assert HAPPY.moves == 0
    assert Case({"timeline": {"move": "fail"}}).moves == 1
    assert Case({"moves": moves, "timeline": {"move": "fail"}}).moves == 4


@pytest.mark.parametrize(
    ("simpler", "other"),
    [
        (HAPPY, Case({"timeline": {"move": "fail"}})),
        (Case({"timeline": {"move": "fail"}}, LONG), Case({"moves": {"a": [{"move": "b"}, {"move": "c"}]}})),
        (Case({"timeline": {"move": "fail"}}), Case({"timeline": {"move": "fail", "seconds": 5}})),
    ],
)
def test_fewer_faults_and_fewer_options_are_simpler(simpler: Case, other: Case) -> None:
    assert simpler.size < other.size


def test_kinds_are_ordered_from_the_simplest() -> None:
    assert sorted(CASE_KINDS, key=lambda kind: Case({}, kind).size) == list(CASE_KINDS)


def test_the_key_identifies_a_case_whatever_the_order_of_its_options() -> None:
    assert Case({"a": 1, "b": 2}).key == Case({"b": 2, "a": 1}).key
    assert len({HAPPY.key, Case({}, LONG).key, Case({}, KILLED, 1).key, Case({}, KILLED, 2).key}) == 4
