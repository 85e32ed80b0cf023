"""Faults of one field: each changes its field and nothing else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hobbyhorse.contract.forms.expressions import MISSING, resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.faults.field import UNKNOWN_WORD
from hobbyhorse.scenarios.fields import Field, has_field, places
from tests.deciding import decided, under
from tests.known_faults import OPERATION_FAULTS
from tests.scenarios.json_values import leaves

EARLIER = Sent(200, (), b"{}", "queued")


def is_new(fault: str, old: Any, new: Any) -> bool:
    """Whether a value is the one that a fault makes of another one."""
    if fault == "null_field":
        return new is None
    if fault == "empty_field":
        return bool(new == "")
    if fault == "wrong_type":
        return type(new) is not type(old)
    return new is MISSING or new != old  # the next item of a list moves up


@pytest.mark.parametrize("name", ["missing_field", "null_field", "empty_field", "wrong_type"])
def test_a_field_fault_changes_its_field_and_nothing_else(name: str, contract: Contract) -> None:
    for operation in contract.operations.values():
        for situation in operation.situations.values():
            body = situation.template.write(lambda name: MISSING)
            for value in operation.bindings:
                before = orjson.loads(body)
                after = orjson.loads(under(name, decided(body, operation), value=value).body)
                pointers = places(Field(value), {}, operation)
                there = [pointer for pointer in pointers if resolve(before, pointer) is not MISSING]
                assert has_field(Field(value), {}, operation, body) == bool(there)
                assert all(is_new(name, resolve(before, pointer), resolve(after, pointer)) for pointer in there)
                others = {place for place in leaves(before) if not any(place[: len(p)] == p for p in there)}
                if name != "missing_field":
                    assert all(resolve(after, place) == resolve(before, place) for place in others)
                if not there:
                    assert after == before


def test_an_unknown_status_is_the_word_of_the_option_or_the_usual_one(contract: Contract) -> None:
    status = contract.operations["status"]
    shown = next(found for found in status.situations.values() if found.status < 300)
    body = shown.template.write(lambda name: MISSING)
    for options, word in (({}, UNKNOWN_WORD), ({"word": ""}, "")):
        after = orjson.loads(under("unknown_status", decided(body, status), **options).body)
        found = [resolve(after, pointer) for pointer in places(Field("stage"), {}, status)]
        assert word in found


def test_a_job_regresses_only_if_it_has_left_its_first_stage() -> None:
    fault = OPERATION_FAULTS["regress"]
    assert fault.applies(fault, decided(b"[]", earlier=EARLIER), {})
    assert not fault.applies(fault, decided(b"[]"), {})
    assert under("regress", decided(b"[]", earlier=EARLIER)) == EARLIER
