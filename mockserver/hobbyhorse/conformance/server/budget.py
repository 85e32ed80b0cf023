"""Money that may be spent: every request that can be billed is paid for before it is sent, at the worst price."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from hobbyhorse.contract.values import Contract, Model


class NotAffordable(Exception):
    """A request that may cost more than is left."""


@dataclass(slots=True)
class Budget:
    """A budget in USD; None is no money at all: then nothing that can be billed is sent.

    What is held for a request counts as spent until the request was refused for certain.
    """

    limit: Decimal | None
    spent: Decimal = Decimal(0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left(self) -> Decimal:
        """What may still be spent."""
        return Decimal(0) if self.limit is None else self.limit - self.spent

    @contextmanager
    def hold(self, price: Decimal) -> Iterator[Reservation]:
        """Pay for a request before it is sent; `refused` gives the money back. Raises NotAffordable."""
        with self._lock:
            if price > 0 and price > self.left:
                raise NotAffordable(f"it may cost {price} USD, and {max(self.left, Decimal(0))} USD are left")
            self.spent += price
        held = Reservation()
        try:
            yield held
        finally:
            if held.refused:
                with self._lock:
                    self.spent -= price


@dataclass(slots=True)
class Reservation:
    """What became of a request that was paid for; it is billed unless it was refused."""

    refused: bool = False


def worst(contract: Contract, model: Model | None = None) -> Decimal:
    """Return the greatest price of one job of a model, or of any: its longest video of the dearest tier."""
    models = contract.models if model is None else (model,)
    return max(one.cost(None, longest(contract, one)) for one in models)


def longest(contract: Contract, model: Model) -> float:
    """Return the longest video that a model makes, in seconds."""
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
