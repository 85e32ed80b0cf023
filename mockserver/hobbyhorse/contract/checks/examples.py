"""Checks of examples and defaults, and of the servers and security of openapi.json."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from hobbyhorse.contract.checks.documents import every_schema
from hobbyhorse.contract.checks.subject import Problem, Subject
from hobbyhorse.contract.documents.defaults import GRANTED, REFUSALS, UNROUTED
from hobbyhorse.contract.documents.operations import LIFECYCLE, OPENAPI
from hobbyhorse.contract.forms.expressions import Pointer
from hobbyhorse.contract.references import keyword_objects
from hobbyhorse.contract.schemas import address
from hobbyhorse.contract.values import Contract, Situation

KEYED = ("submit", "run", "status", "result", "cancel", "list")
"""The roles that handle the jobs of one client."""


def servers(subject: Subject) -> Iterator[Problem]:
    """At least one server of openapi.json has a host."""
    if not subject.contract.hosts:
        message = "no server has a host, such as 'https://api.example.com'; clients with a fixed host need it"
        yield subject.problem(message, "servers", file=OPENAPI)


def security(subject: Subject) -> Iterator[Problem]:
    """There is a security scheme, every operation on jobs requires one, and every required scheme exists."""
    schemes = subject.schemas.document(OPENAPI).get("components", {}).get("securitySchemes", {})
    if not schemes:
        message = "has no securitySchemes; add one, because only a key separates one client's jobs from another's"
        yield subject.problem(message, "components", file=OPENAPI)
    for pointer, value in keyword_objects(subject.schemas.document(OPENAPI)):
        for index, requirement in enumerate(_requirements(value)):
            for name in requirement:
                if name not in schemes:
                    message = f"unknown security scheme {name!r}; known: {', '.join(schemes) or 'none'}"
                    yield subject.problem(message, *pointer, "security", index, file=OPENAPI)
    # Only the key isolates clients: without a key, every client would see all jobs.
    for role, operation in subject.contract.operations.items():
        if role in KEYED and not operation.authenticated:
            message = f"{operation.operation_id} requires no key; only a key separates one client's jobs from another's"
            yield subject.problem(message, "operations", role, "operationId")


def _requirements(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = value.get("security", []) if "paths" in value or "responses" in value else []
    return [requirement for requirement in found if isinstance(requirement, dict)] if isinstance(found, list) else []


def schema_examples(subject: Subject) -> Iterator[Problem]:
    """A schema's default and examples are valid against the schema."""
    for file, pointer, schema in every_schema(subject.documents):
        shown: list[tuple[Pointer, Any]] = [
            ((name,), schema[name]) for name in ("default", "example") if name in schema
        ]
        shown += [(("examples", str(index)), value) for index, value in enumerate(schema.get("examples", ()))]
        for steps, value in shown:
            for violation in subject.schemas.violations(address(file, pointer), value, most=1):
                yield subject.problem(f"is invalid against its own schema: {violation}", *pointer, *steps, file=file)


def examples(subject: Subject) -> Iterator[Problem]:
    """Every example of a message is valid against its schema."""
    for pointer, content in _contents(subject.schemas.document(OPENAPI)):
        for name, example in content.get("examples", {}).items():
            for violation in subject.schemas.violations(address(OPENAPI, (*pointer, "schema")), example["value"], 1):
                message = f"the example is invalid: {violation}"
                yield subject.problem(message, *pointer, "examples", name, file=OPENAPI)


def used_examples(subject: Subject) -> Iterator[Problem]:
    """Every example of a response belongs to a situation of the contract or of a variant."""
    used = {situation.example_at for contract in subject.family for situation in _situations(contract)}
    for pointer, content in _contents(subject.schemas.document(OPENAPI)):
        # A request body's example is a submission, not a response. In a callback, the request body is the message sent.
        if "requestBody" in pointer and "callbacks" not in pointer:
            continue
        for name in content.get("examples", {}):
            at = (*pointer, "examples", name)
            if address(OPENAPI, (*at, "value")) not in used:
                message = f"no situation uses this example{_hint(subject, name)}"
                yield subject.problem(message, *at, file=OPENAPI)


def _hint(subject: Subject, name: str) -> str:
    """Return a hint about why no situation uses an example: it has two statuses, or its name is misspelt."""
    known = {
        *REFUSALS,
        *UNROUTED,
        *subject.contract.graph.stages,
        *(one for names in GRANTED.values() for one in names),
    }
    if name in known:
        return f"; if several responses of an operation have it, give {name!r} a status in {LIFECYCLE}"
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f"; is it {near[0]!r}?" if near else ""


def _contents(document: Any) -> Iterator[tuple[Pointer, Mapping[str, Any]]]:
    """Yield every media type object of openapi.json with its place."""
    for pointer, value in keyword_objects(document):
        if "schema" in value and len(pointer) > 1 and pointer[-2] == "content":
            yield pointer, value


def _situations(contract: Contract) -> Iterator[Situation]:
    for operation in contract.operations.values():
        yield from operation.situations.values()
    yield from contract.unrouted.values()
    if contract.callbacks is not None:
        yield from contract.callbacks.situations.values()
