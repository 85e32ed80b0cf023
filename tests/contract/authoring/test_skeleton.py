"""A new contract: it passes lint, it can be served, and what is not known is marked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hobbyhorse.contract.authoring.layout import laid_out
from hobbyhorse.contract.authoring.skeleton import write_skeleton
from hobbyhorse.contract.authoring.source import SourceError
from hobbyhorse.contract.folder import load
from hobbyhorse.contract.forms.expressions import Pointer, replaced
from hobbyhorse.contract.lint import lint
from tests.conftest import CONTRACTS, DIRECTORY, many
from tests.world import Mock

CLIPS = """
openapi: 3.0.3
info: {title: Clips, version: 2024-01-01}
servers: [{url: /v1}, {url: "https://api.clips.example/v2"}]
paths:
  /generations:
    post:
      operationId: generate
      requestBody:
        content:
          application/json:
            schema:
              allOf:
                - $ref: "#/components/schemas/Base"
                - required: [image_url]
                  properties:
                    image_url: {type: string, format: uri}
                    duration: {type: number}
                    resolution: {type: string}
                    child: {$ref: "#/components/schemas/Base"}
      responses:
        201:
          description: Created.
          content:
            application/json:
              schema:
                type: object
                required: [data]
                properties: {data: {type: object, properties: {task_id: {type: string, pattern: "^[a-z]{4}$"}}}}
        429: {$ref: "#/components/responses/Error"}
  /generations/{task_id}:
    get:
      responses:
        200:
          description: A task.
          content:
            application/json:
              schema:
                type: object
                properties:
                  data:
                    type: object
                    properties:
                      task_id: {type: string}
                      task_status: {type: string, enum: [SUBMITTED, PROCESSING, SUCCEED, FAILED, WEIRD]}
                      result: {type: object, properties: {video_url: {type: string}}}
                      error_message: {type: string, nullable: true}
components:
  securitySchemes: {key: {type: apiKey, in: header, name: X-Key}}
  schemas:
    Base: {type: object, required: [prompt], properties: {prompt: {type: string, maxLength: 10}}}
  responses:
    Error:
      description: Wrong.
      content:
        application/json:
          schema: {type: object, properties: {error: {type: object, properties: {message: {type: string}}}}}
"""


def inside(value: Any, pointer: Pointer = ()) -> Iterator[Pointer]:
    """Yield every place of a document."""
    yield pointer
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in pairs:
        yield from inside(child, (*pointer, str(step)))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "clips.yaml").write_text(CLIPS)
    return tmp_path / "clips.yaml"


def test_a_skeleton_from_nothing_passes_lint_and_guesses_nothing(tmp_path: Path) -> None:
    assert write_skeleton(tmp_path / "first") == []
    assert lint(tmp_path / "first") == []
    for path in (tmp_path / "first").rglob("*.json"):
        assert path.read_text().endswith("\n")
    assert len((tmp_path / "first" / "lifecycle.json").read_text()) < 1_500


def test_a_skeleton_says_what_is_not_known(tmp_path: Path) -> None:
    write_skeleton(tmp_path / "first")
    (todo,) = load(tmp_path / "first").assumptions
    assert {"lifecycle.json#/polling", "lifecycle.json#/retention", "lifecycle.json#/models"} <= set(todo.at)


@pytest.mark.anyio
async def test_a_skeleton_can_be_served(tmp_path: Path) -> None:
    write_skeleton(tmp_path / "first")
    contract = load(tmp_path / "first")
    mock = Mock([contract])
    job = await mock.submit(contract)
    await mock.clock.run_until_idle()
    await mock.clock.advance(600)
    reply = await mock.call(contract, "status", path={"job": job})
    assert reply.reading is not None
    assert {contract.graph[stage].kind for stage in reply.reading.stages} == {"success"}
    assert reply.json["video_url"].startswith("http")


def test_a_skeleton_of_a_document_has_its_words(clips: Path, tmp_path: Path) -> None:
    notes = write_skeleton(tmp_path / "clips", clips)
    assert lint(tmp_path / "clips") == []
    contract = load(tmp_path / "clips")
    assert (contract.name, contract.hosts, contract.security) == (
        "Clips",
        ("api.clips.example",),
        (("header", "x-key", ""),),
    )
    assert {name: contract.graph[name].kind for name in contract.graph.stages} == {
        "submitted": "pending",
        "processing": "running",
        "succeed": "success",
        "failed": "failure",
    }
    submit, status = contract.operations["submit"], contract.operations["status"]
    assert (submit.path, status.path) == ("/generations", "/generations/{task_id}")
    assert str(status.bindings["video_url"].response[0]) == "$response.body#/data/result/video_url"
    assert str(submit.bindings["job"].response[0]) == "$response.body#/data/task_id"
    assert str(submit.bindings["refusal_message"].response[0]) == "$response.body#/error/message"
    assert submit.situations["accepted"].status == 201
    (model,) = contract.models
    assert model.task == "image-to-video"
    assert model.parameters["first_frame"] == (("image_url",),)
    assert model.parameters["prompt"] == (("prompt",),)
    for said in (
        "the class of stage 'WEIRD' is unknown; the stage is left out",
        "duration: its type is not integer; replaced",
        "resolution: its values are not listed; assumed: 720p",
        "submit: no member names the model; added as 'model'",
        "prompt: found in several places; chosen: /prompt",
    ):
        assert said in notes


def test_a_role_that_is_given_is_taken(clips: Path, tmp_path: Path) -> None:
    notes = write_skeleton(tmp_path / "clips", clips, {"submit": "generate"})
    assert not any(note.startswith("submit: generate") for note in notes)
    with pytest.raises(SourceError, match="unknown operation; known: generate, getGenerationsTaskId"):
        write_skeleton(tmp_path / "other", clips, {"submit": "x"})
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("key", [contract.key for contract in CONTRACTS])
def test_a_skeleton_can_be_made_of_each_documented_api(key: str, tmp_path: Path) -> None:
    write_skeleton(tmp_path / "copy", DIRECTORY / key / "openapi.json")
    assert lint(tmp_path / "copy") == []


ODD: dict[str, Any] = {
    "nothing but paths": {"post": {"responses": {}}, "get": {"responses": {}}},
    "responses without JSON": {"post": {"responses": {"204": {}}}, "get": {"responses": {"200": {"content": {}}}}},
    "a list": {
        "post": {"responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}}},
        "get": {"responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}}},
    },
    "a number for a status": {
        "post": {"responses": {}},
        "get": {
            "responses": {
                "200": {"content": {"application/json": {"schema": {"properties": {"status": {"type": "integer"}}}}}}
            }
        },
    },
    "schemas that are none": {
        "post": {
            "requestBody": {"content": {"application/json": {"schema": {"type": 5}}}},
            "responses": {"200": {"content": {"application/json": {"schema": 7}}}},
        },
        "get": {"responses": {"200": {"content": {"application/json": {"schema": {"properties": {"id": 1}}}}}}},
    },
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_document_gives_a_right_contract_or_one_line(name: str, tmp_path: Path) -> None:
    operations = {method: {"operationId": method, **spec} for method, spec in ODD[name].items()}
    document = {"openapi": "3.1.0", "paths": {"/a": {"post": operations["post"]}, "/a/{x}": {"get": operations["get"]}}}
    (tmp_path / "odd.json").write_text(laid_out(document))
    said = ""
    try:
        write_skeleton(tmp_path / "odd", tmp_path / "odd.json", {"submit": "post", "status": "get"})
    except SourceError as error:
        said = str(error)
    assert (tmp_path / "odd").exists() == (said == "")
    assert len(said.splitlines()) == 1 if said else lint(tmp_path / "odd") == []


PLACES = [place for place in inside(yaml.safe_load(CLIPS)) if place]


@settings(max_examples=many(60, 15))
@given(place=st.sampled_from(PLACES), value=st.sampled_from([None, 5, "x", [], {}, [1], {"a": 1}, {"$ref": "#"}, True]))
def test_no_damage_makes_the_skeleton_fail_with_anything_but_one_line(place: Pointer, value: Any) -> None:
    document = replaced(yaml.load(CLIPS, yaml.BaseLoader), place, value)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "api.json").write_text(json.dumps(document))
        try:
            write_skeleton(Path(directory) / "clips", Path(directory) / "api.json")
        except SourceError as error:
            problem = str(error)
        else:
            problem = ""
            assert lint(Path(directory) / "clips") == []
        assert len(problem.splitlines()) <= 1


@pytest.mark.parametrize("name", ["Upper", "a b", ".hidden"])
def test_a_name_that_cannot_be_a_path_prefix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="becomes a path prefix"):
        write_skeleton(tmp_path / name)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("first", "link"):
        with pytest.raises(SourceError, match="already exists; choose another name for the new contract"):
            write_skeleton(tmp_path / name)
    assert list((tmp_path / "first").iterdir()) == []
