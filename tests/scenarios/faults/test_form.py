"""Variations of the form: the values stay the same."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given

from hobbyhorse.scenarios.fault import VARIATION
from hobbyhorse.scenarios.faults.form import EXTRA_FIELD
from tests.deciding import decided, under
from tests.known_faults import OPERATION_FAULTS
from tests.scenarios.json_values import OBJECTS


def without_extra(value: Any) -> Any:
    if isinstance(value, list):
        return [without_extra(item) for item in value]
    if isinstance(value, dict):
        return {name: without_extra(item) for name, item in value.items() if name != EXTRA_FIELD}
    return value


def orders(value: Any) -> list[list[str]]:
    if isinstance(value, list):
        return [order for item in value for order in orders(item)]
    if isinstance(value, dict):
        return [list(value), *(order for item in value.values() for order in orders(item))]
    return []


@given(OBJECTS)
def test_an_extra_field_is_added_to_every_object_and_nothing_else_changes(value: Any) -> None:
    found = orjson.loads(under("extra_field", decided(orjson.dumps(value))).body)
    assert without_extra(found) == value
    assert all(EXTRA_FIELD in order for order in orders(found))


@given(OBJECTS)
def test_reordered_fields_are_the_same_fields_in_reverse(value: Any) -> None:
    found = orjson.loads(under("reordered", decided(orjson.dumps(value))).body)
    assert found == value
    assert sorted(map(tuple, orders(found))) == sorted(tuple(reversed(order)) for order in orders(value))


def test_another_form_is_a_variation_and_not_a_fault() -> None:
    found = {name for name, fault in OPERATION_FAULTS.items() if fault.kind == VARIATION and not fault.form}
    assert found == {"extra_field", "reordered", "opaque_links"}
