"""What a conformance rule is: a sentence, why it stands, and a pure function that holds a story against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace

SEVERITIES = {"S1": "money or security", "S2": "wrong or stuck outcome", "S3": "load", "S4": "hygiene"}
CHANNELS = {
    "wire": "requests and answers alone",
    "outcome": "requests, answers, and how the client's run ended",
    "restart": "requests and answers of a client that is killed and started again",
}
ClientCheck = Callable[[AnnotatedTrace], "list[str] | None"]
"""Returns what breaks the rule, one sentence each; nothing where the story shows that it is kept; None where the story
shows nothing about it, for what the rule is about did not happen in it."""


def always(contract: Contract) -> bool:
    """Whether a rule applies to a contract: it does to every one."""
    return True


def each_order(check: ClientCheck) -> ClientCheck:
    """Return a check of any story that holds each of its orders by itself against a check of one."""

    @wraps(check)
    def whole(story: AnnotatedTrace) -> list[str] | None:
        results = [found for part in story.apart if (found := check(part)) is not None]
        return [message for found in results for message in found] if results else None

    return whole


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for clients: `timing` says that its findings depend on how fast things went, and are tried three times.

    `why` names the bug that it would have caught, and where that is told. `applies` looks at the contract alone.
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
