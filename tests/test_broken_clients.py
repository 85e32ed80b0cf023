"""Each broken client is caught by the case that caught it in the last hunt; its working client is not accused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.variations import usual_case
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import Breach
from hobbyhorse.traces.pair import annotated
from tests.broken_clients.hunt import contracts, hunt, running
from tests.broken_clients.mutants import MUTANTS, NOT_SHOWN, Mutant
from tests.broken_clients.page import PAGE, case_from, caught, page

RULES = {rule.id: rule for rule in rules()}
# The rules that the first run of a process cannot break.
OF_LATER_RUNS = frozenset({"SEC-07"})
each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


def broken(mutant: Mutant, source: str) -> tuple[Breach, ...]:
    """Return the breaches of a mutant's rule by a source, in the case that caught the mutant."""
    case = case_from(caught()[mutant.name]["drill"])
    # A run under variations is compared with the same case without them.
    usual = usual_case(case)
    with running(mutant, source) as run_cases:
        if mutant.rule in OF_LATER_RUNS:
            list(run_cases([Case()]))
        *before, trace = run_cases([case] if usual is None else [usual, case])
    if before:
        trace = replace(trace, plain=before[0].runs[-1].outcome)
    read = [contracts()[key] for key in (mutant.provider, mutant.second) if key is not None]
    return tuple(one for half in annotated(read, trace) for one in check(RULES[mutant.rule], half).breaches)


@each_mutant
def test_a_broken_client_is_caught(mutant: Mutant) -> None:
    assert broken(mutant, mutant.source)


@each_mutant
def test_the_case_that_catches_a_broken_client_does_not_accuse_its_working_client(mutant: Mutant) -> None:
    assert not broken(mutant, mutant.working)


@pytest.mark.parametrize("name", ["SUB-06-a", "SEC-01-a"])
def test_a_hunt_repeats_the_stored_finding_and_ends_with_it(name: str) -> None:
    mutant = next(one for one in MUTANTS if one.name == name)
    found = hunt(mutant, runs=20, rules=[mutant.rule])
    assert found.caught
    assert found.runs == caught()[name]["runs"]
    assert found.case == case_from(caught()[name]["drill"])


def test_every_rule_has_a_broken_client_or_a_reason() -> None:
    shown = {mutant.rule for mutant in MUTANTS}
    assert shown | set(NOT_SHOWN) == set(RULES)
    assert not shown & set(NOT_SHOWN)


def test_every_broken_client_was_caught() -> None:
    found = caught()
    assert [mutant.name for mutant in MUTANTS if not found.get(mutant.name, {}).get("caught")] == []


def test_the_page_of_the_rules_is_up_to_date() -> None:
    assert PAGE.read_text() == page(caught()), "regenerate it with `python -m tests.broken_clients --page`"


def test_the_page_has_one_row_for_each_rule() -> None:
    table = PAGE.read_text().partition("## ")[0]
    assert [line.split()[1] for line in table.splitlines() if line.startswith("| ")][1:] == list(RULES)
