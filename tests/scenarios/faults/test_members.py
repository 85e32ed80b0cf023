"""Variations of members: the needed values stay, and a form that the contract does not allow does not apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.contract.forms.expressions import MISSING, Place, resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import DecidedOperation
from hobbyhorse.scenarios.faults.members import (
    ABSENT,
    DECOY,
    DECOYS,
    EMPTIES,
    EMPTY_ERROR,
    FURTHER_OUTPUT,
    NEEDED,
    NOTE,
    NULLS,
    OTHER_ERROR,
    OTHER_PLACE,
    OTHER_PROGRESS,
    WIDE,
    WIDE_CALLBACK,
    WILD_ERROR,
    bound,
    members,
)
from tests.conftest import CONTRACTS, contracts_that
from tests.deciding import decided, under

several_places = contracts_that(
    lambda contract: any(len(bound(one, "video_url")) > 1 for one in contract.operations.values())
)
HIAPI, VTRIX = (
    next(contract for contract in CONTRACTS if contract.key == key).operations["status"] for key in ("hiapi", "vtrix")
)


def shown(contract: Contract, role: str, kind: str) -> DecidedOperation:
    """Return the response of an operation that shows a job in a stage of a class."""
    operation = contract.operations[role]
    stages = {stage.name for stage in contract.graph if stage.kind == kind}
    situation = next(one for one in operation.situations.values() if one.stages & stages and one.status < 300)
    response = decided(situation.template.write(lambda name: MISSING), operation)
    return replace(response, valid=lambda value: not list(contract.schemas.violations(situation.schema, value, most=1)))


@pytest.mark.parametrize("kind", ["running", "success", "failure"])
@pytest.mark.parametrize("name", ["decoys", "optional_absent", "optional_null", "further_output"])
def test_the_needed_values_stay_and_the_response_stays_valid(contract: Contract, name: str, kind: str) -> None:
    response = shown(contract, "status", kind)
    before, after = orjson.loads(response.sent.body), orjson.loads(under(name, response).body)
    assert response.valid(after)
    for pointer in bound(response.operation, *NEEDED):
        assert resolve(after, pointer) == resolve(before, pointer), pointer


def test_a_decoy_has_the_names_of_its_object_and_other_values() -> None:
    response = decided(b'{"status":"completed","output":{"url":"https://a/b"}}')
    for first in (True, False):
        found = orjson.loads(under("decoys", response, first=first).body)
        assert (next(iter(found)) == DECOY) is first
        assert found[DECOY]["status"] == "old completed"
        assert found["output"][DECOY] == {"url": "http://foreign.invalid/old"}
    assert DECOYS.applies(DECOYS, response, {"first": True})


def test_a_member_may_be_null_only_if_the_contract_says_so() -> None:
    body = b'{"a":1,"b":2,"c":3}'

    def valid(value: Any) -> bool:
        return value["a"] is not None and (value["b"] is None or isinstance(value["b"], int))

    response = replace(decided(body), valid=valid)
    # `c` takes everything, so it is not documented; `a` takes no null.
    assert orjson.loads(under("optional_null", response).body) == {"a": 1, "b": None, "c": 3}
    assert NULLS.applies(NULLS, response, {})
    assert not NULLS.applies(NULLS, replace(response, valid=lambda value: False), {})


def test_optional_members_are_omitted_and_required_ones_stay() -> None:
    response = replace(decided(b'{"a":1,"b":{"c":2}}'), valid=lambda value: "a" in value)
    assert orjson.loads(under("optional_absent", response).body) == {"a": 1}
    assert not ABSENT.applies(ABSENT, replace(response, valid=lambda value: False), {})


@pytest.mark.parametrize("name", ["optional_absent", "optional_null"])
def test_the_type_of_the_video_stays(name: str) -> None:
    video = {"type": "video", "url": "https://a/b.mp4"}
    response = replace(
        decided(orjson.dumps({"output": [{"content": [video]}], "a": 1}), VTRIX), valid=lambda value: True
    )
    assert orjson.loads(under(name, response).body)["output"][0]["content"] in ([video], [{"type": "video"}])


def test_a_picture_is_listed_after_the_video() -> None:
    body = orjson.dumps({"output": [{"content": [{"type": "video", "url": "https://a/b.mp4?s=1"}]}]})
    response = decided(body, VTRIX)
    content = orjson.loads(under("further_output", response, place="last").body)["output"][0]["content"]
    assert [one["type"] for one in content] == ["video", "image"]
    assert [one["url"] for one in content] == ["https://a/b.mp4?s=1", "https://a/b.mp4.png"]
    assert not FURTHER_OUTPUT.applies(FURTHER_OUTPUT, decided(b'{"output":[]}', VTRIX), {"place": "last"})
    # Its documents have no output that accompanies a video.
    assert not FURTHER_OUTPUT.applies(FURTHER_OUTPUT, response, {"place": "first"})


def test_a_picture_comes_before_the_video_where_one_accompanies_it() -> None:
    output = [{"type": "video", "url": "https://a/b.mp4"}]
    body = orjson.dumps({"code": 200, "data": {"taskId": "t", "status": "success", "output": output}})
    typed = ("video", "image", "thumbnail")
    response = replace(
        decided(body, HIAPI), valid=lambda value: all(one["type"] in typed for one in value["data"]["output"])
    )
    listed = orjson.loads(under("further_output", response, place="first").body)["data"]["output"]
    assert [one["type"] for one in listed] == ["thumbnail", "video"]
    # Where any word is a type, none is documented.
    free = replace(response, valid=lambda value: True)
    assert not FURTHER_OUTPUT.applies(FURTHER_OUTPUT, free, {"place": "first"})


def test_room_before_the_video_is_documented_by_one_provider() -> None:
    def room(contract: Contract) -> bool:
        complete = FURTHER_OUTPUT.complete({"place": "first"})
        return not list(FURTHER_OUTPUT.misfits(FURTHER_OUTPUT, contract, contract.operations["status"], complete))

    assert [contract.key for contract in CONTRACTS if room(contract)] == ["hiapi"]


@pytest.mark.parametrize("value", EMPTIES)
def test_an_empty_error_stands_only_where_there_is_none(value: str) -> None:
    response = decided(b'{"status":"completed"}', VTRIX)
    assert orjson.loads(under("empty_error", response, error_value=value).body)["error"] == EMPTIES[value]
    failed = decided(b'{"status":"failed","error":{"code":"1"}}', VTRIX)
    assert not EMPTY_ERROR.applies(EMPTY_ERROR, failed, {"error_value": value})


def test_null_stands_for_the_members_that_other_responses_have() -> None:
    found = orjson.loads(under("null_absent", decided(b'{"status":"in_progress"}', VTRIX)).body)
    assert found["output"] is None
    assert found["error"] is None
    assert found["status"] == "in_progress"


def test_a_cost_is_empty_and_so_is_the_list_of_another_place_of_the_video() -> None:
    found = orjson.loads(under("empty_members", decided(b'{"usage":{"cost":"1.40","discount":1}}', VTRIX)).body)
    assert found == {"usage": {"cost": "", "discount": 1}, "output": []}
    result = next(one for one in CONTRACTS if one.key == "runcomfy").operations["result"]
    values = {"video_url": "https://a/b.mp4"}
    body = result.situations["succeeded"].template.write(lambda name: values.get(name, MISSING))
    found = orjson.loads(under("empty_members", decided(body, result)).body)
    assert (found["output"]["video"], found["output"]["videos"]) == ("https://a/b.mp4", [])


def test_progress_goes_back_is_null_or_is_full() -> None:
    response = decided(b'{"progress":0.5}', VTRIX)
    assert orjson.loads(under("other_progress", response, progress="full").body)["progress"] == 1
    assert 0 <= orjson.loads(under("other_progress", response).body)["progress"] < 0.5
    assert orjson.loads(under("other_progress", response, progress="null").body)["progress"] is None
    assert not OTHER_PROGRESS.applies(OTHER_PROGRESS, decided(b"{}", VTRIX), {"progress": "null"})


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ("text", "the video could not be made"),
        ("number", {"code": 5001, "message": "m"}),
        ("no_code", {"message": "m"}),
        ("no_message", {"code": "c"}),
        ("null", None),
    ],
)
def test_an_error_has_another_shape_if_the_contract_has_it(shape: str, error: Any) -> None:
    response = decided(b'{"status":"failed","error":{"code":"c","message":"m"}}', VTRIX)
    assert orjson.loads(under("error_shape", response, shape=shape).body)["error"] == error
    refused = replace(response, valid=lambda value: False)
    assert not OTHER_ERROR.applies(OTHER_ERROR, refused, {"shape": shape})


@pytest.mark.parametrize(
    ("pointer", "body", "found"),
    [
        (("reason",), {"reason": "m"}, {"reason": None}),
        (("data", "reason"), {"data": {"reason": "m"}}, {"data": {"reason": None}}),
        (("job", "error", "text"), {"job": {"error": {"text": "m"}}}, {"job": {"error": None}}),
    ],
)
def test_the_error_is_the_object_around_its_message_or_else_the_message(
    pointer: tuple[str, ...], body: dict[str, Any], found: dict[str, Any]
) -> None:
    message = replace(VTRIX.bindings["error_message"], response=(Place("response", "body", pointer=pointer),))
    bindings = {name: one for name, one in VTRIX.bindings.items() if not name.startswith("error")}
    operation = replace(VTRIX, bindings={**bindings, "error_message": message})
    response = decided(orjson.dumps({"status": "failed", **body}), operation)
    assert orjson.loads(under("error_shape", response, shape="null").body) == {"status": "failed", **found}


def test_members_are_found_from_the_inside() -> None:
    assert list(members({"a": [{"b": 1}]})) == [("a", "0", "b"), ("a",)]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("text", "m"),
        ("number", {"code": 5001, "message": "m"}),
        ("object", {"code": "internal", "message": "m"}),
        ("list", [{"msg": "m"}]),
    ],
)
def test_an_error_has_another_type_only_if_the_contract_does_not_have_it(kind: str, error: Any) -> None:
    failed = replace(
        decided(b'{"status":"failed","error":{"code":"c","message":"m"}}', VTRIX), valid=lambda value: False
    )
    assert orjson.loads(under("error_type", failed, written_as=kind).body)["error"] == error
    assert WILD_ERROR.applies(WILD_ERROR, failed, {"written_as": kind})
    assert not WILD_ERROR.applies(WILD_ERROR, replace(failed, valid=lambda value: True), {"written_as": kind})
    assert not WILD_ERROR.applies(WILD_ERROR, decided(b'{"status":"completed"}', VTRIX), {"written_as": kind})


def test_an_unknown_member_has_characters_of_every_length() -> None:
    found = under("wide_text", decided(b'{"status":"completed"}', VTRIX)).body
    assert orjson.loads(found) == {"status": "completed", NOTE: WIDE}
    assert {len(letter.encode()) for letter in WIDE} == {1, 2, 3, 4}
    callbacks = next(contract.callbacks for contract in CONTRACTS if contract.callbacks is not None)
    change = WIDE_CALLBACK.effect(callbacks, {}).change
    assert orjson.loads(change(b'{"job":"1"}')) == {"job": "1", NOTE: WIDE}
    assert change(b"no JSON") == b"no JSON"


@several_places
def test_the_url_of_the_video_moves_to_the_last_place_of_the_contract(contract: Contract) -> None:
    (role,) = (name for name, one in contract.operations.items() if len(bound(one, "video_url")) > 1)
    response = shown(contract, role, "success")
    first, *_, last = bound(response.operation, "video_url")
    before, after = orjson.loads(response.sent.body), orjson.loads(under("other_place", response).body)
    assert isinstance(resolve(before, first), str)
    assert (resolve(after, first), resolve(after, last)) == (MISSING, resolve(before, first))
    assert OTHER_PLACE.applies(OTHER_PLACE, response, {})
    assert not OTHER_PLACE.applies(OTHER_PLACE, shown(contract, role, "failure"), {})
    assert list(OTHER_PLACE.misfits(OTHER_PLACE, contract, contract.operations["submit"], {}))
