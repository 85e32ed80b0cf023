"""`hobbyhorse rules`: all rules, a family, one rule, and JSON."""

from __future__ import annotations

import json

import pytest

from hobbyhorse.conformance.client.rules import rules
from tests.conftest import Run

SUB_01 = next(rule for rule in rules() if rule.id == "SUB-01")


def test_every_rule_is_one_line_for_grep(run: Run) -> None:
    done = run("rules")
    assert (done.status, done.err) == (0, "")
    expected = [f"{one.id} {one.name} ({one.level}, {one.severity}, {one.channel}): {one.says}" for one in rules()]
    assert done.out.splitlines() == expected


@pytest.mark.parametrize("word", ["SUB-01", "sub-01"])
def test_an_id_in_any_case_explains_one_rule(word: str, run: Run) -> None:
    done = run("rules", word)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"SUB-01 {SUB_01.name}"
    assert f"why       {SUB_01.because}" in done.out
    assert f"fix       {SUB_01.fix}" in done.out
    assert "harm      money" in done.out


def test_only_a_rule_about_timing_mentions_its_repetitions(run: Run) -> None:
    for timing in (False, True):
        rule = next(one for one in rules() if one.timing is timing)
        assert ("three runs out of three" in run("rules", rule.id).out) is timing


def test_a_family_is_listed_as_json(run: Run) -> None:
    found = json.loads(run("rules", "sub", "--json").out)
    assert [one["id"] for one in found] == [rule.id for rule in rules() if rule.family == "SUB"]
    assert (found[0]["why"], found[0]["fix"], found[0]["harm"]) == (SUB_01.because, SUB_01.fix, "money")


def test_an_unknown_rule_is_one_line_and_exit_status_2(run: Run) -> None:
    done = run("rules", "SUB-99")
    assert (done.status, done.out, done.err) == (
        2,
        "",
        "hobbyhorse: unknown rule 'SUB-99'; `hobbyhorse rules` lists all\n",
    )
