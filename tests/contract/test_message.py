"""Templates: an example's JSON with live values in its bound places."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer
from hobbyhorse.contract.message import Bound, Raw, Template
from hobbyhorse.contract.values import Contract

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a%\x00"é', max_size=3), inner, max_size=3),
    max_leaves=8,
)


def bound(name: str, pointer: str, form: str | None = None) -> Bound:
    return name, form, parse_pointer(pointer)


def written(example: Any, places: list[Bound], values: Mapping[str, Any]) -> Any:
    return orjson.loads(Template(example, places).write(lambda name: values.get(name, MISSING)))


def test_a_live_value_replaces_the_example_and_a_missing_one_leaves_it() -> None:
    example = {"id": "a", "cost": "0.70", "note": "kept"}
    places = [bound("job", "/id"), bound("cost", "/cost", "decimal")]
    assert written(example, places, {"job": "b"}) == {"id": "b", "cost": "0.70", "note": "kept"}
    assert written(example, places, {"cost": Decimal("1.50")}) == {"id": "a", "cost": "1.50", "note": "kept"}


def test_a_place_that_the_example_lacks_is_not_added() -> None:
    template = Template({"id": "a"}, [bound("job", "/id"), bound("cost", "/cost")])
    assert [slot.name for slot in template.slots] == ["job"]
    assert orjson.loads(template.write({"job": "b", "cost": 3}.__getitem__)) == {"id": "b"}


@pytest.mark.parametrize("name", ["stage", "refusal_code", "outcome", "event"])
def test_a_value_that_identifies_the_situation_stays_that_of_the_example(name: str) -> None:
    assert written({"state": "done"}, [bound(name, "/state")], {name: "running"}) == {"state": "done"}


def test_a_null_is_written_without_the_format() -> None:
    assert written({"at": 5}, [bound("finished_at", "/at", "unix")], {"finished_at": None}) == {"at": None}


def test_the_example_decides_how_a_date_is_spelt() -> None:
    example = {"z": "2026-04-28T10:00:00.000Z", "offset": "2026-04-28T10:00:00.000+00:00"}
    places = [bound("z", "/z", "rfc3339"), bound("offset", "/offset", "rfc3339")]
    found = written(example, places, {"z": 0.0, "offset": 0.0})
    assert found == {"z": "1970-01-01T00:00:00.000Z", "offset": "1970-01-01T00:00:00.000+00:00"}


def test_json_that_is_already_serialized_is_copied() -> None:
    template = Template({"items": []}, [bound("items", "/items")])
    assert template.write(lambda name: Raw(b'[ {"a":1}]')) == b'{"items":[ {"a":1}]}'


def test_slots_are_in_the_order_of_the_json_not_of_the_bindings() -> None:
    template = Template({"a": 1, "b": 2}, [bound("second", "/b"), bound("first", "/a")])
    assert [slot.name for slot in template.slots] == ["first", "second"]
    assert template.write({"first": 3, "second": 4}.__getitem__) == b'{"a":3,"b":4}'


def test_a_value_that_is_bound_in_two_places_is_written_to_both() -> None:
    assert written({"a": 1, "b": [2]}, [bound("job", "/a"), bound("job", "/b/0")], {"job": 7}) == {"a": 7, "b": [7]}


def test_of_two_bindings_of_one_place_the_later_one_is_written() -> None:
    template = Template({"a": {"b": 1}}, [bound("inner", "/a/b"), bound("outer", "/a")])
    assert [slot.name for slot in template.slots] == ["outer"]
    assert template.write({"inner": 2, "outer": 3}.__getitem__) == b'{"a":3}'


def test_the_whole_body_can_be_bound() -> None:
    assert written([1, 2], [bound("items", "")], {"items": [3]}) == [3]


@given(VALUES, VALUES)
def test_percent_signs_and_markers_in_examples_and_values_are_only_text(around: Any, value: Any) -> None:
    example = {"100%": around, "%b": "%s %%", "here": "\x01"}
    found = written(example, [bound("here", "/here")], {"here": value})
    assert found == {"100%": around, "%b": "%s %%", "here": value}


def test_a_situation_without_live_values_is_its_example(contract: Contract) -> None:
    for operation in contract.operations.values():
        for situation in operation.situations.values():
            found = orjson.loads(situation.template.write(lambda name: MISSING))
            assert found == contract.schemas.at(situation.example_at)


@pytest.mark.parametrize(
    ("example", "written_as"),
    [
        ("/size", "/seconds/0"),
        ("#/size", "#/seconds/0"),
        ("size", "seconds.0"),
        ("body.size", "body.seconds.0"),
        ("/body/size", "/body/seconds/0"),
        (["body", "size"], ["body", "seconds", 0]),
        (["size"], ["seconds", 0]),
        ([], ["body", "seconds", 0]),
        (None, None),
    ],
)
def test_a_location_has_the_form_of_the_example(example: Any, written_as: Any) -> None:
    places = [bound("refusal_location", "/at")]
    assert written({"at": example}, places, {"refusal_location": ["body", "seconds", 0]}) == {"at": written_as}
