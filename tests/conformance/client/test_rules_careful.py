"""No rule about deadlines, cancelling, restarts or results accuses a careful client, whatever the faults."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from hobbyhorse.conformance.client.rules import cancelling, deadlines, delivering, endings, persistence, results
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.careful import Careful
from tests.conftest import CONTRACTS, contracts_that
from tests.judging import checked, rules_of

RULES = rules_of(deadlines, cancelling, persistence, results, delivering, endings)
# The rules about several runs, and about another clock: the careful client runs once, on one clock.
SEVERAL_RUNS = {"CLK-01", "END-02", "RES-11", "RES-13"}
# The rule about responses that are held back: in this story, each failure comes at once.
HELD = {"TMO-04"}
# The rules about slow files and submissions, and about accidents: here files come at once, and no error has a name.
SLOW = {"TMO-05", "TMO-06", "END-03"}
every = contracts_that(lambda contract: True)


def accused(trace: AnnotatedTrace) -> dict[str, list[str]]:
    return {rule.id: found for rule in RULES if (found := checked(rule, trace))}


@every
@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=200)
def test_a_careful_client_is_not_accused(contract: Contract, seed: int, kills: bool) -> None:
    told = Careful(contract, Random(seed), kills).run()
    assert accused(told.story()) == {}
    told.runs = []
    assert accused(told.story()) == {}, "as recorded traffic, without runs"


def test_the_careful_client_meets_every_rule() -> None:
    met = set()
    for contract in CONTRACTS:
        for seed in range(200):
            trace = Careful(contract, Random(seed), seed % 2 == 1).run().story()
            met |= {rule.id for rule in RULES if checked(rule, trace) is not None}
    assert met == {rule.id for rule in RULES} - SEVERAL_RUNS - HELD - SLOW
