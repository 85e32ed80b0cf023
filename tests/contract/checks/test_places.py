"""Checks of the places of values in requests, responses and items."""

from __future__ import annotations

from pathlib import Path

import pytest

from hobbyhorse.contract.checks.places import declares
from hobbyhorse.contract.folder import load
from hobbyhorse.contract.forms.expressions import Pointer
from tests import specimen
from tests.contract.broken_folders import Broken, assert_found, broken_in


@broken_in("places", "lists")
def test_each_mistake_is_found_at_its_place_and_nothing_else_is(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)


@pytest.mark.parametrize(
    ("pointer", "is_declared"),
    [
        ((), True),
        (("input", "image"), True),
        (("input", "actors", "0"), True),
        (("metadata", "any"), True),
        (("metadata", "any", "inside"), False),
        (("inputs",), False),
        (("model", "0"), False),
    ],
)
def test_a_schema_declares_its_properties_items_and_alternatives(pointer: Pointer, is_declared: bool) -> None:
    contract = load(specimen.FOLDER)
    schema = {"$ref": contract.operations["submit"].body_schema}
    assert declares(contract.schemas, schema, "", pointer) is is_declared
