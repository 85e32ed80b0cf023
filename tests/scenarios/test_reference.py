"""The reference of scenarios: the schema file and the tables of the page are those that the faults yield."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import jsonschema
import pytest

from hobbyhorse.scenarios import reference
from hobbyhorse.scenarios.fault import FAULT, VARIATION, Option
from tests.known_faults import FAULTS, OPERATION_FAULTS
from tests.scenario_reference import PAGE, SCHEMA, derived


def test_the_schema_and_the_page_are_those_that_the_faults_yield() -> None:
    """`python -m tests.scenario_reference` writes both."""
    assert {path: path.read_text() for path in (SCHEMA, PAGE)} == derived()


def test_the_schema_is_one_and_has_every_option() -> None:
    schema = reference.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    properties = {name for part in ("move", "timeline") for name in schema["$defs"][part]["properties"]}
    assert properties == {option.name for fault in FAULTS for option in fault.options} | {"move", "times"}


def test_two_meanings_of_one_option_are_refused() -> None:
    other = Option("keep", "Another meaning.", {"type": "boolean"})
    fault = replace(OPERATION_FAULTS["reset_peer"], name="x", options=(other,))
    with pytest.raises(ValueError, match="the option 'keep' has two meanings"):
        reference.schema([*FAULTS, fault])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, "ä"]}, '{"a": [1, "ä"]}'),
        ({}, "{}"),
        ({"a": ["x" * 60, "y" * 60]}, '{\n  "a": [\n    "' + "x" * 60 + '",\n    "' + "y" * 60 + '"\n  ]\n}'),
    ],
)
def test_a_value_is_rendered_on_one_line_if_it_fits(value: object, text: str) -> None:
    assert reference.rendered(value) == text
    assert json.loads(text) == value


def test_no_line_of_the_schema_is_long_except_for_a_long_text() -> None:
    for line in reference.rendered(reference.schema()).splitlines():
        assert len(line) <= reference.LINE or '"description"' in line


def test_the_page_has_a_table_for_each_place_and_one_for_the_options() -> None:
    markers = re.findall(r"<!-- faults: (\w+) -->", PAGE.read_text())
    assert markers == [*reference.TABLES, reference.OPTIONS]


def test_a_page_keeps_everything_outside_its_tables() -> None:
    text = "before\n<!-- faults: media -->\nold\n<!-- end of faults -->\nafter\n"
    assert reference.page(text, []) == (
        "before\n<!-- faults: media -->\n| move | effect | options |\n|---|---|---|\n<!-- end of faults -->\nafter\n"
    )


def test_an_option_with_several_defaults_names_the_faults_of_each() -> None:
    (row,) = re.findall(r"^\| `seconds` .*$", reference.option_table(), re.M)
    assert "`latency`, `slow_body`, `idle_close`: 5; `timeout`: 3,600; `late`: 60" in row
    (row,) = re.findall(r"^\| `status` .*$", reference.option_table(), re.M)
    defaults = "`html_page`, `empty_body`: 200; `head_refused`: 405"
    assert row == f"| `status` | the HTTP status | an integer from 200 to 599 | {defaults} |"


def test_the_list_has_every_fault_at_each_of_its_places() -> None:
    listed = reference.listing()
    assert len(listed) == sum(len(fault.stands) for fault in FAULTS)
    assert [one["name"] for one in listed if one["place"] == "operation"] == ["any situation", *OPERATION_FAULTS]
    assert {one["kind"] for one in listed} == {FAULT, VARIATION}
    (slow,) = [one for one in listed if (one["place"], one["name"]) == ("media", "slow_body")]
    assert slow["options"]["seconds"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 864_000,
        "description": "The duration, in seconds of the world's clock.",
        "default": 5.0,
        "usual": "5",
    }
