"""What a folder leaves out: filled in from the rest, the same however often, and never a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.contract.documents.defaults import complete
from hobbyhorse.contract.documents.marks import unmarked
from hobbyhorse.contract.folder import build, read_documents
from hobbyhorse.contract.forms.expressions import parse_pointer, resolve
from hobbyhorse.contract.lint import lint
from tests import specimen
from tests.conftest import CONTRACTS, DIRECTORY
from tests.contract.broken_folders import Broken, assert_found, broken_in

FOLDERS = [specimen.FOLDER, *(DIRECTORY / contract.key for contract in CONTRACTS)]
L, API = "lifecycle.json#", "openapi.json#"
LISTED = API + "/paths/~1v1~1jobs/get/responses/200/content/application~1json/examples/listed/value/jobs"
SHOWN = API + "/paths/~1v1~1jobs~1{id}/get/responses/200/content/application~1json/examples"

each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def bare(folder: Path) -> dict[str, Any]:
    return unmarked(read_documents(folder))[0]


def completed(changes: Mapping[str, Any], removed: Sequence[str] = ()) -> Any:
    """Return the completed lifecycle.json of the specimen, as it is written but for some places."""
    clean, _, _ = unmarked(specimen.shortened(changes, removed))
    return complete(clean)["lifecycle.json"]


@broken_in("short")
def test_what_cannot_be_derived_is_a_problem(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)


@each_folder
def test_completing_twice_is_completing_once(folder: Path) -> None:
    once = complete(bare(folder))
    assert complete(once) == once


@each_folder
def test_a_completed_folder_is_the_same_contract_and_passes_lint(folder: Path, tmp_path: Path) -> None:
    whole = specimen.whole(folder)
    assert build(folder, whole) == build(folder, read_documents(folder))
    assert lint(specimen.write(tmp_path / folder.name, whole)) == []


def test_an_example_named_after_a_stage_is_the_situation_of_that_stage() -> None:
    found = completed({})["operations"]
    assert found["status"]["situations"]["running"] == {"status": 200, "stages": ["running"], "example": "running"}
    assert found["cancel"]["situations"]["cancelled"] == {
        "status": 200,
        "stages": ["cancelled"],
        "example": "cancelled",
    }


def test_a_stage_that_lifecycle_json_gives_a_situation_has_no_other() -> None:
    own = {L + "/operations/status/situations": {"ended": {"example": "failed", "stages": ["done", "failed"]}}}
    found = completed(own)["operations"]["status"]["situations"]
    assert set(found) == {"ended", "queued", "running", "cancelled"}


def test_an_accepted_job_is_in_the_first_stage() -> None:
    found = completed({})
    assert found["initial"] == "queued"
    assert found["operations"]["submit"]["situations"]["accepted"]["stages"] == ["queued"]


def test_a_refusal_of_a_shared_response_is_a_situation_of_every_operation_that_has_it() -> None:
    found = completed({})
    assert found["situations"]["unknown_job"] == {"status": 404, "example": "unknown_job"}
    assert "unknown_job" not in found["operations"]["status"]["situations"]


def test_a_refusal_with_two_statuses_belongs_to_each_operation() -> None:
    response = {"$ref": "#/components/responses/NotFound"}
    gone = API + "/paths/~1v1~1jobs~1{id}~1result/get/responses/410"
    found = completed({gone: response}, [API + "/paths/~1v1~1jobs~1{id}~1result/get/responses/404"])
    assert "unknown_job" not in found["situations"]
    assert found["operations"]["status"]["situations"]["unknown_job"]["status"] == 404
    assert found["operations"]["result"]["situations"]["unknown_job"]["status"] == 410


def test_a_situation_that_lifecycle_json_names_keeps_what_it_says() -> None:
    found = completed({L + "/situations/unknown_job": {"status": 404, "example": "unknown_path"}})
    assert found["situations"]["unknown_job"] == {"status": 404, "example": "unknown_path"}


def test_an_example_under_two_statuses_is_no_situation() -> None:
    shown = {
        "description": "x",
        "content": {"application/json": {"schema": {}, "examples": {"running": {"value": {}}}}},
    }
    found = completed({API + "/paths/~1v1~1jobs~1{id}/get/responses/202": shown})
    assert "running" not in found["operations"]["status"]["situations"]


def test_what_meets_no_operation_is_found_by_its_example() -> None:
    assert completed({})["unrouted"] == {
        "unknown_path": {"status": 404, "response": "NotFound", "example": "unknown_path"},
        "wrong_method": {"status": 405, "response": "WrongMethod", "example": "wrong_method"},
    }


def test_a_job_is_bound_alike_wherever_it_is_shown() -> None:
    found = completed({})
    for role in ("submit", "cancel"):
        assert found["operations"][role]["bindings"]["stage"] == "$response.body#/state"
    assert found["operations"]["list"]["items"]["bindings"]["stage"] == "/state"
    assert found["callbacks"]["bindings"]["finished_at"] == {"at": "$request.body#/ended", "as": "unix"}


def test_a_value_that_an_operation_does_not_show_is_not_bound_there() -> None:
    assert "queue_position" not in completed({})["operations"]["cancel"]["bindings"]


def test_a_request_place_keeps_the_response_place_that_status_has() -> None:
    changes = {
        API
        + "/paths/~1v1~1jobs/post/responses/201/content/application~1json/examples/accepted/value/model": "acme/move"
    }
    bound = completed(changes)["operations"]["submit"]["bindings"]["model"]
    assert bound == ["$request.body#/model", "$response.body#/model"]


def test_null_leaves_out_a_place_that_would_be_derived() -> None:
    changes = {L + "/operations/cancel/bindings/stage": None}
    clean = unmarked(specimen.shortened(changes))[0]
    assert complete(clean)["lifecycle.json"]["operations"]["cancel"]["bindings"]["stage"] is None
    assert "stage" not in build(specimen.FOLDER, specimen.shortened(changes)).operations["cancel"].bindings


def test_null_leaves_out_a_binding_of_all_operations() -> None:
    contract = build(specimen.FOLDER, specimen.shortened({L + "/operations/result/bindings/error_code": None}))
    assert "error_code" not in contract.operations["result"].bindings
    assert "error_code" in contract.operations["status"].bindings


def test_the_jobs_id_is_the_only_parameter_of_the_path() -> None:
    assert completed({})["operations"]["cancel"]["bindings"]["job"] == ["$request.path.id", "$response.body#/id"]


def test_a_list_that_is_nested_is_bound_relative_to_the_object_that_shows_a_job() -> None:
    """The status operation shows a job in `data`, and so the places in an item begin there."""
    contract = next(one for one in CONTRACTS if one.key == "hiapi")
    items = contract.operations["list"].items
    assert items is not None
    assert [str(place) for place in items.bindings["job"].response] == ["$response.body#/taskId"]


def test_an_items_stage_is_that_of_its_word_if_no_other_item_has_it() -> None:
    assert completed({})["operations"]["list"]["items"]["stages"] == {
        "queued": 0,
        "running": 1,
        "done": 2,
        "failed": 3,
        "cancelled": 4,
    }
    twice = completed({LISTED + "/4/state": "failed"})["operations"]["list"]["items"]["stages"]
    assert twice == {"queued": 0, "running": 1, "done": 2}


def test_a_stage_that_no_item_shows_is_shown_as_status_shows_it() -> None:
    clean, _, _ = unmarked(specimen.shortened({LISTED: []}))
    whole = complete(clean)
    content = whole["openapi.json"]["paths"]["/v1/jobs"]["get"]["responses"]["200"]["content"]["application/json"]
    shown = content["examples"]["listed"]["value"]["jobs"]
    assert [job["state"] for job in shown] == ["queued", "running", "done", "failed", "cancelled"]
    assert whole["lifecycle.json"]["operations"]["list"]["items"]["stages"]["cancelled"] == 4


def test_a_forgotten_item_of_a_list_of_summaries_stays_forgotten() -> None:
    jobs = [{"id": "job-00000000000000aa", "state": "queued", "cost": None}]
    assert completed({LISTED: jobs})["operations"]["list"]["items"]["stages"] == {"queued": 0}


def test_the_items_of_a_catalogue_are_bound_as_one_model_is() -> None:
    items = completed({})["operations"]["models"]["items"]
    assert items["bindings"] == {"model": "/name", "price": {"at": "/usd", "as": "number"}}


def test_a_parameter_that_the_schema_calls_by_its_name_has_its_place() -> None:
    move, cast = completed({})["models"]
    assert move["parameters"]["duration"] == "/duration"
    assert cast["parameters"]["aspect_ratio"] == "/shape/aspect_ratio"


def test_a_parameter_that_the_schema_declares_twice_has_none() -> None:
    twice = {"models/move.schema.json#/properties/more": {"properties": {"duration": {"type": "integer"}}}}
    assert "duration" not in completed(twice)["models"][0]["parameters"]


def test_a_submission_without_examples_is_shown_with_the_defaults_of_its_model() -> None:
    contract = next(one for one in CONTRACTS if one.key == "runcomfy")
    content = bare(DIRECTORY / contract.key)["openapi.json"]["paths"]["/v1/models/{model_id}"]["post"]["requestBody"]
    assert "examples" not in content["content"]["application/json"]
    shown = contract.operations["submit"].body_examples
    for model in contract.models:
        schema = contract.schemas.document(model.schema_file)
        assert shown[model.id] == {name: schema["properties"][name]["default"] for name in schema["required"]}


def test_an_error_of_all_operations_is_their_refusals_too() -> None:
    found = completed({})["bindings"]
    assert found["refusal_code"] == found["error_code"]
    assert found["refusal_message"] == found["error_message"]


def test_what_is_left_out_of_the_rest_has_its_default() -> None:
    found = completed({}, [L + "/retention", L + "/callbacks", L + "/idempotency"])
    assert found["retention"] == {"job": None, "result_url": None}
    assert found["callbacks"] is None
    assert found["idempotency"] == {"mode": "none"}
    assert found["stages"]["done"] == {"class": "success", "next": [], "cancellable": False}
    key = {"mode": "replay", "key": "$request.header.Idempotency-Key"}
    assert completed({L + "/idempotency": key})["idempotency"]["life"] == 86_400


def test_a_submission_without_an_example_gets_the_defaults_of_each_model_under_its_id() -> None:
    place = API + "/paths/~1v1~1jobs/post/requestBody/content/application~1json/examples"
    changes = {"models/move.schema.json#/properties/" + name + "/default": name for name in ("image", "prompt")}
    clean, _, _ = unmarked(specimen.shortened(changes, [place]))
    body = resolve(complete(clean)["openapi.json"], parse_pointer(place.partition("#")[2]))
    # A required member of the other model has no default.
    assert body == {"acme/move": {"value": {"model": "acme/move", "input": {"image": "image", "prompt": "prompt"}}}}
