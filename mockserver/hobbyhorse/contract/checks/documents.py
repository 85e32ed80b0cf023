"""Checks of the files, before a contract is built from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from hobbyhorse.contract.checks.subject import Documents, Problem
from hobbyhorse.contract.documents.operations import LIFECYCLE, OPENAPI, bodiless, declared_operations, follow
from hobbyhorse.contract.folder import MALFORMED_MARK, misshapen
from hobbyhorse.contract.forms.expressions import Pointer
from hobbyhorse.contract.references import broken_references, files_referred_to, keyword_objects
from hobbyhorse.contract.schemas import Schemas, address

DIALECT = "https://json-schema.org/draft/2020-12/schema"
KEYWORDS = frozenset(
    {
        *("$schema", "$id", "$ref", "title", "description", "default", "example", "examples", "format"),
        *("type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
        *("minLength", "maxLength", "pattern", "minimum", "maximum", "anyOf"),
    }
)
"""The schema keywords that contracts may use; contracts/README.md has the same list."""


def folder_name(documents: Documents) -> Iterator[Problem]:
    """The folder's name is usable as a path prefix."""
    name = documents.folder.name
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        message = f"the name {name!r} becomes a path prefix; allowed: lower-case letters, digits, '.', '_' and '-'"
        yield Problem(documents.folder, "", message)


def files(documents: Documents) -> Iterator[Problem]:
    """The folder contains only openapi.json, lifecycle.json and models/*.schema.json."""
    for path in sorted(documents.folder.rglob("*")):
        if not path.is_file() or path.relative_to(documents.folder).as_posix() in documents.files:
            continue
        # Code in a contract would run on the machine of every user of that contract.
        if path.suffix != ".json":
            yield Problem(path, "", "not a .json file; a contract contains only data, so remove this file")
        else:
            yield Problem(path, "", f"unused file; allowed: {OPENAPI}, {LIFECYCLE}, models/*.schema.json")


def repeated_members(documents: Documents) -> Iterator[Problem]:
    """No object has two members with the same name, because JSON readers keep only one of them."""
    for file in documents.files:
        repeated: list[str] = []

        def note(members: list[tuple[str, Any]], repeated: list[str] = repeated) -> None:
            names = [name for name, _ in members]
            repeated += [name for name in dict.fromkeys(names) if names.count(name) > 1]

        path = documents.folder / file
        # orjson keeps the last of two members silently; only this parser reports both.
        if path.is_file():
            json.loads(path.read_bytes(), object_pairs_hook=note)
        for name in repeated:
            yield documents.problem(f"an object has the member {name!r} twice; readers keep only the last", file=file)


def openapi_version(documents: Documents) -> Iterator[Problem]:
    """openapi.json is OpenAPI 3.1."""
    document = documents.files[OPENAPI]
    version = document.get("openapi") if isinstance(document, dict) else None
    if isinstance(version, str) and not re.fullmatch(r"3\.1\.[0-9]+", version):
        yield documents.problem(f"is {version!r}; allowed: 3.1, such as '3.1.0'", "openapi", file=OPENAPI)


def bodies(documents: Documents) -> Iterator[Problem]:
    """A response has no content if its status forbids a body."""
    openapi = documents.files[OPENAPI]
    # Other checks report a document that has no operations to walk.
    readable = not any(shapes(documents)) and not any(reference_targets(documents))
    for found in declared_operations(openapi) if readable else ():
        for status, declared in found.spec.get("responses", {}).items():
            response, home = follow(openapi, declared, (*found.pointer, "responses", status))
            if bodiless(status) and response.get("content"):
                message = f"a response {status} has no body: remove 'content', and name its situation in {LIFECYCLE}"
                yield documents.problem(message, *home, "content", file=OPENAPI)


def marks(documents: Documents) -> Iterator[Problem]:
    """A mark is the key of a reason, or an object that maps members or pointers to such keys."""
    for file, pointer in documents.malformed:
        yield documents.problem(MALFORMED_MARK, *pointer, file=file)


def shapes(documents: Documents) -> Iterator[Problem]:
    """openapi.json and lifecycle.json have the shape that the loader reads."""
    for file, location, reason in misshapen(documents.files):
        yield documents.problem(reason, *location, file=file)


def reference_targets(documents: Documents) -> Iterator[Problem]:
    """Every $ref leads to an object in the folder."""
    for file, location, reason in broken_references(_schema_files(documents)):
        yield documents.problem(reason, *location, file=file)


def operation_ids(documents: Documents) -> Iterator[Problem]:
    """No two operations of openapi.json have the same operationId."""
    seen: dict[str, Pointer] = {}
    for pointer, value in keyword_objects(documents.files[OPENAPI]):
        name = value.get("operationId")
        if isinstance(name, str) and pointer[0] == "paths":
            if name in seen:
                message = f"{name!r} is also the operation at {'/'.join(seen[name])}"
                yield documents.problem(message, *pointer, "operationId", file=OPENAPI)
            seen[name] = pointer


def keywords(documents: Documents) -> Iterator[Problem]:
    """Schemas use only the keywords that contracts/README.md lists."""
    for file, pointer, schema in every_schema(documents):
        for name in schema:
            if name not in KEYWORDS:
                message = f"keyword {name!r} is not allowed; contracts/README.md lists the allowed keywords"
                yield documents.problem(message, *pointer, name, file=file)


def valid_schemas(documents: Documents) -> Iterator[Problem]:
    """Every schema is a JSON Schema 2020-12, and Python and Rust can both compile its patterns."""
    for file, pointer, schema in root_schemas(documents):
        if isinstance(schema, dict) and schema.get("$schema", DIALECT) != DIALECT:
            message = f"is {schema['$schema']!r}; allowed: {DIALECT!r}"
            yield documents.problem(message, *pointer, "$schema", file=file)
            continue
        try:
            jsonschema_rs.meta.validate(schema)
        except jsonschema_rs.ValidationError as error:
            message = f"violates JSON Schema 2020-12: {' '.join(error.message.split())}"
            yield documents.problem(message, *pointer, *error.instance_path, file=file)
    for file, pointer, schema in every_schema(documents):
        if isinstance(pattern := schema.get("pattern"), str):
            # Python generates values for a pattern and Rust validates them; each rejects some syntax of the other.
            try:
                re.compile(pattern)
                jsonschema_rs.Draft202012Validator({"pattern": pattern})
            except (re.error, ValueError) as error:
                message = f"{pattern!r} is not a regular expression: {str(error).splitlines()[0]}"
                yield documents.problem(message, *pointer, "pattern", file=file)


def usable_schemas(documents: Documents) -> Iterator[Problem]:
    """Each schema of a folder can be compiled together with the schemas that it refers to."""
    if any(reference_targets(documents)) or any(valid_schemas(documents)):
        return
    # Schemas that are valid individually can still conflict, for example through a shared $id.
    schemas = Schemas(_schema_files(documents))
    for file, pointer, _ in root_schemas(documents):
        try:
            schemas.validator(address(file, pointer))
        except ValueError as error:
            yield Problem(documents.folder, "", f"the schemas cannot be used together: {str(error).splitlines()[0]}")
            return


def used_models(documents: Documents) -> Iterator[Problem]:
    """Every file in models/ is the schema of a model, or a $ref refers to it."""
    # A wrong shape is already reported, and this check could not walk it.
    if any(shapes(documents)):
        return
    named = [model.get("schema") for model in documents.files[LIFECYCLE]["models"]]
    models = [file for file in documents.files if file not in (OPENAPI, LIFECYCLE)]
    # A model that names no schema uses the folder's only schema.
    used = {*named, *(models if None in named and len(models) == 1 else ())}
    used |= files_referred_to(_schema_files(documents))
    for file in documents.files:
        if file not in (OPENAPI, LIFECYCLE) and file not in used:
            yield documents.problem(f"no model of {LIFECYCLE} uses this schema", file=file)


def root_schemas(documents: Documents) -> Iterator[tuple[str, Pointer, Any]]:
    """Yield every schema that is not inside another, with its file and place."""
    for file, document in documents.files.items():
        if file not in (OPENAPI, LIFECYCLE):
            yield file, (), document
    for pointer, value in keyword_objects(documents.files[OPENAPI]):
        if isinstance(value.get("schema"), dict | bool):
            yield OPENAPI, (*pointer, "schema"), value["schema"]
        if pointer == ("components",) and isinstance(value.get("schemas"), dict):
            for name, schema in value["schemas"].items():
                yield OPENAPI, (*pointer, "schemas", name), schema


def every_schema(documents: Documents) -> Iterator[tuple[str, Pointer, dict[str, Any]]]:
    """Yield every schema that is an object, including nested schemas, with its file and place."""
    for file, pointer, schema in root_schemas(documents):
        for inner, found in _subschemas(pointer, schema):
            yield file, inner, found


def _subschemas(pointer: Pointer, schema: Any) -> Iterator[tuple[Pointer, dict[str, Any]]]:
    if not isinstance(schema, dict):
        return
    yield pointer, schema
    inner: list[tuple[Pointer, Any]] = [((name,), schema.get(name)) for name in ("items", "additionalProperties")]
    if isinstance(properties := schema.get("properties"), dict):
        inner += [(("properties", name), child) for name, child in properties.items()]
    if isinstance(readings := schema.get("anyOf"), list):
        inner += [(("anyOf", str(index)), child) for index, child in enumerate(readings)]
    for steps, child in inner:
        yield from _subschemas((*pointer, *steps), child)


def _schema_files(documents: Documents) -> dict[str, Any]:
    return {file: document for file, document in documents.files.items() if file != LIFECYCLE}
