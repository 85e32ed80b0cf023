"""The order behind a job and the key that made it, read from a trace with the contract alone. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, Message, format_pointer
from hobbyhorse.contract.request import Order, ValidRequest, read_order
from hobbyhorse.contract.schemas import Schemas, Violation
from hobbyhorse.traces import annotated
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.submissions import path_values
from hobbyhorse.traces.trace import REDACTED

# Traces whose lookup tables are cached. All rules judge one trace before the next one; a larger cache would only keep
# old traces alive.
MOST_CACHED_TRACES = 2
# The schema keywords that can refuse a value; a violation does not name its keyword.
JUDGING = ("type", "enum", "const", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum")


def order_of(trace: AnnotatedTrace, step: Step) -> Order | None:
    """Return the order in a submission; None if the body is incomplete or violates the contract."""
    operation = trace.contract.operations.get(step.role or "")
    if operation is None or step.role not in SUBMISSIONS:
        return None
    path = path_values(operation, step.exchange.url, trace.bases)
    if path is None:
        return None
    query = dict(parse_qsl(urlsplit(step.exchange.url).query))
    try:
        body = orjson.loads(step.exchange.body)
        message = Message(path, query, step.exchange.header, body)
        found = read_order(trace.contract, operation, message)
    except (TypeError, ValueError):
        return None
    return found.order if isinstance(found, ValidRequest) else None


def making(trace: AnnotatedTrace, job: str | None) -> Step | None:
    """Return the first submission whose response has a job's id."""
    return _makers(trace).get(job)


@lru_cache(maxsize=MOST_CACHED_TRACES)
def _makers(trace: AnnotatedTrace) -> Mapping[str | None, Step]:
    """Return the submissions by the job that they made."""
    # Reversed, so that the first of several responses with one id (a replayed key) is kept.
    return {step.job_told: step for step in reversed(trace.submits) if step.accepted}


def is_repeated(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether the response to a submission names a job that an earlier response has shown.

    It may be the first response once more, with the job's state at that time.
    """
    job = step.job_told if step.role in SUBMISSIONS else None
    return job is not None and any(one.ok and one.job == job and one.done <= step.arrived for one in trace.steps)


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
    """Return the order that made a job; None if the trace does not have its submission."""
    made = making(trace, job)
    return None if made is None else order_of(trace, made)


def credentials(trace: AnnotatedTrace, step: Step) -> tuple[str | None, ...]:
    """Return the keys of a request, one for each of the contract's security schemes."""
    return annotated.credentials(trace.contract, step.exchange)


def own(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a request about a job has the key that submitted the job; False if that is unknown."""
    made = making(trace, step.job)
    if made is None:
        return False
    given = credentials(trace, step)
    # Two redacted keys look equal, but may differ.
    return given == credentials(trace, made) and not any(REDACTED in (key or "") for key in given)


def schema_places(schemas: Schemas, at: str, violation: Violation) -> tuple[str, ...]:
    """Return the addresses of the keywords and schemas that a violation may concern, the most specific first."""
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
    """Yield the addresses of the schemas of a member or an item."""
    *_, at = _followed(schemas, at)
    inner = at + ("/items" if isinstance(step, int) else "/properties" + format_pointer((step,)))
    if schemas.at(inner) is not MISSING:
        yield inner
    schema = schemas.at(at)
    for number in range(len(schema.get("anyOf", ())) if isinstance(schema, dict) else 0):
        yield from _inner(schemas, f"{at}/anyOf/{number}", step)


def _followed(schemas: Schemas, at: str) -> Iterator[str]:
    """Yield an address, and each address that its `$ref` leads to within the same file."""
    yield at
    schema = schemas.at(at)
    while isinstance(schema, dict) and str(schema.get("$ref", "")).startswith("#"):
        at = at.partition("#")[0] + unquote(schema["$ref"])
        schema = schemas.at(at)
        yield at
