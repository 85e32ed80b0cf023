"""Holding traces against the rules: a verdict for each, and what led to it. Knows no server."""

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
    """A rule that a trace breaks, and the sentences that say how."""

    rule: str
    messages: tuple[str, ...]
    trace: Trace


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a rule: passed, broken, not-observed or not-applicable.

    In how many traces it was observed, and broken; `findings` has the simplest of these, or all.
    """

    rule: Rule
    verdict: str
    observed: int = 0
    times_broken: int = 0
    findings: tuple[Finding, ...] = ()


def hears(rule: Rule, trace: Trace) -> bool:
    """Whether a trace has the channel that a rule needs."""
    if rule.channel == "outcome":
        return any(run.outcome is not None for run in trace.runs)
    return rule.channel != "restart" or any(run.resumed for run in trace.runs)


def check(rule: Rule, story: AnnotatedTrace) -> list[str] | None:
    """Return what breaks a rule in a story, or None if the story shows nothing about it."""
    if not rule.applies(story.contract) or not hears(rule, story.trace):
        return None
    return rule.check(story)


def judge(contract: Contract, traces: Iterable[Trace], rules: Sequence[Rule] | None = None) -> list[Verdict]:
    """Return the verdict on each rule over all traces."""
    stories = [AnnotatedTrace(contract, trace) for trace in traces]
    found = []
    for rule in all_rules() if rules is None else rules:
        if not rule.applies(contract):
            found.append(Verdict(rule, NOT_APPLICABLE))
            continue
        results = [(story, messages) for story in stories if (messages := check(rule, story)) is not None]
        broken = tuple(Finding(rule.id, tuple(messages), story.trace) for story, messages in results if messages)
        word = BROKEN if broken else PASSED if results else NOT_OBSERVED
        found.append(Verdict(rule, word, len(results), len(broken), broken))
    return found
