"""Servers that break the rules about the values of responses, as plain data for mutants.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, replaced, resolve
from hobbyhorse.contract.values import Contract

from .bending import Bend, Request, Response
from .query_mutants import DataMutant

# The first of all jobs is created at this moment of the year 2026, and so are the others.
LONG_AGO = 1_770_000_000


def without_header(name: str) -> Callable[[Contract], Bend]:
    return lambda contract: Bend(response=lambda request, response: response.with_header(name, None))


def changed(role: str, place: str, change: Callable[[Any], Any]) -> Callable[[Contract], Bend]:
    """Return a bend that changes, or drops, one value of an operation's responses if it is not empty."""
    pointer = parse_pointer(place)

    def response(request: Request, response: Response) -> Response:
        body = response.json
        value = resolve(body, pointer) if request.role == role and response.ok else None
        return response.with_json(replaced(body, pointer, change(value))) if value else response

    return lambda contract: Bend(response=response)


def created_long_ago(contract: Contract) -> Bend:
    bends = [changed(role, "/created_at", lambda value: LONG_AGO)(contract) for role in ("submit", "status")]

    def response(request: Request, response: Response) -> Response:
        for bend in bends:
            response = bend.response(request, response)
        return response

    return Bend(response=response)


def dropped(value: Any) -> Any:
    return MISSING


VALUES: tuple[DataMutant, ...] = (
    (
        "VAL-01",
        "hiapi",
        "a replay is not marked as one",
        without_header("idempotent-replay"),
        ("job", "idempotency"),
        False,
    ),
    (
        "VAL-02",
        "vtrix",
        "a submission and its polls have different models",
        changed("submit", "/model", lambda value: f"{value}-fast"),
        ("job",),
        False,
    ),
    (
        "VAL-02",
        "runflow",
        "a list has other creation times than the polls",
        changed("list", "/items/0/created_at", lambda value: "2026-01-01T00:00:00.000Z"),
        ("job", "identity:list"),
        False,
    ),
    (
        "VAL-03",
        "hiapi",
        "the link of the video has no expiry",
        changed("status", "/data/output/0/expireAt", dropped),
        ("job",),
        False,
    ),
    (
        "VAL-04",
        "vtrix",
        "every task is created at the same time",
        created_long_ago,
        ("*",),
        False,
    ),
)
