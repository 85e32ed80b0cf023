"""Read an OpenAPI document: find the operations that a contract needs, and reduce schemas to a contract's keywords.

A contract's schemas use few keywords, so that any tool can generate valid and invalid values from them. A schema with
other keywords is reduced to one that accepts at least the same values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from hobbyhorse.contract.documents.operations import JSON_BODY
from hobbyhorse.contract.forms.expressions import MISSING, ExpressionError, Pointer, parse_pointer, resolve
from hobbyhorse.contract.shapes import METHODS

# Recursive schemas are truncated at this depth; responses of generation APIs are about 6 levels deep.
DEEPEST_SCHEMA = 10

# A document with more values than this is not an API description; a YAML file of a few lines can expand to a billion.
MOST_VALUES = 1_000_000

KEPT = ("title", "description", "default", "format", "type", "enum", "const", "required")
COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum")

ID = re.compile(r"(?:.*_)?(?:id|uuid)|.*I[dD]", re.DOTALL)
"""Matches the names of members that can be a job's id."""


class SourceError(ValueError):
    """The document or the chosen roles cannot be turned into a contract."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An operation of the document: its method, path and id, its operation object (`spec`), and its path item."""

    method: str
    path: str
    id: str
    spec: Mapping[str, Any]
    item: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """The names of the path's parameters, in order."""
        return re.findall(r"\{([^}]+)\}", self.path)


class Source:
    """An OpenAPI 3 document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        version = document.get("openapi")
        if not isinstance(version, str) or not version.startswith("3.") or not isinstance(document.get("paths"), dict):
            raise SourceError("is not an OpenAPI 3 document: it needs `openapi: 3.x` and `paths`")

    def candidates(self) -> Iterator[Candidate]:
        """Yield every operation. An operation without an operationId is named after its method and path."""
        for path, item in self.document["paths"].items():
            for method in METHODS if isinstance(item, dict) else ():
                if isinstance(spec := item.get(method), dict):
                    words = re.findall(r"[A-Za-z0-9]+", path)
                    named = method + "".join(word[:1].upper() + word[1:] for word in words)
                    yield Candidate(method, str(path), str(spec.get("operationId", named)), spec, item)

    def follow(self, value: Any) -> Any:
        """Return the value that a `$ref` leads to, or the value itself. A broken or circular `$ref` gives {}."""
        for _ in range(DEEPEST_SCHEMA):
            if not isinstance(value, dict) or not isinstance(text := value.get("$ref"), str):
                return value
            if not text.startswith("#"):
                return {}  # another file, which is not read
            try:
                value = resolve(self.document, parse_pointer(unquote(text.partition("#")[2])))
            except ExpressionError:
                return {}
        return {}

    def json_schema(self, holder: Any) -> Any:
        """Return the JSON schema of a request body or a response, or MISSING."""
        return resolve(self.follow(holder), (*JSON_BODY, "schema"))

    def granted(self, found: Candidate) -> tuple[str, Any]:
        """Return the status and JSON schema of an operation's first 2xx response."""
        responses = found.spec.get("responses", {})
        for status, response in sorted(responses.items()) if isinstance(responses, dict) else ():
            if re.fullmatch("2[0-9][0-9]", str(status)) and (schema := self.json_schema(response)) is not MISSING:
                return str(status), self.simple(schema)
        return "200", {"type": "object"}

    def refusal_schema(self) -> Any:
        """Return the JSON schema of the first refusal that the document describes, or MISSING."""
        for found in self.candidates():
            responses = found.spec.get("responses", {})
            for status, response in responses.items() if isinstance(responses, dict) else ():
                schema = self.json_schema(response)
                if re.fullmatch("4[0-9][0-9]|4XX|default", str(status)) and schema is not MISSING:
                    return self.simple(schema)
        return MISSING

    def simple(self, schema: Any, depth: int = 0) -> dict[str, Any]:
        """Return a schema reduced to a contract's keywords, with references replaced by their targets."""
        schema = self.follow(schema)
        if not isinstance(schema, dict) or depth > DEEPEST_SCHEMA:
            return {}
        # allOf is merged first, because `type` and `properties` are often in different parts of it.
        schema = self._merged(schema)
        simple = {name: schema[name] for name in KEPT if name in schema}
        simple |= {name: one for name in COUNTS if type(one := schema.get(name)) in (int, float)}
        if _is_pattern(pattern := schema.get("pattern")):
            simple["pattern"] = pattern
        if isinstance(properties := schema.get("properties"), dict):
            simple["properties"] = {name: self.simple(one, depth + 1) for name, one in properties.items()}
        if "items" in schema:
            simple["items"] = self.simple(schema["items"], depth + 1)
        if isinstance(more := schema.get("additionalProperties"), bool):
            simple["additionalProperties"] = more
        if isinstance(readings := schema.get("oneOf", schema.get("anyOf")), list) and readings:
            simple["anyOf"] = [self.simple(one, depth + 1) for one in readings]
        # OpenAPI 3.0 has `nullable`; 3.1 has the type null.
        if schema.get("nullable") is True and isinstance(simple.get("type"), str):
            simple["type"] = [simple["type"], "null"]
        return simple

    def _merged(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema into which the members of its `allOf` are merged."""
        merged = dict(schema)
        for part in schema.get("allOf", ()) if isinstance(schema.get("allOf"), list) else ():
            found = self.follow(part)
            found = self._merged(found) if isinstance(found, dict) else {}
            for name, value in found.items():
                if name == "properties" and isinstance(value, dict):
                    merged[name] = {**merged.get(name, {}), **value}
                elif name == "required" and isinstance(value, list):
                    merged[name] = [*merged.get(name, []), *(one for one in value if one not in merged.get(name, []))]
                else:
                    # The schema's own member wins, because a part of `allOf` is usually more general.
                    merged.setdefault(name, value)
        return merged


def read_source(path: Path) -> Source:
    """Read an OpenAPI document in JSON or YAML. Raises SourceError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from None
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, _Loader)
    except json.JSONDecodeError as error:
        raise SourceError(f"{path} is not valid JSON: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise SourceError(f"{path} is not an OpenAPI 3 document: it is not an object")
    try:
        return Source(_plain(document))
    except SourceError as error:
        raise SourceError(f"{path} {error}") from None


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """A YAML loader that produces only JSON's types: a date stays a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _plain(document: Any) -> Any:
    """Return a YAML value with only string keys. Raises SourceError if the value is too large or contains itself."""
    left = MOST_VALUES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        # Anchors let a YAML value contain itself, or another value many times.
        if left < 0 or depth > 200:
            raise SourceError("is not an OpenAPI 3 document: it is too large or contains itself")
        if isinstance(value, dict):
            return {str(key): plain(one, depth + 1) for key, one in value.items()}
        return [plain(one, depth + 1) for one in value] if isinstance(value, list) else value

    return plain(document, 0)


def _is_pattern(pattern: Any) -> bool:
    try:
        return isinstance(pattern, str) and bool(re.compile(pattern))
    except re.error:
        return False


# ---- roles


def choose_roles(source: Source, given: Mapping[str, str]) -> tuple[dict[str, Candidate], list[str]]:
    """Return the operations that submit a job and report its status, and a note for each guessed operation.

    Submit is the first POST whose response has an id. Status is a GET with one path parameter. If there are several,
    one whose response has a stage is preferred, then one under the path of submit. Raises SourceError if an operation
    cannot be found.
    """
    every = list(source.candidates())
    roles: dict[str, Candidate] = {}
    notes = []
    for role, name in given.items():
        if role not in ("submit", "status"):
            raise SourceError(f"--role {role}={name}: allowed: submit and status; add other roles by hand")
        found = next((one for one in every if one.id == name), None)
        if found is None:
            raise SourceError(f"--role {role}={name}: unknown operation; known: {', '.join(one.id for one in every)}")
        roles[role] = found
    if "submit" not in roles:
        posts = [one for one in every if one.method == "post" and find_member(source.granted(one)[1], is_id)]
        if not posts:
            raise SourceError("no POST returns an id; choose the operation with --role submit=OPERATION_ID")
        roles["submit"] = posts[0]
        notes.append(f"submit: {posts[0].id}, the first POST whose response has an id")
    if "status" not in roles:
        gets = [one for one in every if one.method == "get" and len(one.names) == 1]
        if not gets:
            raise SourceError("no GET has one path parameter; choose the operation with --role status=OPERATION_ID")
        gets = [one for one in gets if find_member(source.granted(one)[1], is_stage)] or gets
        gets = [one for one in gets if one.path.startswith(roles["submit"].path.partition("{")[0])] or gets
        roles["status"] = gets[0]
        notes.append(f"status: {gets[0].id}, a GET with one path parameter")
    if len(roles["status"].names) != 1:
        raise SourceError(f"status: the path {roles['status'].path} must have exactly one parameter, the job's id")
    return roles, notes


# ---- schemas


def is_id(name: str, schema: Mapping[str, Any]) -> bool:
    """Whether a member can be a job's id."""
    return bool(ID.fullmatch(name)) and has_type(schema, "string")


def is_stage(name: str, schema: Mapping[str, Any]) -> bool:
    """Whether a member can be a job's stage."""
    named = name.lower() in ("status", "state", "task_status", "job_status", "status_code")
    return named and (has_type(schema, "string") or any(isinstance(word, str) for word in schema.get("enum", ())))


def relaxed(schema: Any) -> dict[str, Any]:
    """Return a schema without the keywords that an invented value is likely to violate."""
    kept = {name: schema[name] for name in ("type", "enum", "const", "required", "title") if name in schema}
    if "properties" in schema:
        kept["properties"] = {name: relaxed(one) for name, one in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = relaxed(schema["items"])
    if "anyOf" in schema:
        kept["anyOf"] = [relaxed(one) for one in schema["anyOf"]]
    return kept


def has_type(schema: Mapping[str, Any], kind: str) -> bool:
    """Whether a schema allows a JSON type."""
    types = schema.get("type", [])
    return kind in ([types] if isinstance(types, str) else types)


def find_member(schema: Any, wanted: Any, pointer: Pointer = ()) -> Pointer | None:
    """Return the place of the first member for which `wanted(name, schema)` is true, searching outer members first."""
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    # Breadth first: the outermost id is the job's; an inner id may be a user's.
    for name, one in properties.items():
        if wanted(name, one):
            return (*pointer, name)
    for name, one in properties.items():
        if len(pointer) < 3 and (found := find_member(one, wanted, (*pointer, name))) is not None:
            return found
    return None


def sample(schema: Any) -> Any:
    """Return an example of a schema, with every declared member."""
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("anyOf"):
        return sample(schema["anyOf"][0])
    types = schema.get("type", "object" if "properties" in schema else "string")
    kind = types if isinstance(types, str) else next(iter(types), "null")
    if kind == "object":
        return {name: sample(one) for name, one in schema.get("properties", {}).items()}
    if kind == "array":
        return [sample(schema.get("items", {}))] * max(1, int(schema.get("minItems", 1)))
    if kind in ("integer", "number"):
        least = schema.get("minimum", min(1, schema.get("maximum", 1)))
        return int(least) if kind == "integer" else least
    if kind == "string":
        return _text(schema)
    return False if kind == "boolean" else None


def _text(schema: Mapping[str, Any]) -> str:
    shown = {"date-time": "2026-01-01T00:00:00Z", "uri": "https://example.com/file", "uuid": "0" * 32}
    text = shown.get(str(schema.get("format")), "text")
    return text.ljust(int(schema.get("minLength", 0)), "x")[: int(schema.get("maxLength", 200))]
