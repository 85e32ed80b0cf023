"""What a rule for servers is: a sentence, and a pure function that looks for what breaks it in a annotated.

What the contract only assumes, and no document states, is not broken but learned: a lesson.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hobbyhorse.conformance.client.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED
from hobbyhorse.contract.values import Assumption, Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace

LESSON = "lesson"
"""The verdict on a rule that only contradicts what the contract assumes."""

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
    """What an endpoint does otherwise: in words, the places in the contract (file#pointer) that say how, what was seen.

    `patch` is what would make the contract say what was seen, as operations of RFC 6902 with a `file` beside each path.
    """

    message: str
    places: tuple[str, ...] = ()
    seen: Any = None
    patch: tuple[dict[str, Any], ...] = ()


ServerCheck = Callable[[AnnotatedTrace], "list[Breach] | None"]
"""Returns what breaks the rule; nothing where it is kept; None where the annotated shows nothing about it."""


@dataclass(frozen=True, slots=True)
class ServerRule:
    """A rule for servers. `applies` looks at the contract alone."""

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
    """An assumption of the contract that an endpoint contradicts: where, why it was assumed, what was seen."""

    rule: str
    places: tuple[str, ...]
    why: str
    message: str
    seen: Any
    patch: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ServerVerdict:
    """What became of a rule: passed, broken, not-observed, not-applicable, or lesson."""

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
    """Return the assumption that says what stands in one of some places of the contract, or around it."""
    for place in places:
        for assumption in contract.assumptions:
            if any(place == at or re.match(re.escape(at) + "/", place) for at in assumption.at):
                return assumption
    return None
