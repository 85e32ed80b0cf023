"""Rules about money: the reported cost of a job is the contract's price. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, Breach, rule
from hobbyhorse.conformance.server.expected import KindEvidence, first_of_kind, operation_of, set_in_lifecycle
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import order_behind

# Providers round a cost to cents; a smaller difference is rounding.
CENT = Decimal("0.01")
UNMADE = frozenset({"failure", "cancelled", "expired"})


def _reports_cost(contract: Contract) -> bool:
    return any("cost" in operation.bindings for operation in contract.operations.values())


@rule(
    "MON-01",
    "price",
    level=MUST,
    severity="S1",
    harm=MONEY,
    applies=_reports_cost,
    says="The reported cost of a video is the model's price for the duration and the tier, to a cent.",
    because="Without this check, a changed price is noticed only on the invoice, a month later.",
    fix="Compute the reported cost from the same price table as the documentation, after the duration and the tier "
    "are known.",
)
@first_of_kind
def price(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the reported cost of each succeeded job with the model's price."""
    for step, order, cost in _billed(trace):
        yield OBSERVED
        if abs(cost - order.model.cost(order.resolution, order.seconds)) >= CENT:
            yield (order.model.id, order.resolution, order.seconds, cost), _dear(trace, step, order, cost)


def _billed(trace: AnnotatedTrace) -> Iterator[tuple[Step, Order, Decimal]]:
    """Yield each report of a succeeded job's cost, with the order and the cost, if the contract has its price."""
    for step in trace.reads:
        cost = _cost(step)
        order = order_behind(trace, step.job) if step.success and cost is not None else None
        # A tier without a documented price has no expected cost.
        if order is not None and cost is not None and (order.resolution or "") in order.model.price:
            yield step, order, cost


def _dear(trace: AnnotatedTrace, step: Step, order: Order, cost: Decimal) -> Breach:
    """Return the breach for a cost that differs from the contract's price."""
    at = f"/models/{trace.contract.models.index(order.model)}/price"
    each = cost / order.seconds if order.seconds else Decimal(0)
    tier = at + format_pointer((str(order.resolution),))
    patch = set_in_lifecycle(trace.contract, tier, format(each.normalize(), "f"))
    due = order.model.cost(order.resolution, order.seconds)
    job = f"job {step.job} ({order.resolution}, {order.seconds} s)"
    message = f"request {step.number} reports cost {cost} for {job}; documented price: {due}"
    places = (f"lifecycle.json#{tier}", f"lifecycle.json#{at}", *_bound(step))
    # A patch with a rounded price would not fit the next job: suggest only a price that is exact and short.
    exact = each * order.seconds == cost and len(format(each.normalize(), "f")) <= 8
    return Breach(message, places, str(cost), patch if exact else ())


def _bound(step: Step) -> tuple[str, ...]:
    return (f"lifecycle.json#/operations/{step.role}/bindings/cost",)


@rule(
    "MON-02",
    "refused-not-billed",
    level=MUST,
    severity="S1",
    harm=MONEY,
    says="A failed or cancelled job costs nothing, unless an example in the contract shows a cost; a refused "
    "submission creates no job.",
    because="Videos that a content filter withheld were billed: QuantumNous/new-api#6858.",
    fix="Bill in the update that sets the success, and release the reserved sum in every other end of a job.",
)
@first_of_kind
def refused_not_billed(trace: AnnotatedTrace) -> KindEvidence:
    """Find failed or cancelled jobs with a cost, and refused submissions with a job."""
    yield from _billed_without_video(trace)
    yield from _refused_with_job(trace)


def _billed_without_video(trace: AnnotatedTrace) -> KindEvidence:
    for step in trace.reads:
        if not step.ok or not step.kinds or not step.kinds <= UNMADE:
            continue
        yield OBSERVED
        cost = _cost(step)
        # Some providers bill a cancelled job, and their documentation shows that.
        if cost is not None and cost > 0 and not _documented(trace, step):
            job = f"job {step.job}, which ended without a video ({step.stage})"
            message = f"request {step.number} reports cost {cost} for {job}; allowed: 0"
            yield step.job, Breach(message, (*_examples(trace, step), *_bound(step)), str(cost))


def _refused_with_job(trace: AnnotatedTrace) -> KindEvidence:
    for step in trace.submits:
        if not step.refused or not step.delivered or step.transient:
            continue
        yield OBSERVED
        job = step.reading.values.get("job")
        if isinstance(job, str) and any(read.ok and read.job == job for read in trace.reads):
            message = f"request {step.number} was refused ({step.status}), but its job {job} exists"
            places = tuple(f"lifecycle.json#/operations/{step.role}/situations/{n}" for n in step.reading.situations)
            yield job, Breach(message, places, job)


@rule(
    "MON-03",
    "cost-follows-duration",
    level=MUST,
    severity="S1",
    harm=MONEY,
    applies=_reports_cost,
    says="The costs of two videos of one model and one tier are in proportion to their durations, to a cent.",
    because="A price per second is documented. A cost that is computed from the default duration, or from blocks of "
    "seconds, is not that of the invoice.",
    fix="Compute the reported cost from the seconds that were ordered, neither rounded nor replaced by the default.",
)
@first_of_kind
def cost_follows_duration(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the reported costs of succeeded jobs that differ in their duration."""
    seen: dict[tuple[str, str | None], dict[int, tuple[str | None, Decimal]]] = {}
    for step, order, cost in _billed(trace):
        alike = seen.setdefault((order.model.id, order.resolution), {})
        for seconds, (job, other) in alike.items():
            if seconds == order.seconds:
                continue
            yield OBSERVED
            # Both costs may be rounded.
            ratio = Decimal(order.seconds) / Decimal(seconds)
            if abs(cost - other * ratio) >= CENT * (1 + ratio):
                mine = f"request {step.number} reports cost {cost} for job {step.job} ({order.seconds} s)"
                message = f"{mine}; job {job} of the same tier ({seconds} s) costs {other}"
                # An assumed price, or an assumed place of the cost, does not excuse costs that contradict each other.
                yield (order.model.id, order.resolution), Breach(message, (), str(cost))
        alike.setdefault(order.seconds, (step.job, cost))


def _cost(step: Step) -> Decimal | None:
    """Return the reported cost of a job; None if the response has no readable one."""
    value = step.reading.values.get("cost") if step.ok else None
    return value if isinstance(value, Decimal) and value.is_finite() else None


def _documented(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a contract example for this response shows a positive cost."""
    return any(_positive(trace.contract.schemas.at(place)) for place in _examples(trace, step))


def _positive(value: object) -> bool:
    try:
        return Decimal(str(value)) > 0
    except ArithmeticError:
        return False


def _examples(trace: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the places of the cost in the examples of the response's situations."""
    operation = operation_of(trace, step)
    binding = operation.bindings.get("cost")
    pointers = [place.pointer for place in binding.response if place.part == "body"] if binding else []
    situations = [operation.situations[name] for name in step.reading.situations]
    return tuple(situation.example_at + format_pointer(pointer) for situation in situations for pointer in pointers)
