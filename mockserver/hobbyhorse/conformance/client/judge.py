"""Judging traces by the rules. Knows no server.

A verdict is a statement about evidence, so silence is never a pass:

* not-applicable: the contract leaves no room for the rule (no callbacks, no cancellation, no idempotency keys).
* not-observed: no trace has the evidence. Either a trace lacks the channel that the rule needs, such as the outcome of
  a run in recorded traffic (`has_channel`), or the rule's subject never occurred (its check returns None).
* passed: at least one trace shows the rule kept, and none shows it broken.
* broken: at least one trace shows a violation. One is enough, however many traces show the rule kept.

A check that returned an empty list for a trace without evidence would report an untested client as careful. The two
cases are therefore different values, None and [], and only this module turns them into verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.conformance.client.rules import rules as all_rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace

PASSED, BROKEN, NOT_OBSERVED, NOT_APPLICABLE = "passed", "broken", "not-observed", "not-applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation of a rule: the trace that shows it, and sentences that describe it."""

    rule: str
    messages: tuple[str, ...]
    trace: Trace


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a rule: passed, broken, not-observed or not-applicable.

    `observed` and `times_broken` count traces. `findings` has the simplest finding, or all of them.
    """

    rule: Rule
    verdict: str
    observed: int = 0
    times_broken: int = 0
    findings: tuple[Finding, ...] = ()


def has_channel(rule: Rule, trace: Trace) -> bool:
    """Whether a trace has the channel that a rule needs."""
    if rule.channel == "outcome":
        return any(run.outcome is not None for run in trace.runs)
    return rule.channel != "restart" or any(run.resumed for run in trace.runs)


def check(rule: Rule, annotated: AnnotatedTrace) -> list[str] | None:
    """Return the violations of a rule in a trace, or None if the trace shows nothing about the rule."""
    if not rule.applies(annotated.contract) or not has_channel(rule, annotated.trace):
        return None
    return rule.check(annotated)


def judge(contract: Contract, traces: Iterable[Trace], rules: Sequence[Rule] | None = None) -> list[Verdict]:
    """Return the verdict on each rule over all traces."""
    # Annotated once for all rules: an annotated trace caches the reading of its responses.
    annotated = [AnnotatedTrace(contract, trace) for trace in traces]
    found = []
    for rule in all_rules() if rules is None else rules:
        if not rule.applies(contract):
            found.append(Verdict(rule, NOT_APPLICABLE))
            continue
        results = [(one.trace, messages) for one in annotated if (messages := check(rule, one)) is not None]
        broken = tuple(Finding(rule.id, tuple(messages), trace) for trace, messages in results if messages)
        word = BROKEN if broken else PASSED if results else NOT_OBSERVED
        found.append(Verdict(rule, word, len(results), len(broken), broken))
    return found
