"""The bound fields that faults change: names, places, and new values that leave everything else alone."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fields import (
    JOB_URLS,
    Field,
    Urls,
    has_field,
    payload_places,
    places,
    rewritten,
    shows,
    with_value,
)


def test_a_field_is_the_fixed_one_the_chosen_one_or_the_main_one_of_the_role() -> None:
    assert Field("stage").names({"value": "job"}, "submit") == ("stage",)
    assert Field().names({"value": "stage"}, "submit") == ("stage",)
    assert Field().names({}, "submit") == ("job",)
    assert Field().names({}, "list") == ()


def test_urls_must_be_texts_and_a_field_only_has_to_be_there() -> None:
    assert [Urls(JOB_URLS).holds(here) for here in ("http://a", None, MISSING)] == [True, False, False]
    assert [Field().holds(here) for here in ("", None, MISSING)] == [True, True, False]


def test_the_reason_for_a_misfit_names_the_field(contract: Contract) -> None:
    submit = contract.operations["submit"]
    assert Field("moon").misfit("x", {}, submit) == "no response has the value 'moon'"
    assert Field("job").misfit("x", {}, submit) is None
    assert Urls(("moon", "sun")).misfit("x", {}, submit) == "no response has a URL that 'x' changes, such as 'moon'"
    models = contract.operations.get("list", contract.operations.get("models"))
    if models is not None:
        assert Field().misfit("x", {}, models) == "'x' needs the option 'value' here"


def test_a_place_is_where_the_contract_binds_a_value(contract: Contract) -> None:
    status = contract.operations["status"]
    bound = [place.pointer for place in status.bindings["stage"].response if place.part == "body"]
    assert places(Field(), {}, status) == bound != []
    assert places(Field("moon"), {}, status) == []
    assert shows(status, "stage")
    assert not shows(status, "moon")
    shown = next(found for found in status.situations.values() if found.status < 300)
    assert has_field(Field(), {}, status, shown.template.write(lambda name: MISSING))
    assert not has_field(Field(), {}, status, b"{}")
    assert not has_field(Field(), {}, status, b"no JSON")


@pytest.mark.parametrize(
    ("pointer", "value", "expected"),
    [
        (("a",), 2, {"a": 2, "b": [1, 2]}),
        (("a",), MISSING, {"b": [1, 2]}),
        (("b", "0"), MISSING, {"a": 1, "b": [2]}),
        (("b", "1"), None, {"a": 1, "b": [1, None]}),
    ],
)
def test_a_value_is_replaced_or_removed_and_nothing_else_changes(pointer: Any, value: Any, expected: Any) -> None:
    assert with_value({"a": 1, "b": [1, 2]}, pointer, value) == expected


def test_an_item_is_removed_from_a_list_below_others() -> None:
    assert with_value({"a": {"b": [1, 2]}, "c": 3}, ("a", "b", "0"), MISSING) == {"a": {"b": [2]}, "c": 3}


def test_only_values_that_are_there_are_rewritten() -> None:
    body = rewritten(b'{"a": 1}', Field(), [("a",), ("b",)], lambda here: here + 1)
    assert orjson.loads(body) == {"a": 2}


def test_the_payload_of_a_callback_is_everything_but_job_stage_and_event(contract: Contract) -> None:
    if contract.callbacks is not None:
        (job,) = [place.pointer for place in contract.callbacks.bindings["job"].request if place.part == "body"][:1]
        assert job not in payload_places(contract.callbacks)
