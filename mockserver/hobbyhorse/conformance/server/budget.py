"""The money that the suite may spend: before each billable request, its highest price is reserved.

The invariant is `spent <= limit` at every moment, whatever the endpoint does: a request that breaks off, times out or
gets a 5xx may have been billed, so only a certain refusal returns its price.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from hobbyhorse.contract.values import Contract, Model


class NotAffordable(Exception):
    """Raised before a request whose worst price exceeds the remaining budget."""


@dataclass(slots=True)
class Budget:
    """A budget in USD. A limit of None allows no billable request at all.

    The price held for a request counts as spent unless the request is refused with certainty.
    """

    limit: Decimal | None
    spent: Decimal = Decimal(0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left(self) -> Decimal:
        """The remaining amount in USD."""
        return Decimal(0) if self.limit is None else self.limit - self.spent

    @contextmanager
    def hold(self, price: Decimal) -> Iterator[Reservation]:
        """Reserve a request's price before it is sent; setting `refused` returns it. Raises NotAffordable."""
        # Checked and reserved under one lock: concurrent probes must not both spend the last dollar.
        with self._lock:
            if price > 0 and price > self.left:
                raise NotAffordable(
                    f"the request may cost {price} USD; left in the budget: {max(self.left, Decimal(0))} USD"
                )
            self.spent += price
        held = Reservation()
        try:
            yield held
        finally:
            # An exception proves nothing about the bill, so the price stays spent unless the refusal is certain.
            if held.refused:
                with self._lock:
                    self.spent -= price


@dataclass(slots=True)
class Reservation:
    """The outcome of a request that was paid for in advance: billed unless `refused` is set."""

    refused: bool = False


def worst(contract: Contract, model: Model | None = None) -> Decimal:
    """Return the highest price of one job of a model, or of any model: the longest video of the most expensive tier."""
    models = contract.models if model is None else (model,)
    return max(one.cost(None, longest(contract, one)) for one in models)


def cheapest_first(contract: Contract) -> tuple[Model, ...]:
    """Return all models, sorted by the highest price of a job."""
    return tuple(sorted(contract.models, key=lambda model: worst(contract, model)))


def longest(contract: Contract, model: Model) -> float:
    """Return the maximum duration of a model's videos, in seconds."""
    found = [float(model.defaults.get("duration", 0) or 0)]
    for pointer in model.parameters.get("duration", ()):
        schema = contract.schemas.at(model.schema)
        file = model.schema.partition("#")[0]
        for step in pointer:
            schema, file = contract.schemas.deref(schema, file)
            members = schema.get("properties", {}) if isinstance(schema, dict) else {}
            schema = members.get(step, {})
        schema, _ = contract.schemas.deref(schema, file)
        if isinstance(schema, dict):
            found += [float(value) for value in schema.get("enum", []) if isinstance(value, int | float)]
            found += [float(schema["maximum"])] if "maximum" in schema else []
    return max(found)
