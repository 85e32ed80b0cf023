"""Queries for the suite: values at the documented bounds of each parameter, and values beyond them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hobbyhorse.contract.values import Contract, Operation, Parameter

if TYPE_CHECKING:
    from hobbyhorse.conformance.server.session import Session

# A longer enum is not tried whole: each value is a request.
MOST_CHOICES = 6
NO_CHOICE = "no-such-value"
GRANTED, REFUSED = "query:bound", "query:negative"


@dataclass(frozen=True, slots=True)
class Query:
    """A query of one parameter: the probe's name, and the value as text. `expected` is a situation if it is invalid."""

    probe: str
    name: str
    value: str
    expected: str | None = None


def queries(contract: Contract, operation: Operation) -> Iterator[Query]:
    """Yield the queries at the bounds of an operation's parameters, and beyond them.

    A place of the request that selects another form of the response is left out: the probes of jobs request it.
    """
    for parameter in operation.parameters:
        schema = contract.schemas.followed(parameter.schema)
        if parameter.part == "query" and isinstance(schema, Mapping):
            yield from _each(parameter, schema)


def _each(parameter: Parameter, schema: Mapping[str, Any]) -> Iterator[Query]:
    # No document says that a cursor or a search has to be refused, so a text without choices has no bound.
    for label, value in _valid(schema):
        yield Query(f"{GRANTED}:{parameter.name}:{label}", parameter.name, value)
    for keyword, value in _invalid(schema):
        yield Query(f"{REFUSED}:{parameter.name}:{keyword}", parameter.name, value, "invalid_request")


def _valid(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for choice in schema.get("enum", [])[:MOST_CHOICES]:
        yield str(choice), written(choice)
    for keyword in ("minimum", "maximum"):
        if keyword in schema and "enum" not in schema:
            yield keyword, written(schema[keyword])
    if schema.get("type") == "boolean":
        yield from (("true", "true"), ("false", "false"))


def _invalid(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "enum" in schema:
        yield "enum", NO_CHOICE
    elif schema.get("type") in ("integer", "number", "boolean"):
        yield "type", NO_CHOICE
    if "minimum" in schema:
        yield "minimum", written(schema["minimum"] - 1)
    if "maximum" in schema:
        yield "maximum", written(schema["maximum"] + 1)


def written(value: Any) -> str:
    """Return a value as the text of a query."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def ask(session: Session, role: str) -> None:
    """Send each query of an operation. Raises Skipped."""
    operation = session.contract.operations[role]
    named = any(one.part == "path" for one in operation.parameters)
    for query in queries(session.contract, operation):
        sent: dict[str, Any] = {"query": {query.name: query.value}, "expected": query.expected}
        if named:
            session.poll(session.finished().id, query.probe, role, **sent)
        else:
            session.pause(session.contract.polling.least_interval)
            session.call(role, probe=query.probe, **sent)


def form_queries(operation: Operation | None) -> list[dict[str, str]]:
    """Return the queries that request another form of the response."""
    found = []
    for situation in operation.situations.values() if operation is not None else ():
        for place, value in situation.when:
            query = {place.name: str(value).lower() if isinstance(value, bool) else str(value)}
            if place.part == "query" and query not in found:
                found.append(query)
    return found
