"""Records from the JSON of the control plane: one function a record. Imports no server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from hobbyhorse.contract.forms.nearest import Difference
from hobbyhorse.testing.records import (
    ArmedScenario,
    CallbackAttempt,
    Exchange,
    Job,
    JobError,
    JobOrder,
    NearestOperation,
    ScenarioName,
    Step,
)
from hobbyhorse.worlds.ledger import Ledger, LedgerEntry


def read_job(found: Mapping[str, Any], now: float) -> Job:
    """Return a job that was read at a moment of its world's clock."""
    order, error = found["order"], found["error"] or {"code": None, "message": None}
    return Job(
        id=found["id"],
        provider=found["provider"],
        model=found["model"],
        order=JobOrder(**{**order, "references": tuple(order["references"])}),
        timeline=tuple(Step(step["at"], step["stage"]) for step in found["timeline"]),
        error=JobError(error["code"], error["message"]),
        cost=read_money(found["cost"]),
        seed=found["seed"],
        held=found["held"],
        collected=found["collected"],
        scenario=found["scenario"],
        expires=found["expires"],
        curl=found["curl"],
        read=now,
        kinds={step["stage"]: step["class"] for step in found["timeline"]},
    )


def read_money(amount: float) -> Decimal:
    """Return an amount in USD."""
    # Through text: Decimal(0.1) would be 0.1000000000000000055...
    return Decimal(str(amount))


def read_nearest(found: Mapping[str, Any]) -> NearestOperation:
    """Return the operation that a refused request was probably meant for."""
    differences = tuple(Difference(one["part"], one["at"], one["message"]) for one in found["differences"])
    return NearestOperation(found["role"], found["method"], found["path"], differences, found["text"])


def read_exchange(found: Mapping[str, Any]) -> Exchange:
    """Return an exchange."""
    return Exchange(
        moment=found["moment"],
        provider=found["provider"],
        role=found["role"],
        situation=found["situation"],
        job=found["job"],
        made=found["made"],
        method=found["method"],
        path=found["path"],
        query=found["query"],
        headers=tuple((name, value) for name, value in found["headers"]),
        body=found["body"].encode(),
        status=found["status"],
        answer=found["answer"].encode(),
        notes=tuple(found["notes"]),
        move=found["move"],
        nearest=read_nearest(found["nearest"]) if found["nearest"] else None,
    )


def read_attempt(found: Mapping[str, Any]) -> CallbackAttempt:
    """Return an attempt to deliver a callback."""
    return CallbackAttempt(
        moment=found["moment"],
        job=found["job"],
        number=found["number"],
        url=found["url"],
        headers=found["headers"],
        body=found["body"].encode(),
        status=found["status"],
        error=found["error"],
        note=found["note"],
        kind=found["kind"],
        answered=found["answered"],
    )


def read_ledger(found: Iterable[Mapping[str, Any]]) -> Ledger:
    """Return the ledger of a key from its entries, oldest first."""
    return Ledger(tuple(LedgerEntry(**{**entry, "usd": read_money(entry["usd"])}) for entry in found))


def read_armed(found: Mapping[str, Any]) -> ArmedScenario:
    """Return an armed scenario."""
    return ArmedScenario(
        id=found["id"],
        scenario=ScenarioName(found["scenario"], found["why"]),
        fits=frozenset(found["fits"]),
        provider=found["provider"],
        left=None if found["jobs_left"] == "all" else found["jobs_left"],
        seed=found["seed"],
        source=found["source"],
        begun=found["jobs_begun"],
        met=found["met"],
        _unmet=tuple(found["unmet"]),
    )
