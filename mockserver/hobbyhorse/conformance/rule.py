"""Rules: a sentence, the bug behind it, and a generator directly under both that judges an annotated trace.

    @rule(
        "CAN-01", "cancel-on-abort", level=SHOULD, severity="S1", channel=WIRE, applies=cancels,
        says="A client that stops waiting for a job cancels it, if the provider supports cancellation.",
        because="The video is no longer wanted, but is still rendered and billed: juspay/neurolink#1548.",
        harm=MONEY,
        fix="When the wait ends at the deadline, send the cancel request before raising the error.",
        example="wait_or_cancel",
    )
    def cancel_on_abort(trace: AnnotatedTrace) -> Evidence:
        ...
        yield OBSERVED
        yield Breach("the client gave up and left the job running")

The generator yields evidence. `OBSERVED` means that the rule's subject occurred. A `Breach` means that the subject
occurred and the rule is broken. A generator that yields nothing has seen nothing, so the verdict is not-observed:
silence is never a pass. A rule is found by listing the modules of its folder; nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from types import ModuleType
from typing import Any, Final

from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace

MUST, SHOULD = "MUST", "SHOULD"
WIRE, OUTCOME, RESTART, PROVIDERS = "wire", "outcome", "restart", "providers"
SEVERITIES = {"S1": "money or security", "S2": "wrong or stuck outcome", "S3": "load", "S4": "hygiene"}
MONEY, SECURITY, VIDEO, OTHER = "money", "security", "video", "other"
# The costs of a broken rule to the user, in the order in which reports have their findings.
HARMS = {MONEY: "Money", SECURITY: "Security", VIDEO: "Lost or wrong video", OTHER: "Other"}
# The evidence that a rule needs. A trace without it says nothing about the rule, which must not read as a pass.
CHANNELS = {
    WIRE: "requests and responses alone",
    OUTCOME: "requests, responses, and the outcome of the client's run",
    RESTART: "requests and responses of a client that is killed and started again",
    PROVIDERS: "requests and responses of a client that falls back to a second provider",
}


class Observed(Enum):
    """The type of OBSERVED."""

    OBSERVED = "observed"


OBSERVED: Final = Observed.OBSERVED
"""Evidence that the subject of a rule occurred."""


@dataclass(frozen=True, slots=True)
class Breach:
    """Evidence that a rule is broken: a message, the places in the contract (file#pointer) it rests on, the value seen.

    `patch` would make the contract describe the value: operations of RFC 6902, each with the `file` of its path.
    """

    message: str
    places: tuple[str, ...] = ()
    seen: Any = None
    patch: tuple[dict[str, Any], ...] = ()


Evidence = Iterator[Observed | Breach]
Check = Callable[[AnnotatedTrace], Evidence]


def always(contract: Contract) -> bool:
    """Whether a rule applies to a contract: this default applies to every contract."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule for clients or for servers.

    `because` names the bug that the rule would have caught, and its source. `applies` decides by the contract alone.
    `timing` means that findings depend on real time, so that each must be confirmed. `harm` is one of HARMS. `fix` is
    one sentence that tells the developer what to change. `example` is a function of the example clients that keeps the
    rule (see `examples.py`).
    """

    id: str
    name: str
    level: str
    severity: str
    channel: str
    says: str
    because: str
    check: Check
    applies: Callable[[Contract], bool] = always
    timing: bool = False
    harm: str = OTHER
    fix: str = ""
    example: str | None = None

    @property
    def family(self) -> str:
        """The part of the id before the hyphen."""
        return self.id.partition("-")[0]


def rule(
    id: str,
    name: str,
    *,
    level: str,
    severity: str,
    says: str,
    because: str,
    channel: str = WIRE,
    applies: Callable[[Contract], bool] = always,
    timing: bool = False,
    harm: str = OTHER,
    fix: str = "",
    example: str | None = None,
) -> Callable[[Check], Rule]:
    """Turn the generator below into a rule."""

    def decorate(check: Check) -> Rule:
        return Rule(
            id=id,
            name=name,
            level=level,
            severity=severity,
            channel=channel,
            says=says,
            because=because,
            check=check,
            applies=applies,
            timing=timing,
            harm=harm,
            fix=fix,
            example=example,
        )

    return decorate


def each_order(check: Check) -> Check:
    """Apply a check to each order of a trace separately; placed between `@rule` and the generator."""

    @wraps(check)
    def whole(trace: AnnotatedTrace) -> Evidence:
        for part in trace.by_order:
            yield from check(part)

    return whole


def rules_in(package: ModuleType) -> tuple[Rule, ...]:
    """Return the rules of a folder: sorted by module name, then in source order."""
    found: list[Rule] = []
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        members = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
        found += [member for member in members.values() if isinstance(member, Rule)]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The evidence of one trace about a rule."""

    observed: bool
    breaches: tuple[Breach, ...] = ()


def examine(evidence: Iterable[Observed | Breach]) -> Judgement:
    """Collect the evidence of a check; equal breaches count once."""
    observed = False
    breaches: dict[str, Breach] = {}
    for one in evidence:
        observed = True
        if isinstance(one, Breach):
            breaches.setdefault(one.message, one)
    return Judgement(observed, tuple(breaches.values()))
