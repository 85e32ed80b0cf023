"""The record of a fault: complete options, and the conditions that it has by default."""

from __future__ import annotations

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.effects import Reset
from hobbyhorse.scenarios.fault import FAULT, OPERATION, Fault
from hobbyhorse.scenarios.fields import Field
from hobbyhorse.scenarios.options import KEEP, SECONDS, STAGE
from tests.deciding import decided

PLAIN = Fault(
    name="plain",
    stands=(OPERATION,),
    says="resets the connection",
    effect=lambda decided, options: Reset(),
    options=(KEEP, SECONDS, STAGE.usually("the last one")),
    rank=1,
)


def test_options_are_completed_with_the_defaults_of_the_missing_ones() -> None:
    assert PLAIN.complete({"seconds": 3}) == {"keep": 0.5, "seconds": 3}
    assert PLAIN.complete({"keep": 0}) == {"keep": 0}
    assert SECONDS.by_default(9).default == 9
    assert SECONDS.default is None
    assert PLAIN.options[-1].usual == "the last one"


def test_a_fault_has_its_options_and_no_other() -> None:
    assert PLAIN.has("keep")
    assert not PLAIN.has("status")


def test_a_fault_is_by_default_one_that_applies_and_fits_everywhere(contract: Contract) -> None:
    assert PLAIN.kind == FAULT
    assert PLAIN.applies(PLAIN, decided(b"{}"), {})
    assert list(PLAIN.misfits(PLAIN, contract, None, {})) == []
    assert PLAIN.invalid({"keep": 7}) is None


def test_a_fault_applies_only_to_a_response_with_the_field_that_it_needs(contract: Contract) -> None:
    needy = Fault(name="needy", stands=(OPERATION,), says="x", effect=PLAIN.effect, rank=1, needs=Field("stage"))
    status = contract.operations["status"]
    shown = next(found for found in status.situations.values() if found.status < 300)
    assert needy.applies(needy, decided(shown.template.write(lambda name: MISSING), status), {})
    assert not needy.applies(needy, decided(b"{}", status), {})


def test_by_default_the_end_of_a_job_meets_a_timeline_fault(contract: Contract) -> None:
    for stage in contract.graph:
        assert PLAIN.seen({}, stage, contract.graph) == stage.terminal
