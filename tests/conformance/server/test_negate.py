"""Values that violate a schema in one keyword, for small schemas of each keyword."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hobbyhorse.conformance.server.negate import OPPOSITE, Mutation, Pair, breakable, mutations
from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, resolve
from hobbyhorse.contract.generate import UnusableSchema
from hobbyhorse.contract.schemas import Schemas

AT = "schema.json#"


def schemas(schema: Any) -> Schemas:
    return Schemas({"schema.json": schema})


def drawn(schema: Any, pairs: list[Pair] | None = None, examples: int = 40) -> list[Mutation]:
    """Return some mutations of a schema, each of which violates it."""
    found: list[Mutation] = []
    known = schemas(schema)

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(mutations(known, AT, pairs))
    def draw(mutation: Mutation) -> None:
        assert known.violations(AT, mutation.value), mutation
        found.append(mutation)

    draw()
    return found


ORDER = {
    "type": "object",
    "additionalProperties": False,
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 5},
        "seconds": {"type": "integer", "minimum": 3, "maximum": 15},
        "tier": {"enum": ["720p", "1080p"]},
        "urls": {"type": "array", "items": {"type": "string", "pattern": "^https://"}, "minItems": 1, "maxItems": 2},
    },
}


def test_every_keyword_of_every_place_can_be_violated() -> None:
    assert set(breakable(schemas(ORDER), AT)) == {
        ("", "type"),
        ("", "additionalProperties"),
        ("/prompt", "required"),
        ("/prompt", "type"),
        ("/prompt", "minLength"),
        ("/prompt", "maxLength"),
        ("/seconds", "type"),
        ("/seconds", "minimum"),
        ("/seconds", "maximum"),
        ("/tier", "enum"),
        ("/urls", "type"),
        ("/urls", "minItems"),
        ("/urls", "maxItems"),
        ("/urls/0", "type"),
        ("/urls/0", "pattern"),
    }


@pytest.mark.parametrize("pair", breakable(schemas(ORDER), AT), ids=" ".join)
def test_a_mutation_violates_its_own_keyword_and_no_other(pair: Pair) -> None:
    known = schemas(ORDER)
    for mutation in drawn(ORDER, [pair]):
        assert (mutation.pointer, mutation.keyword) == pair
        keywords = {one.places[0].rpartition("/")[2] for one in known.violations(AT, mutation.value)}
        assert keywords == {pair[1]}, mutation


def test_a_bound_is_violated_just_beyond_it() -> None:
    values = [resolve(one.value, ("seconds",)) for one in drawn(ORDER, [("/seconds", "maximum")])]
    assert min(values) == 16
    assert all(type(value) is int for value in values)


def test_a_required_member_is_missing_and_the_rest_is_valid() -> None:
    assert all(resolve(one.value, ("prompt",)) is MISSING for one in drawn(ORDER, [("/prompt", "required")]))


def test_without_a_choice_every_pair_is_drawn_sooner_or_later() -> None:
    seen: set[Pair] = set()

    @settings(max_examples=400, suppress_health_check=list(HealthCheck))
    @given(mutations(schemas(ORDER), AT))
    def draw(mutation: Mutation) -> None:
        seen.add((mutation.pointer, mutation.keyword))

    draw()
    assert seen == set(breakable(schemas(ORDER), AT))


def test_a_near_miss_of_an_integer_is_a_fraction_and_of_any_value_its_text() -> None:
    values = [resolve(one.value, ("seconds",)) for one in drawn(ORDER, [("/seconds", "type")], 300)]
    assert any(isinstance(value, float) and not value.is_integer() for value in values)
    assert any(isinstance(value, str) and value.isdigit() and 3 <= int(value) <= 15 for value in values)


def test_a_value_that_another_branch_of_an_any_of_allows_is_not_a_violation() -> None:
    either = {"anyOf": [{"type": "integer", "maximum": 5}, {"type": "string", "maxLength": 2}]}
    assert set(breakable(schemas(either), AT)) >= {("", "maximum"), ("", "maxLength"), ("", "type")}
    drawn(either)
    covered = {"anyOf": [{"type": "integer", "maximum": 5}, {"type": "integer"}]}
    assert ("", "maximum") not in breakable(schemas(covered), AT)


def test_a_schema_that_contains_itself_is_entered_once() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}, "name": {"type": "string"}}}
    pairs = breakable(schemas(tree), AT)
    assert ("/name", "type") in pairs
    assert not [pair for pair in pairs if pair[0].startswith("/child/child")]


def test_a_schema_that_allows_everything_cannot_be_violated() -> None:
    assert breakable(schemas({}), AT) == []
    with pytest.raises(UnusableSchema, match="no value violates this schema"):
        mutations(schemas({}), AT)


def test_a_pair_that_cannot_be_violated_alone_is_an_error_that_names_it() -> None:
    with pytest.raises(UnusableSchema, match=r"cannot violate \[\('/prompt', 'pattern'\)\] alone"):
        mutations(schemas(ORDER), AT, [("/prompt", "pattern")])


@given(st.sampled_from(sorted(OPPOSITE)), st.integers(-100, 100))
def test_the_step_beyond_a_bound_is_on_its_other_side(keyword: str, bound: int) -> None:
    _, beyond, _ = OPPOSITE[keyword]
    assert beyond(bound) < bound if keyword.startswith("min") else beyond(bound) > bound


def test_the_pointer_of_a_mutation_leads_to_the_broken_value() -> None:
    for mutation in drawn(ORDER):
        if mutation.keyword not in ("required", "additionalProperties"):
            assert resolve(mutation.value, parse_pointer(mutation.pointer)) is not MISSING
