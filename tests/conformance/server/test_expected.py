"""The expected response: documented statuses, the constants that tell situations apart, and the places that say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.rule import OBSERVED, Breach, Check, Judgement, examine
from hobbyhorse.conformance.server.expected import (
    KindCheck,
    bound_at,
    conclusive,
    conclusive_probes,
    constant_places,
    differing_constants,
    documented,
    first_of_kind,
    home_of,
    label,
    merged_patch,
    one_per_kind,
    operation_of,
    presence_places,
    probes,
    refused_as,
    responses_of,
    schema_of,
    set_in_lifecycle,
    transient_failure,
    unspecified_refusal,
)
from hobbyhorse.contract.forms.expressions import MISSING, Place, parse_pointer, replaced, resolve
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Assumption, Contract, Situation, find_situation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from tests.conftest import contracts_that
from tests.json_patch import Refused, patched
from tests.judging import teller


def one_step(contract: Contract, situation: str | None, **how: Any) -> tuple[AnnotatedTrace, Step]:
    """Return a trace of one poll, and its step."""
    annotated = teller(contract).status(situation, **how).story()
    return annotated, annotated.steps[0]


def refusal_of(contract: Contract, name: str) -> Situation:
    found = find_situation(contract.operations["status"], name)
    assert found is not None
    return found


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_temporary_failure_is_not_conclusive(contract: Contract, status: int) -> None:
    _, step = one_step(contract, None, status=status, answer=b"{}")
    assert transient_failure(step)
    assert not conclusive(step)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (404, True), (301, False), (399, False), (400, True)])
def test_a_redirect_is_not_the_operations_own_response(contract: Contract, status: int, expected: bool) -> None:
    _, step = one_step(contract, None, status=status, answer=b"{}")
    assert conclusive(step) is expected


def test_an_incomplete_response_is_not_conclusive(contract: Contract) -> None:
    _, step = one_step(contract, None, status=200, answer=b"{", whole=False)
    assert not conclusive(step)


def test_probes_are_selected_by_the_beginning_of_their_name(contract: Contract) -> None:
    told = teller(contract)
    for name, status in (("auth:none", 401), ("auth:wrong", 503), ("job", 200), (None, 200)):
        told.status(None, status=status, answer=b"{}", probe=name)
    told.media(probe="auth:none")
    annotated = told.story()
    assert [step.number for step in probes(annotated, "auth:")] == [1, 2]
    assert [step.number for step in conclusive_probes(annotated, "auth:", "job")] == [1, 3]
    assert label(annotated.steps[1]) == "request 2 (status)"


def test_a_documented_refusal_is_accepted_and_an_alternative_too(contract: Contract) -> None:
    annotated, step = one_step(contract, "unknown_job", probe="identity:unknown", expected="unknown_job")
    assert refused_as(annotated, step, "unknown_job") == []
    assert refused_as(annotated, step, "no_such_situation", ["unknown_job"]) == []


def test_a_situation_that_the_contract_does_not_have_is_checked_against_nothing(contract: Contract) -> None:
    annotated, step = one_step(contract, None, status=418, answer=b"{}")
    assert refused_as(annotated, step, "no_such_situation") == []


def test_another_status_is_a_breach_that_names_both_and_patches_the_contract(contract: Contract) -> None:
    right = refusal_of(contract, "unknown_job")
    example = orjson.dumps(contract.schemas.at(right.example_at))
    annotated, step = one_step(contract, None, status=418, answer=example, probe="identity:unknown")
    (breach,) = refused_as(annotated, step, "unknown_job")
    home = home_of(contract, operation_of(annotated, step), right.name)
    assert breach.message == (
        f"request 1 (status): identity:unknown is refused with 418; documented: {right.status} ({right.name})"
    )
    assert breach.places[0] == f"{home}/status"
    assert breach.seen == 418
    place = parse_pointer(f"{home.partition('#')[2]}/status")
    assert resolve(patched(contract.written, breach.patch), place) == 418


@pytest.mark.parametrize(
    "pointer", ["/retention/result_url", "/situations/unknown_job/status", "/callbacks/signature/encoding", "/name"]
)
def test_a_patch_sets_a_member_whether_or_not_the_file_has_it(contract: Contract, pointer: str) -> None:
    operations = set_in_lifecycle(contract, pointer, "new")
    assert resolve(patched(contract.written, operations), parse_pointer(pointer)) == "new"
    assert resolve(contract.written, parse_pointer(pointer)) != "new"


def test_two_patches_inside_an_object_that_the_file_omits_do_not_undo_each_other(contract: Contract) -> None:
    bare = replace(contract, written={"name": "x"})
    operations = [
        *set_in_lifecycle(bare, "/retention/result_url", 1),
        *set_in_lifecycle(bare, "/retention/job", 2),
        *set_in_lifecycle(bare, "/retention/job", 2),
        *set_in_lifecycle(bare, "/name", "y"),
    ]
    assert patched(bare.written, merged_patch(operations)) == {"name": "y", "retention": {"result_url": 1, "job": 2}}


def test_a_strict_tool_refuses_to_replace_a_member_that_is_not_there() -> None:
    with pytest.raises(Refused):
        patched({"retention": {}}, [{"op": "replace", "path": "/retention/result_url", "value": 1}])


def code_of(contract: Contract) -> Place | None:
    """Return a place of the error code in the refusal of an unknown job, or None if it has no code."""
    example = contract.schemas.at(refusal_of(contract, "unknown_job").example_at)
    places = [place for _, place in constant_places(contract.operations["status"])]
    return next((place for place in places if resolve(example, place.pointer) not in (None, MISSING)), None)


@contracts_that(lambda contract: code_of(contract) is not None)
def test_another_error_code_is_a_breach_and_a_missing_one_is_not(contract: Contract) -> None:
    operation = contract.operations["status"]
    right, place = refusal_of(contract, "unknown_job"), code_of(contract)
    assert place is not None
    example = contract.schemas.at(right.example_at)
    wrong = replaced(example, place.pointer, "another-code")
    annotated, step = one_step(contract, None, status=right.status, answer=orjson.dumps(wrong))
    (breach,) = refused_as(annotated, step, "unknown_job")
    assert "is refused as 'another-code'; documented: " in breach.message
    assert breach.places[0].startswith(right.example_at)
    missing = replaced(example, place.pointer, MISSING)
    annotated, step = one_step(contract, None, status=right.status, answer=orjson.dumps(missing))
    assert differing_constants(contract, operation, right, step) == []
    assert refused_as(annotated, step, "unknown_job") == []


def test_a_status_is_documented_by_openapi_or_by_a_situation(contract: Contract) -> None:
    operation = contract.operations["status"]
    responses = contract.schemas.at(responses_of(operation))
    for status in map(int, filter(str.isdigit, responses)):
        assert documented(contract, operation, status)
    for situation in operation.situations.values():
        assert documented(contract, operation, situation.status)
    assert documented(contract, operation, 418) == ("default" in responses)


def test_the_schema_of_a_status_is_found_through_references(contract: Contract) -> None:
    operation = contract.operations["status"]
    found = schema_of(contract, operation, 200)
    assert found is not None
    assert contract.schemas.at(found) is not MISSING
    if "default" not in contract.schemas.at(responses_of(operation)):
        assert schema_of(contract, operation, 418) is None


def test_the_home_of_a_situation_is_the_operation_if_it_has_its_own(contract: Contract) -> None:
    for operation in contract.operations.values():
        for name in operation.situations:
            home = home_of(contract, operation, name)
            assert contract.schemas.at(home) is not MISSING, home
    assert home_of(contract, contract.operations["status"], "nothing") == "lifecycle.json#/situations/nothing"


def test_a_refusal_is_unspecified_only_where_the_contract_has_no_situation_for_it(contract: Contract) -> None:
    operation = contract.operations["status"]
    for status, expected, probe, unspecified in (
        (422, "no_such_situation", "negative:x", True),
        (200, "no_such_situation", "negative:x", False),
        (422, next(iter(operation.situations)), "negative:x", False),
        (422, None, "job", False),
        (422, next(iter(operation.situations)), "identity:malformed", True),
    ):
        _, step = one_step(contract, None, status=status, answer=b"{}", expected=expected, probe=probe)
        assert unspecified_refusal(operation, step) is unspecified, (status, expected, probe)


def test_the_places_of_a_bound_value_exist_in_the_contract_and_are_named_once(contract: Contract) -> None:
    annotated = teller(contract).status("success").story()
    (step,) = annotated.steps
    places = bound_at(contract, operation_of(annotated, step), "video_url" if step.video else "stage", step)
    assert places
    assert len(set(places)) == len(places)
    assert all(contract.schemas.at(place) is not MISSING for place in places)


KINDS = (
    ("a", Breach("first", seen=1)),
    ("b", Breach("other")),
    ("a", Breach("second", seen=2)),
    ("a", Breach("third", seen=3)),
)


def test_a_breach_is_reported_once_per_kind_with_the_number_of_repetitions(contract: Contract) -> None:
    found = examine(one_per_kind(lambda trace: iter((OBSERVED, *KINDS)))(teller(contract).story()))
    assert [(one.message, one.seen) for one in found.breaches] == [("first (and 2 more times)", 1), ("other", None)]


def test_a_breach_is_reported_once_per_kind_without_the_number(contract: Contract) -> None:
    found = examine(first_of_kind(lambda trace: iter((OBSERVED, *KINDS)))(teller(contract).story()))
    assert [(one.message, one.seen) for one in found.breaches] == [("first", 1), ("other", None)]


@pytest.mark.parametrize("once", [one_per_kind, first_of_kind])
def test_a_subject_without_a_breach_is_still_observed(contract: Contract, once: Callable[[KindCheck], Check]) -> None:
    story = teller(contract).story()
    assert examine(once(lambda trace: iter([OBSERVED]))(story)) == Judgement(observed=True)
    assert examine(once(lambda trace: iter(()))(story)) == Judgement(observed=False)


def test_a_value_whose_object_is_assumed_is_documented_by_another_example_that_shows_it(contract: Contract) -> None:
    shown = {"first": {"error": {"code": "x"}}, "other": {"stage": "runs"}, "null": {"error": {"code": None}}}
    shown |= {"second": {"error": {"code": "y"}}, "third": {"error": {"code": "z"}}}
    examples = {name: {"value": value} for name, value in shown.items()}
    base = "openapi.json#/responses/examples/"
    schemas = Schemas({"openapi.json": {"responses": {"examples": examples}}})

    def documented_at(*assumed: str) -> tuple[str, ...]:
        places = tuple(f"{base}{name}" for name in assumed)
        known = replace(contract, schemas=schemas, assumptions=(Assumption(places, "unknown"),))
        return presence_places(known, [f"{base}first/value/error/code"])

    first, second, third = (f"{base}{name}/value/error" for name in ("first", "second", "third"))
    assert documented_at() == (first,)
    assert documented_at("first/value/error/code") == (first,), "an assumption about the value alone"
    assert documented_at("first") == (second,)
    assert documented_at("first", "second") == (third,)
    assert documented_at("first", "second", "third") == (first,), "no document shows it"
