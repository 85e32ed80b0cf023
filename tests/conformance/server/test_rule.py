"""Server rules: the verdict on a trace, and the assumption that turns a breach into a lesson."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.server.rule import (
    FAMILIES,
    LESSON,
    Breach,
    ServerRule,
    ServerVerdict,
    assumption_for,
    judge_server,
)
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.contract.values import Assumption, Contract
from tests.judging import assuming, knowing, teller


def verdict(contract: Contract, breaches: list[Breach] | None, *, applies: bool = True) -> ServerVerdict:
    rule = ServerRule(
        "SHA-90", "name", "MUST", "S2", "It holds.", "Why.", lambda annotated: breaches, lambda contract: applies
    )
    (found,) = judge_server(contract, teller(contract).trace(), [rule])
    return found


def test_each_outcome_of_a_check_has_its_verdict(contract: Contract) -> None:
    contract = knowing(contract)
    assert verdict(contract, []).verdict == PASSED
    assert verdict(contract, None).verdict == NOT_OBSERVED
    assert verdict(contract, [Breach("x", ("openapi.json#/paths",))]).verdict == BROKEN
    assert verdict(contract, [Breach("x")], applies=False).verdict == NOT_APPLICABLE


def test_a_breach_of_an_assumption_is_a_lesson_with_the_assumptions_place_and_reason(contract: Contract) -> None:
    patch = ({"file": "lifecycle.json", "op": "replace", "path": "/job_id/form", "value": "uuid4"},)
    breach = Breach("the form differs", ("lifecycle.json#/job_id/form/x",), "uuid4", patch)
    found = verdict(assuming(contract, "lifecycle.json#/job_id/form"), [breach])
    assert (found.verdict, found.breaches) == (LESSON, ())
    (lesson,) = found.lessons
    assert (lesson.rule, lesson.places, lesson.why) == ("SHA-90", ("lifecycle.json#/job_id/form",), "nobody says so")
    assert (lesson.message, lesson.seen, lesson.patch) == ("the form differs", "uuid4", patch)


def test_one_documented_breach_among_lessons_breaks_the_rule(contract: Contract) -> None:
    breaches = [Breach("assumed", ("lifecycle.json#/a",)), Breach("documented", ("lifecycle.json#/b",))]
    found = verdict(assuming(contract, "lifecycle.json#/a"), breaches)
    assert found.verdict == BROKEN
    assert [one.message for one in found.breaches] == ["documented"]
    assert [one.message for one in found.lessons] == ["assumed"]


@pytest.mark.parametrize(
    ("place", "covered"),
    [
        ("lifecycle.json#/a/status", True),
        ("lifecycle.json#/a/status/deeper", True),
        ("lifecycle.json#/a/status2", False),
        ("lifecycle.json#/a", False),
        ("openapi.json#/a/status", False),
    ],
)
def test_an_assumption_covers_its_place_and_everything_below(contract: Contract, place: str, covered: bool) -> None:
    assumption = Assumption(("lifecycle.json#/a/status",), "no document")
    found = assumption_for(replace(contract, assumptions=(assumption,)), ["elsewhere#/x", place])
    assert found == (assumption if covered else None)


def test_each_rule_belongs_to_a_family_and_has_a_sentence_and_a_reason() -> None:
    for rule in server_rules():
        assert rule.family in FAMILIES.values()
        assert rule.statement.endswith(".")
        assert rule.why
        assert rule.level in ("MUST", "SHOULD")
    assert len({rule.id for rule in server_rules()}) == len(server_rules())
