"""Conformance rules for clients: a sentence, the bug behind it, and a pure function over an annotated trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace

SEVERITIES = {"S1": "money or security", "S2": "wrong or stuck outcome", "S3": "load", "S4": "hygiene"}
# The evidence that a rule needs. A trace without it says nothing about the rule, which must not read as a pass.
CHANNELS = {
    "wire": "requests and responses alone",
    "outcome": "requests, responses, and the outcome of the client's run",
    "restart": "requests and responses of a client that is killed and started again",
}
ClientCheck = Callable[[AnnotatedTrace], "list[str] | None"]
"""Returns one sentence for each violation; an empty list if the trace shows that the rule is kept; None if the trace
shows nothing about the rule, because its subject did not occur."""


def always(contract: Contract) -> bool:
    """Whether a rule applies to a contract: this default applies to every contract."""
    return True


def each_order(check: ClientCheck) -> ClientCheck:
    """Turn a check of one order into a check of a trace, which applies it to each order separately."""

    @wraps(check)
    def whole(trace: AnnotatedTrace) -> list[str] | None:
        results = [found for part in trace.by_order if (found := check(part)) is not None]
        return [message for found in results for message in found] if results else None

    return whole


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for clients.

    `why` names the bug that the rule would have caught, and its source. `applies` decides by the contract alone.
    `timing` means that findings depend on real time, so that each must be confirmed.
    """

    id: str
    name: str
    level: str
    severity: str
    channel: str
    statement: str
    why: str
    check: ClientCheck
    applies: Callable[[Contract], bool] = always
    timing: bool = False

    @property
    def family(self) -> str:
        """The part of the id before the hyphen."""
        return self.id.partition("-")[0]
