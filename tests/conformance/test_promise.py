"""The contract's own words at a place: the nearest sentence, the value, and the assumption."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.conformance.promise import MOST_OUTER, MOST_VALUE, Promise, promise_at
from hobbyhorse.contract.schemas import Schemas
from tests.conftest import CONTRACTS
from tests.judging import assuming

DOCUMENT = {
    "description": "All of it.",
    "paths": {
        "/jobs": {
            "summary": "The jobs.",
            "get": {
                "description": "",
                "responses": {"200": {"enum": ["a", "b"], "long": "x" * MOST_VALUE, "deep": {"er": {"est": 1}}}},
            },
        }
    },
}
CONTRACT = replace(assuming(CONTRACTS[0], "a.json#/paths/~1jobs/get"), schemas=Schemas({"a.json": DOCUMENT}))


@pytest.mark.parametrize(
    ("place", "sentence", "value", "assumed"),
    [
        ("a.json#/paths/~1jobs/summary", "The jobs.", '"The jobs."', None),
        ("a.json#/paths/~1jobs/get/responses/200/enum", None, '["a", "b"]', "the documents do not say"),
        ("a.json#/paths/~1jobs/get/responses", "The jobs.", None, "the documents do not say"),
        ("a.json#/paths/~1jobs/get/responses/200/long", None, None, "the documents do not say"),
        ("a.json#/paths/~1jobs/get/gone", "The jobs.", None, "the documents do not say"),
        ("a.json", "All of it.", None, None),
        ("b.json#/paths", None, None, None),
        ("a.json#no pointer", None, None, None),
    ],
)
def test_a_place_has_its_nearest_sentence_its_value_and_its_assumption(
    place: str, sentence: str | None, value: str | None, assumed: str | None
) -> None:
    assert promise_at(CONTRACT, place) == Promise(place, sentence, value, assumed)


def test_a_sentence_about_something_larger_is_not_quoted() -> None:
    steps = ["paths", "~1jobs", "get", "responses", "200"]
    assert len(steps) - 2 == MOST_OUTER
    assert promise_at(CONTRACT, f"a.json#/{'/'.join(steps)}").sentence == "The jobs."
    assert promise_at(CONTRACT, f"a.json#/{'/'.join(steps)}/deep").sentence is None


def test_a_promise_is_one_line() -> None:
    assert str(Promise("a#/b", "It is so.", '"x"', "why")) == 'a#/b: "It is so." "x" (assumed: why)'
    assert str(Promise("a#/b", None, None, None)) == "a#/b"
