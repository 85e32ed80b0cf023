"""Judging traces by rules, for clients and servers alike. Knows no server.

A verdict is a statement about evidence, so silence is never a pass:

* not-applicable: the contract leaves no room for the rule (no callbacks, no cancellation, no idempotency keys), or the
  rule is about two providers, and the client has one.
* not-observed: no trace has the evidence. Either a trace lacks the channel that the rule needs, such as the outcome of
  a run in recorded traffic (`has_channel`), or the rule's subject never occurred (its check yields nothing).
* passed: at least one trace shows the rule kept, and none shows it broken.
* broken: at least one trace shows a breach. One is enough, however many traces show the rule kept.
* lesson: the only breaches contradict facts that the contract assumes without a document. The contract is to be
  corrected; the endpoint is not to blame.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.rule import OUTCOME, PROVIDERS, RESTART, Breach, Judgement, Rule, examine
from hobbyhorse.contract.values import Assumption, Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace

PASSED, BROKEN, LESSON = "passed", "broken", "lesson"
NOT_OBSERVED, NOT_APPLICABLE = "not-observed", "not-applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule: the breaches, and the trace that shows them.

    The client suite groups findings by what the client was doing (`during`). `after` are the runs that have to precede
    the trace's run in the same process; without them the client kept the rule. `recurs` is False if neither a fresh
    process nor the preceding runs showed the breach again.
    """

    rule: str
    breaches: tuple[Breach, ...]
    trace: Trace
    during: str | None = None
    after: tuple[Case, ...] = ()
    recurs: bool = True

    @property
    def name(self) -> str:
        """The rule and what the client was doing, such as `RES-08/download`, as a baseline names the finding."""
        return self.rule if self.during is None else f"{self.rule}/{self.during}"

    @property
    def messages(self) -> tuple[str, ...]:
        """The messages of the breaches."""
        return tuple(breach.message for breach in self.breaches)


@dataclass(frozen=True, slots=True)
class InternalError:
    """An unexpected error of the suite itself: what it was doing, the error in one line, and the traceback."""

    doing: str
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, doing: str, error: BaseException) -> InternalError:
        """Return the value for an exception."""
        return cls(doing, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))

    def __str__(self) -> str:
        """Return the error in one line."""
        return f"{self.doing}: {self.message}"


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
class Verdict:
    """The verdict on a rule: one of the constants above.

    `observed` and `times_broken` count traces. `findings` has the simplest finding of each operation, or all of them.
    `why` says why a rule was not observed, and what would make it observable.
    """

    rule: Rule
    verdict: str
    observed: int = 0
    times_broken: int = 0
    findings: tuple[Finding, ...] = ()
    lessons: tuple[Lesson, ...] = ()
    why: str | None = None

    @property
    def breaches(self) -> tuple[Breach, ...]:
        """The breaches of all findings."""
        return tuple(breach for finding in self.findings for breach in finding.breaches)


def has_channel(rule: Rule, trace: Trace) -> bool:
    """Whether a trace has the channel that a rule needs."""
    if rule.channel == OUTCOME:
        return any(run.outcome is not None for run in trace.runs)
    if rule.channel == PROVIDERS:
        return trace.partner is not None
    return rule.channel != RESTART or any(run.resumed for run in trace.runs)


def check(rule: Rule, annotated: AnnotatedTrace) -> Judgement:
    """Return the evidence of a trace about a rule; none if the rule does not apply or its channel is missing."""
    if not rule.applies(annotated.contract) or not has_channel(rule, annotated.trace):
        return Judgement(observed=False)
    return examine(rule.check(annotated))


def judge(
    contract: Contract, traces: Iterable[Trace], rules: Sequence[Rule], errors: list[InternalError] | None = None
) -> list[Verdict]:
    """Return the verdict on each rule over all traces.

    A rule that fails unexpectedly is not observed, and its error is added to `errors`; without the list it is raised.
    """
    # Annotated once for all rules: an annotated trace caches the reading of its responses.
    annotated = [AnnotatedTrace(contract, trace) for trace in traces]
    found = []
    for rule in rules:
        try:
            found.append(_verdict(rule, contract, annotated))
        except Exception as error:
            if errors is None:
                raise
            errors.append(InternalError.of(f"judging {rule.id}", error))
            found.append(Verdict(rule, NOT_OBSERVED, why=f"internal error: {errors[-1].message}"))
    return found


def _verdict(rule: Rule, contract: Contract, annotated: Sequence[AnnotatedTrace]) -> Verdict:
    # Recorded traffic is judged by one contract.
    if not rule.applies(contract) or rule.channel == PROVIDERS:
        return Verdict(rule, NOT_APPLICABLE)
    observed, findings, lessons = 0, [], []
    for one in annotated:
        judgement = check(rule, one)
        observed += judgement.observed
        documented = []
        for breach in judgement.breaches:
            assumed = assumption_for(contract, breach.places)
            if assumed is None:
                documented.append(breach)
            else:
                lessons.append(Lesson(rule.id, assumed.at, assumed.why, breach.message, breach.seen, breach.patch))
        if documented:
            findings.append(Finding(rule.id, tuple(documented), one.trace))
    word = BROKEN if findings else LESSON if lessons else PASSED if observed else NOT_OBSERVED
    return Verdict(rule, word, observed, len(findings), tuple(findings), tuple(lessons))


def assumption_for(contract: Contract, places: Sequence[str]) -> Assumption | None:
    """Return the assumption that covers one of some places of the contract, or None."""
    return next((found for place in places if (found := contract.assumption(place)) is not None), None)
