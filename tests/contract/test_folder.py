"""Reading a folder: what comes of it, and the one error with file, place and reason where nothing can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from hobbyhorse.contract.folder import (
    ContractError,
    build,
    data_directory,
    find_folders,
    load,
    load_all,
    path_names,
    read_documents,
)
from hobbyhorse.contract.forms.expressions import Place
from hobbyhorse.contract.values import Contract, Idempotency
from tests import specimen
from tests.conftest import DIRECTORY, contracts_that
from tests.contract.broken_folders import Broken, assert_found, broken_in

L, API = "lifecycle.json#", "openapi.json#"


def built(changes: Mapping[str, Any], *removed: str, variants: tuple[str, ...] = ()) -> Contract:
    """Return the specimen's contract with some places changed."""
    return build(specimen.FOLDER, specimen.edited(changes, removed), variants)


@pytest.fixture
def acme() -> Contract:
    return load(specimen.FOLDER)


# ---- directories


def test_the_folders_of_a_directory_are_those_with_a_lifecycle_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        specimen.write(tmp_path / name, specimen.edited({}))
    (tmp_path / "empty").mkdir()
    (tmp_path / "lifecycle.schema.json").write_text("{}")
    assert find_folders(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert [contract.key for contract in load_all(tmp_path)] == ["a", "b"]


def test_the_projects_own_contracts_are_loaded_if_no_directory_is_given() -> None:
    assert [contract.key for contract in load_all()] == [
        path.name for path in find_folders(data_directory("contracts"))
    ]


def test_a_directory_without_a_contract_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as raised:
        load_all(tmp_path)
    message = f"{tmp_path}: contains no contract; a contract is a folder with a lifecycle.json"
    assert str(raised.value) == message


def test_a_variant_of_a_provider_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ContractError) as raised:
        load_all(specimen.DIRECTORY, {"nobody": ["x"]})
    assert str(raised.value) == f"{specimen.DIRECTORY}: unknown provider 'nobody'; known: acme"


# ---- errors


def test_an_error_has_the_file_the_place_and_the_reason() -> None:
    with pytest.raises(ContractError) as raised:
        built({L + "/stages/queued/next": ["x/y"]})
    error = raised.value
    assert error.path == specimen.FOLDER / "lifecycle.json"
    assert error.pointer == "/stages/queued/next/0"
    assert error.reason == "unknown stage 'x/y'; known: queued, running, done, failed, cancelled"
    assert str(error) == f"{error.path}#{error.pointer}: {error.reason}"


@broken_in("names")
def test_a_name_that_leads_nowhere_is_an_error_at_its_place(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)


def test_an_error_of_a_whole_file_has_no_place(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as raised:
        load(tmp_path)
    assert str(raised.value) == f"{tmp_path}/openapi.json: cannot be read: No such file or directory"


def test_a_place_in_an_error_can_be_followed() -> None:
    """A name with a slash is escaped, so that the pointer leads to the member that is wrong."""
    with pytest.raises(ContractError) as raised:
        built({L + "/operations/status/situations/a~1b": {"status": 299, "example": "x"}})
    assert raised.value.pointer == "/operations/status/situations/a~1b"


@pytest.mark.parametrize(
    ("changes", "removed", "place", "reason"),
    [
        ({}, [L + "/name"], "lifecycle.json", '"name" is a required property'),
        ({}, [API + "/paths"], "openapi.json", '"paths" is a required property'),
        ({API: []}, [], "openapi.json", '[] is not of type "object"'),
        ({L: None}, [], "lifecycle.json", 'null is not of type "object"'),
        (
            {API + "/components/schemas/Job": {"$ref": "#/nowhere"}},
            [],
            "openapi.json#/components/schemas/Job/$ref",
            "'#/nowhere' does not exist",
        ),
        (
            {API + "/components/schemas/X": {"$ref": "#/components/schemas/X"}},
            [],
            "openapi.json#/components/schemas/X/$ref",
            "'#/components/schemas/X' refers back to itself",
        ),
    ],
)
def test_what_lint_would_find_before_is_an_error_of_reading_too(
    changes: Mapping[str, Any], removed: list[str], place: str, reason: str
) -> None:
    with pytest.raises(ContractError) as raised:
        built(changes, *removed)
    assert reason in raised.value.reason
    assert str(raised.value).startswith(f"{specimen.FOLDER}/{place}: ")


def test_a_shape_of_ones_own_beside_the_folders_changes_nothing(tmp_path: Path) -> None:
    """The shape of lifecycle.json belongs to the reader: an old copy of it must not let through what cannot be read."""
    folder = specimen.write(tmp_path / "acme", specimen.edited({}, [L + "/models"]))
    (tmp_path / "lifecycle.schema.json").write_text("{}")
    with pytest.raises(ContractError, match='"models" is a required property'):
        load(folder)


@pytest.mark.parametrize("folder", [specimen.FOLDER, *find_folders(DIRECTORY)], ids=lambda folder: folder.name)
def test_a_file_keeps_the_schema_that_editors_use_with_its_marks(folder: Path) -> None:
    """The loader checks a file without marks; an editor sees them."""
    schema = json.loads((data_directory("contracts") / "lifecycle.schema.json").read_text())
    found = json.loads((folder / "lifecycle.json").read_text())
    assert "x-assumed" in json.dumps(found)
    assert not list(jsonschema_rs.Draft202012Validator(schema).iter_errors(found))


# ---- variants


def test_a_variant_sets_places_anew() -> None:
    plain, varied = built({}), built({}, variants=("failed-in-short",))
    address = varied.operations["status"].situations["failed"].example_at
    assert address.endswith("/examples/failed_in_short/value")
    assert plain.operations["status"].situations["failed"].example_at.endswith("/examples/failed/value")


def test_variants_are_set_one_after_the_other() -> None:
    more = {"why": "It is longer than ten characters.", "set": {"/name": "B", "/job_id/prefix": "b-"}}
    changes = {
        L + "/variants/a": {**more, "set": {"/name": "A", "/retention/job": None}},
        L + "/variants/b": more,
    }
    contract = built(changes, variants=("a", "b"))
    assert (contract.name, contract.retention.job, contract.job_id_prefix) == ("B", None, "b-")


def test_a_variant_that_there_is_none_of_is_an_error() -> None:
    with pytest.raises(ContractError) as raised:
        load(specimen.FOLDER, ["x"])
    place = f"{specimen.FOLDER}/lifecycle.json#/variants"
    assert str(raised.value) == f"{place}: unknown variant 'x'; known: failed-in-short"


@pytest.mark.parametrize(
    ("pointer", "value", "place", "reason"),
    [
        ("/x/y", 1, "/variants/v/set/~1x~1y", "'/x/y' has no parent; a variant can set"),
        ("/models/2", {}, "/variants/v/set/~1models~12", "'2' is not an index of an array of length 2"),
        ("/~x", 1, "/variants/v/set/~1~0x", "'/~x' is not a JSON Pointer"),
        ("/name", 5, "/name", '5 is not of type "string"'),
        ("/initial", "x", "/initial", "unknown stage 'x'"),
    ],
)
def test_a_variant_that_cannot_be_set_is_an_error(pointer: str, value: Any, place: str, reason: str) -> None:
    variant = {"why": "It is longer than ten characters.", "set": {pointer: value}}
    with pytest.raises(ContractError) as raised:
        built({L + "/variants/v": variant}, variants=("v",))
    assert raised.value.pointer == place
    assert reason in raised.value.reason


def test_a_variant_that_is_not_taken_changes_nothing_and_is_not_looked_at() -> None:
    variant = {"why": "It is longer than ten characters.", "set": {"/initial": "x"}}
    assert built({L + "/variants/v": variant}).graph == built({}).graph


# ---- values


def test_the_stages_are_read_with_their_defaults(acme: Contract) -> None:
    graph = acme.graph
    assert (graph.initial, list(graph.stages)) == ("queued", ["queued", "running", "done", "failed", "cancelled"])
    assert (graph["queued"].cancellable, graph["queued"].lasts) == (True, (1, 2))
    assert (graph["done"].cancellable, graph["done"].lasts, graph["done"].next) == (False, (0.0, 0.0), ())


def test_the_hosts_are_those_of_the_servers() -> None:
    servers = [{"url": url} for url in ("https://a.example/v1", "http://b.example:8080", "/v1", "//c.example")]
    assert built({API + "/servers": servers}).hosts == ("a.example", "b.example:8080", "c.example")


def test_a_key_can_be_given_in_every_declared_way() -> None:
    schemes = {
        "bearer": {"type": "http", "scheme": "Bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-Key"},
        "query": {"type": "apiKey", "in": "query", "name": "apiKey"},
    }
    contract = built({API + "/components/securitySchemes": schemes})
    assert contract.security == (
        ("header", "authorization", "bearer "),
        ("header", "x-key", ""),
        ("query", "apiKey", ""),
    )


def test_an_operation_asks_for_a_key_unless_it_says_otherwise(acme: Contract) -> None:
    assert acme.operations["status"].authenticated
    assert not acme.operations["health"].authenticated


def test_an_operation_has_its_path_items_parameters_and_its_own(acme: Contract) -> None:
    operation = acme.operations["status"]
    assert [parameter.name for parameter in operation.parameters] == ["id", "verbose"]
    job, verbose = operation.parameters
    assert (job.required, job.part, job.type) == (True, "path", "string")
    assert (verbose.required, verbose.part, verbose.type, verbose.default) == (False, "query", "boolean", False)
    assert acme.schemas.violations(job.schema, "job-00000000000000aa") == []
    assert acme.schemas.violations(job.schema, "x") != []


def test_a_header_parameter_is_found_in_any_case(acme: Contract) -> None:
    assert acme.operations["submit"].parameters[0].place == Place("request", "header", "idempotency-key")


@pytest.mark.parametrize(
    ("role", "path", "value"),
    [
        ("status", "/v1/jobs/a", "a"),
        ("status", "/v1/jobs/a/b", None),
        ("status", "/v1/jobs/", None),
        ("status", "/v1/jobs/a/", None),
        ("result", "/v1/jobs/a/result", "a"),
        ("model", "/v1/models/a", "a"),
        ("model", "/v1/models/a/b/c", "a/b/c"),
    ],
)
def test_a_parameter_matches_one_segment_of_a_path_unless_it_says_more(
    role: str, path: str, value: str | None, acme: Contract
) -> None:
    found = acme.operations[role].pattern.fullmatch(path)
    assert (found[1] if found else None) == value


def test_the_names_of_a_path_are_the_groups_of_its_pattern(contract: Contract) -> None:
    for operation in contract.operations.values():
        assert operation.pattern.groups == len(path_names(operation.path))


def test_a_jobs_address_is_made_from_what_stands_around_its_id(acme: Contract) -> None:
    assert acme.operations["result"].link == ("/v1/jobs/", "/result")
    assert acme.operations["status"].link == ("/v1/jobs/", "")
    assert acme.operations["submit"].link is None


def test_a_common_situation_is_every_operations_that_has_its_example(acme: Contract) -> None:
    having = {role for role, operation in acme.operations.items() if "rate_limited" in operation.situations}
    assert having == {"submit"}
    assert {role for role, operation in acme.operations.items() if "unauthenticated" in operation.situations} == (
        set(acme.operations) - {"health"}
    )


def test_an_operations_own_situation_comes_before_a_common_one() -> None:
    own = {"status": 404, "example": "unknown_path"}
    contract = built({L + "/operations/status/situations/unknown_job": own})
    assert contract.operations["status"].situations["unknown_job"].example_at.endswith("/unknown_path/value")
    assert contract.operations["result"].situations["unknown_job"].example_at.endswith("/unknown_job/value")


def test_an_operations_own_binding_comes_before_a_common_one() -> None:
    contract = built({L + "/operations/status/bindings/refusal_code": "$response.body#/code"})
    assert str(contract.operations["status"].bindings["refusal_code"].response[0]) == "$response.body#/code"
    assert str(contract.operations["result"].bindings["refusal_code"].response[0]) == "$response.body#/error/code"


def test_a_situation_knows_its_schema_its_stages_and_its_condition(acme: Contract) -> None:
    situation = acme.operations["status"].situations["done_verbose"]
    assert situation.stages == {"done"}
    assert situation.when == ((Place("request", "query", "verbose"), True),)
    assert acme.schemas.violations(situation.schema, acme.schemas.at(situation.example_at)) == []
    assert acme.operations["status"].situations["queued"].headers == (("Acme-Poll", "2"),)


def test_a_model_has_the_defaults_of_its_schema(acme: Contract) -> None:
    move, cast = acme.models
    assert move.defaults == {"resolution": "720P", "duration": 5, "seed": 0, "watermark": False}
    assert cast.defaults == {"aspect_ratio": "16:9"}
    assert cast.parameters["aspect_ratio"] == (("shape", "aspect_ratio"),)


def test_a_model_is_found_by_its_id_and_its_aliases(acme: Contract) -> None:
    assert acme.model("acme/move") is acme.model("acme/move-1") is acme.models[0]
    assert acme.model("acme/cast") is acme.models[1]
    assert acme.model("acme") is None


def test_a_model_without_a_name_is_called_by_its_id(acme: Contract) -> None:
    assert [model.name for model in acme.models] == ["Move", "acme/cast"]


@pytest.mark.parametrize(("chinese", "weight"), [(50, 2), (100, 1), (200, 1), (None, 1), (25, 4)])
def test_a_chinese_character_counts_as_often_as_its_limit_says(chinese: int | None, weight: int) -> None:
    limit = {"characters": 100, "over": "refuse", **({"chinese": chinese} if chinese else {})}
    found = built({L + "/models/0/prompt_limit": limit}).models[0].prompt_limit
    assert found is not None
    assert (found.characters, found.chinese_weight, found.over) == (100, weight, "refuse")


def test_prices_are_decimal(acme: Contract) -> None:
    assert acme.models[0].price == {"720P": Decimal("0.14"), "1080P": Decimal("0.28")}
    assert acme.models[0].cost("1080P", 5) == Decimal("1.40")
    assert acme.models[0].cost(None, 5) == Decimal("1.40")


def test_idempotency_has_a_key_and_a_life_unless_there_is_none() -> None:
    assert built({}).idempotency == Idempotency("replay", Place("request", "header", "idempotency-key"), 3600)
    assert built({L + "/idempotency": {"mode": "none"}}).idempotency == Idempotency("none")
    without_life = built({L + "/idempotency": {"mode": "reject", "key": "$request.query.key"}}).idempotency
    assert without_life == Idempotency("reject", Place("request", "query", "key"), 86_400.0)


def test_callbacks_are_read_with_their_signature(acme: Contract) -> None:
    callbacks = acme.callbacks
    assert callbacks is not None
    assert callbacks.signature is not None
    assert (callbacks.retries, callbacks.deadline, callbacks.signature.tolerance) == ((1, 10), 5, 300)
    assert set(callbacks.situations) == {"done", "failed"}
    assert {slot.name for slot in callbacks.situations["done"].template.slots} == {"job", "video_url", "finished_at"}


def test_there_may_be_no_callbacks_and_no_signature() -> None:
    assert built({L + "/callbacks": None}).callbacks is None
    unsigned = built({L + "/callbacks/signature": None}).callbacks
    assert unsigned is not None
    assert unsigned.signature is None


def test_the_items_of_a_list_are_bound_one_by_one(acme: Contract) -> None:
    listed = acme.operations["list"]
    assert listed.items is not None
    assert listed.items.stages["failed"] == 3
    situation = listed.situations["listed"]
    assert len(situation.items) == 5
    assert {slot.name for slot in situation.items[0].slots} == {"job", "cost"}
    assert {slot.name for slot in situation.template.slots} == {"items", "total"}


def test_a_schema_may_refer_to_another_file_and_to_an_escaped_place() -> None:
    changes = {
        "models/cast.schema.json#/properties/text": {"$ref": "move.schema.json#/properties/a%20~1b"},
        "models/move.schema.json#/properties/a ~1b": {"type": "string", "default": "hop"},
        API + "/components/parameters/Job Id": {"name": "id", "in": "path", "required": True, "schema": {}},
        API + "/paths/~1v1~1jobs~1{id}/parameters/0": {"$ref": "#/components/parameters/Job%20Id"},
    }
    contract = built(changes)
    assert contract.models[1].defaults["prompt"] == "hop"
    assert contract.operations["status"].parameters[0].name == "id"


@contracts_that(lambda contract: bool(contract.variants))
def test_every_variant_of_a_provider_reads_otherwise(contract: Contract) -> None:
    folder = DIRECTORY / contract.key
    documents = read_documents(folder)
    for variant in contract.variants:
        varied = build(folder, documents, [variant.name])
        assert varied != contract
        assert varied.key == contract.key


def test_a_byte_order_mark_before_a_document_is_no_part_of_it(tmp_path: Path) -> None:
    directory = tmp_path / "contracts"
    shutil.copytree(DIRECTORY, directory)
    for path in directory.rglob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [one.key for one in load_all(directory)] == [one.key for one in load_all(DIRECTORY)]
