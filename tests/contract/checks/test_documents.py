"""Checks of the files of a folder, before a contract is made of them."""

from __future__ import annotations

from pathlib import Path

from hobbyhorse.contract.checks.documents import every_schema, used_models
from hobbyhorse.contract.checks.subject import Documents
from tests import specimen
from tests.contract.broken_folders import Broken, assert_found, broken_in


@broken_in("files", "openapi", "schemas", "shape")
def test_each_mistake_is_found_at_its_place_and_nothing_else_is(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)


def test_schemas_inside_schemas_are_found_with_their_places() -> None:
    files = {
        "lifecycle.json": {},
        "openapi.json": {
            "components": {"schemas": {"A": {"anyOf": [{"items": {"properties": {"b": {"type": "null"}}}}]}}}
        },
        "models/m.schema.json": {"additionalProperties": {"title": "x"}, "default": {"type": "no schema"}},
    }
    found = {(file, pointer) for file, pointer, _ in every_schema(Documents(Path("acme"), files))}
    assert found == {
        ("models/m.schema.json", ()),
        ("models/m.schema.json", ("additionalProperties",)),
        ("openapi.json", ("components", "schemas", "A")),
        ("openapi.json", ("components", "schemas", "A", "anyOf", "0")),
        ("openapi.json", ("components", "schemas", "A", "anyOf", "0", "items")),
        ("openapi.json", ("components", "schemas", "A", "anyOf", "0", "items", "properties", "b")),
    }


def test_a_model_without_a_schema_of_its_own_uses_the_only_schema_of_the_folder() -> None:
    def unused(count: int, named: str | None = None) -> list[str]:
        documents = specimen.whole(specimen.FOLDER)
        lifecycle = documents["lifecycle.json"]
        model = {key: value for key, value in lifecycle["models"][0].items() if key != "schema"}
        lifecycle = {**lifecycle, "models": [model if named is None else {**model, "schema": named}]}
        schemas = {f"models/{number}.schema.json": {"type": "object"} for number in range(count)}
        files = {"openapi.json": documents["openapi.json"], "lifecycle.json": lifecycle, **schemas}
        return [problem.path.relative_to("acme").as_posix() for problem in used_models(Documents(Path("acme"), files))]

    assert unused(1) == []
    assert unused(2) == ["models/0.schema.json", "models/1.schema.json"], "which of them it means is unclear"
    assert unused(2, "models/0.schema.json") == ["models/1.schema.json"]
