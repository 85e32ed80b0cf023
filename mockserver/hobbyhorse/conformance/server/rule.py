"""Server rules: a sentence, and a pure function that looks for violations of it in an annotated trace.

A documented fact that is contradicted breaks the rule. A fact that the contract only assumes, without a document, is
corrected instead: the contradiction is a lesson, and the endpoint is not to blame.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED
from hobbyhorse.contract.values import Assumption, Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace

# The verdict on a rule that only contradicts assumptions of the contract.
LESSON = "lesson"

FAMILIES = {
    "SHA": "shape",
    "LIF": "lifecycle",
    "IDN": "identity",
    "AUT": "authentication",
    "NEG": "negatives",
    "IDM": "idempotency",
    "CNL": "cancel",
    "NTF": "callbacks",
    "RET": "retention",
    "MED": "media",
    "MON": "money",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """One violation: a message, the places in the contract (file#pointer) that define the expectation, the value seen.

    `patch` would adapt the contract to the value seen: operations of RFC 6902, each with the `file` of its path.
    """

    message: str
    places: tuple[str, ...] = ()
    seen: Any = None
    patch: tuple[dict[str, Any], ...] = ()


# Returns the violations; empty if the rule is kept; None if the trace shows nothing about it.
ServerCheck = Callable[[AnnotatedTrace], "list[Breach] | None"]


@dataclass(frozen=True, slots=True)
class ServerRule:
    """A rule for servers. `applies` depends on the contract alone."""

    id: str
    name: str
    level: str
    severity: str
    statement: str
    why: str
    check: ServerCheck
    applies: Callable[[Contract], bool] = lambda contract: True

    @property
    def family(self) -> str:
        """The family's name."""
        return FAMILIES[self.id.partition("-")[0]]


@dataclass(frozen=True, slots=True)
class Lesson:
    """An assumption of the contract that an endpoint contradicts: its place, its reason, and the value seen."""

    rule: str
    places: tuple[str, ...]
    why: str
    message: str
    seen: Any
    patch: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ServerVerdict:
    """The verdict on a rule: passed, broken, not-observed, not-applicable, or lesson."""

    rule: ServerRule
    verdict: str
    breaches: tuple[Breach, ...] = ()
    lessons: tuple[Lesson, ...] = field(default_factory=tuple)


def judge_server(contract: Contract, trace: Trace, rules: Iterable[ServerRule]) -> list[ServerVerdict]:
    """Return the verdict on each rule."""
    annotated = AnnotatedTrace(contract, trace)
    return [_verdict(rule, annotated) for rule in rules]


def _verdict(rule: ServerRule, annotated: AnnotatedTrace) -> ServerVerdict:
    if not rule.applies(annotated.contract):
        return ServerVerdict(rule, NOT_APPLICABLE)
    found = rule.check(annotated)
    if found is None:
        return ServerVerdict(rule, NOT_OBSERVED)
    broken, lessons = [], []
    for breach in found:
        assumed = assumption_for(annotated.contract, breach.places)
        if assumed is None:
            broken.append(breach)
        else:
            lessons.append(Lesson(rule.id, assumed.at, assumed.why, breach.message, breach.seen, breach.patch))
    word = BROKEN if broken else LESSON if lessons else PASSED
    return ServerVerdict(rule, word, tuple(broken), tuple(lessons))


def assumption_for(contract: Contract, places: Sequence[str]) -> Assumption | None:
    """Return the assumption that covers one of some places of the contract, or None."""
    for place in places:
        for assumption in contract.assumptions:
            # An assumption covers everything below its place. A prefix of the text would also cover `/status2`.
            if any(place == at or re.match(re.escape(at) + "/", place) for at in assumption.at):
                return assumption
    return None
