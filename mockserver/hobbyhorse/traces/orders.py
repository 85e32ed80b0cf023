"""What was asked, and with whose key: the order behind a job, read with the contract alone; knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from hobbyhorse.contract.folder import path_names
from hobbyhorse.contract.forms.expressions import MISSING, Message, format_pointer
from hobbyhorse.contract.request import Order, ValidRequest, read_order
from hobbyhorse.contract.schemas import Schemas, Violation
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.trace import REDACTED

MOST_CACHED_TRACES = 2
"""How many traces are remembered by what is in them."""
JUDGING = ("type", "enum", "const", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum")


def order_of(trace: AnnotatedTrace, step: Step) -> Order | None:
    """Return what a submission asks for; None where it is not whole, or breaks the contract itself."""
    operation = trace.contract.operations.get(step.role or "")
    parts = urlsplit(step.exchange.url)
    base = urlsplit(trace.trace.base).path.rstrip("/")
    if operation is None or step.role not in SUBMISSIONS or not parts.path.startswith(base):
        return None
    match = operation.pattern.fullmatch(parts.path[len(base) :])
    if match is None:
        return None
    path = dict(zip(path_names(operation.path), map(unquote, match.groups()), strict=True))
    try:
        body = orjson.loads(step.exchange.body)
        message = Message(path, dict(parse_qsl(parts.query)), step.exchange.header, body)
        found = read_order(trace.contract, operation, message)
    except (TypeError, ValueError):
        return None
    return found.order if isinstance(found, ValidRequest) else None


def making(trace: AnnotatedTrace, job: str | None) -> Step | None:
    """Return the submission that was first answered with a job's id."""
    return _makers(trace).get(job)


@lru_cache(maxsize=MOST_CACHED_TRACES)
def _makers(trace: AnnotatedTrace) -> Mapping[str | None, Step]:
    """Return the submissions by the job that they made."""
    return {step.job_told: step for step in reversed(trace.submits) if step.accepted}


def reads_of(trace: AnnotatedTrace, job: str | None) -> tuple[Step, ...]:
    """Return the requests for a job's status or result, oldest first."""
    return _reads(trace).get(job, ())


@lru_cache(maxsize=MOST_CACHED_TRACES)
def _reads(trace: AnnotatedTrace) -> Mapping[str | None, tuple[Step, ...]]:
    """Return the requests for the status or result of jobs, by job."""
    found: dict[str | None, list[Step]] = {}
    for step in trace.reads:
        found.setdefault(step.job, []).append(step)
    return {job: tuple(steps) for job, steps in found.items()}


def order_behind(trace: AnnotatedTrace, job: str | None) -> Order | None:
    """Return what was asked of a job; None where nobody saw it."""
    made = making(trace, job)
    return None if made is None else order_of(trace, made)


def credentials(trace: AnnotatedTrace, step: Step) -> tuple[str | None, ...]:
    """Return the keys that a request gives, in the order of the contract's ways to give them."""
    query = dict(parse_qsl(urlsplit(step.exchange.url).query))
    ways = trace.contract.security
    return tuple(step.exchange.header(name) if part == "header" else query.get(name) for part, name, _ in ways)


def own(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a request about a job was made with the key that ordered the job; False where that is not known."""
    made = making(trace, step.job)
    if made is None:
        return False
    given = credentials(trace, step)
    return given == credentials(trace, made) and not any(REDACTED in (key or "") for key in given)


def schema_places(schemas: Schemas, at: str, violation: Violation) -> tuple[str, ...]:
    """Return the addresses in the schema at an address of what a value breaks there, most special first."""
    steps, missing = violation.location, violation.message == "is missing"
    for step in steps[:-1] if missing else steps:
        inner = next(_inner(schemas, at, step), None)
        if inner is None:
            break
        at = inner
    *_, at = _followed(schemas, at)
    if missing:
        return (f"{at}/required", at)
    schema = schemas.at(at)
    words = [word for word in JUDGING if isinstance(schema, dict) and word in schema]
    return (*(f"{at}/{word}" for word in words), at)


def _inner(schemas: Schemas, at: str, step: str | int) -> Iterator[str]:
    """Yield where the schema of a member or an item stands."""
    *_, at = _followed(schemas, at)
    inner = at + ("/items" if isinstance(step, int) else "/properties" + format_pointer((step,)))
    if schemas.at(inner) is not MISSING:
        yield inner
    schema = schemas.at(at)
    for number in range(len(schema.get("anyOf", ())) if isinstance(schema, dict) else 0):
        yield from _inner(schemas, f"{at}/anyOf/{number}", step)


def _followed(schemas: Schemas, at: str) -> Iterator[str]:
    """Yield an address, and those that its `$ref` leads to inside the same file."""
    yield at
    schema = schemas.at(at)
    while isinstance(schema, dict) and str(schema.get("$ref", "")).startswith("#"):
        at = at.partition("#")[0] + unquote(schema["$ref"])
        schema = schemas.at(at)
        yield at
