"""Rules about money: the reported cost of a job is the contract's price. Knows no server."""

from __future__ import annotations

from decimal import Decimal

from hobbyhorse.conformance.server.expected import operation_of
from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import order_behind

# Providers round a cost to cents; a smaller difference is rounding.
CENT = Decimal("0.01")
UNMADE = frozenset({"failure", "cancelled", "expired"})


def price(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the reported cost of each succeeded job with the model's price."""
    found: dict[object, Breach] = {}
    seen = False
    for step in annotated.reads:
        cost = _cost(step)
        order = order_behind(annotated, step.job) if step.success and cost is not None else None
        # A tier without a documented price has no expected cost.
        if order is None or cost is None or (order.resolution or "") not in order.model.price:
            continue
        seen = True
        due = order.model.cost(order.resolution, order.seconds)
        if abs(cost - due) >= CENT:
            found.setdefault(
                (order.model.id, order.resolution, order.seconds, cost), _dear(annotated, step, order, cost)
            )
    return list(found.values()) if seen else None


def _dear(annotated: AnnotatedTrace, step: Step, order: Order, cost: Decimal) -> Breach:
    """Return the breach for a cost that differs from the contract's price."""
    at = f"/models/{annotated.contract.models.index(order.model)}/price"
    each = cost / order.seconds if order.seconds else Decimal(0)
    tier = at + format_pointer((str(order.resolution),))
    patch = {"file": "lifecycle.json", "op": "replace", "path": tier, "value": format(each.normalize(), "f")}
    due = order.model.cost(order.resolution, order.seconds)
    message = f"the job {step.job} ({order.resolution}, {order.seconds} s) cost {cost}; documented price: {due}"
    places = (f"lifecycle.json#{tier}", f"lifecycle.json#{at}", *_bound(step))
    # A patch with a rounded price would not fit the next job: suggest only a price that is exact and short.
    exact = each * order.seconds == cost and len(format(each.normalize(), "f")) <= 8
    return Breach(message, places, str(cost), (patch,) if exact else ())


def _bound(step: Step) -> tuple[str, ...]:
    return (f"lifecycle.json#/operations/{step.role}/bindings/cost",)


def refused_not_billed(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find failed or cancelled jobs with a cost, and refused submissions with a job."""
    found: dict[object, Breach] = {}
    seen = False
    for step in annotated.reads:
        if not step.ok or not step.kinds or not step.kinds <= UNMADE:
            continue
        seen = True
        cost = _cost(step)
        # Some providers bill a cancelled job, and their documents show it.
        if cost is not None and cost > 0 and not _documented(annotated, step):
            message = f"the job {step.job} ended without a video ({step.stage}) and cost {cost}; allowed: 0"
            found.setdefault(step.job, Breach(message, (*_examples(annotated, step), *_bound(step)), str(cost)))
    for step in annotated.submits:
        if not step.refused or not step.delivered or step.transient:
            continue
        seen = True
        job = step.reading.values.get("job")
        if isinstance(job, str) and any(read.ok and read.job == job for read in annotated.reads):
            message = f"request {step.number} is refused ({step.status}), but its job {job} exists"
            places = tuple(f"lifecycle.json#/operations/{step.role}/situations/{n}" for n in step.reading.situations)
            found.setdefault(job, Breach(message, places, job))
    return list(found.values()) if seen else None


def _cost(step: Step) -> Decimal | None:
    """Return the reported cost of a job; None if the response has no readable one."""
    value = step.reading.values.get("cost") if step.ok else None
    return value if isinstance(value, Decimal) and value.is_finite() else None


def _documented(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether the contract's own example of such a response has a cost."""
    return any(_positive(annotated.contract.schemas.at(place)) for place in _examples(annotated, step))


def _positive(value: object) -> bool:
    try:
        return Decimal(str(value)) > 0
    except ArithmeticError:
        return False


def _examples(annotated: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the places of the cost in the examples of the response's situations."""
    operation = operation_of(annotated, step)
    binding = operation.bindings.get("cost")
    pointers = [place.pointer for place in binding.response if place.part == "body"] if binding else []
    situations = [operation.situations[name] for name in step.reading.situations]
    return tuple(situation.example_at + format_pointer(pointer) for situation in situations for pointer in pointers)


def _reports_cost(contract: Contract) -> bool:
    return any("cost" in operation.bindings for operation in contract.operations.values())


RULES = (
    ServerRule(
        "MON-01",
        "price",
        "MUST",
        "S1",
        "The reported cost of a video is the model's price for its length and its tier, to a cent.",
        "Without this check a changed price is found on the invoice, a month later.",
        price,
        _reports_cost,
    ),
    ServerRule(
        "MON-02",
        "refused-not-billed",
        "MUST",
        "S1",
        "A failed or cancelled job costs nothing, unless an example of the contract shows a cost; a refused submission "
        "has no job.",
        "Videos that a content filter withheld were billed: QuantumNous/new-api#6858.",
        refused_not_billed,
    ),
)
