"""Verdicts: silence is not a pass, one violation is enough, and a trace must have the rule's channel."""

from __future__ import annotations

from dataclasses import replace

from hobbyhorse.conformance.judge import (
    BROKEN,
    LESSON,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    assumption_for,
    check,
    has_channel,
    judge,
)
from hobbyhorse.conformance.rule import CHANNELS, MUST, OBSERVED, WIRE, Breach, Evidence, Judgement, Rule, rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.judging import assuming, knowing
from tests.tracing import Teller


def submissions(trace: AnnotatedTrace) -> Evidence:
    """Accuse every submission after the first one; say nothing about a trace without submissions."""
    for step in trace.submits:
        yield OBSERVED if step is trace.submits[0] else Breach(f"request {step.number}")


def made(channel: str = WIRE, applies: bool = True) -> Rule:
    def applicable(contract: Contract) -> bool:
        return applies

    head = rule("XXX-01", "x", level=MUST, severity="S1", channel=channel, applies=applicable, says="1.", because="2.")
    return head(submissions)


def verdicts(contract: Contract, one: Rule, *traces: Trace) -> tuple[str, int, int, int]:
    (found,) = judge(contract, traces, [one])
    assert found.rule is one
    return found.verdict, found.observed, found.times_broken, len(found.findings)


def test_a_trace_without_evidence_is_not_a_pass(contract: Contract) -> None:
    silent, kept = Teller(contract).trace(), Teller(contract).submit().trace()
    assert verdicts(contract, made()) == (NOT_OBSERVED, 0, 0, 0)
    assert verdicts(contract, made(), silent) == (NOT_OBSERVED, 0, 0, 0)
    assert verdicts(contract, made(), silent, kept) == (PASSED, 1, 0, 0)


def test_one_violation_outweighs_every_trace_that_keeps_the_rule(contract: Contract) -> None:
    kept, broken = Teller(contract).submit().trace(), Teller(contract).submit().submit().trace()
    assert verdicts(contract, made(), kept, broken, kept) == (BROKEN, 3, 1, 1)
    (found,) = judge(contract, [kept, broken], [made()])
    assert found.findings[0].messages == ("request 2",)
    assert found.breaches == found.findings[0].breaches == (Breach("request 2"),)
    assert found.findings[0].trace is broken
    assert found.findings[0].rule == "XXX-01"


def test_a_rule_that_does_not_apply_is_never_checked(contract: Contract) -> None:
    broken = Teller(contract).submit().submit().trace()
    assert verdicts(contract, made(applies=False), broken) == (NOT_APPLICABLE, 0, 0, 0)
    assert check(made(applies=False), AnnotatedTrace(contract, broken)) == Judgement(observed=False)


def test_a_rule_is_not_observed_without_its_channel(contract: Contract) -> None:
    told = Teller(contract).submit().submit()
    recorded = replace(told.trace(), runs=())
    ended = Teller(contract).submit().submit().end("failed").trace()
    resumed = Teller(contract).submit().restart().submit().trace()
    fallback = replace(recorded, partner=recorded)
    traces = (recorded, ended, resumed, fallback)
    expected = {
        "wire": (True, True, True, True),
        "outcome": (False, True, False, False),
        "restart": (False, False, True, False),
        "providers": (False, False, False, True),
    }
    assert expected.keys() == CHANNELS.keys()
    for channel, found in expected.items():
        assert tuple(has_channel(made(channel), trace) for trace in traces) == found
        words = [verdicts(contract, made(channel), trace)[0] for trace in traces]
        # Traces of a single provider each are judged here.
        observed = (
            [NOT_APPLICABLE] * 4 if channel == "providers" else [BROKEN if one else NOT_OBSERVED for one in found]
        )
        assert words == observed


def told_by(breach: Breach) -> Rule:
    def check(trace: AnnotatedTrace) -> Evidence:
        yield breach

    return rule("XXX-02", "y", level=MUST, severity="S1", says="1.", because="2.")(check)


def test_a_breach_of_an_assumption_is_a_lesson_and_the_endpoint_is_not_to_blame(contract: Contract) -> None:
    assumed = assuming(contract, "lifecycle.json#/job_id")
    breach = Breach("It was 7.", ("lifecycle.json#/job_id/form",), 7)
    (found,) = judge(assumed, [Teller(contract).trace()], [told_by(breach)])
    assert (found.verdict, found.observed, found.times_broken, found.findings) == (LESSON, 1, 0, ())
    (lesson,) = found.lessons
    assert (lesson.rule, lesson.message, lesson.seen) == ("XXX-02", "It was 7.", 7)
    assert (lesson.places, lesson.why) == (("lifecycle.json#/job_id",), assumed.assumptions[0].why)
    documented = judge(knowing(contract), [Teller(contract).trace()], [told_by(breach)])
    assert [one.verdict for one in documented] == [BROKEN]


def test_an_assumption_covers_what_is_below_its_place_and_nothing_beside_it(contract: Contract) -> None:
    assumed = assuming(contract, "a.json#/status")
    for place, covers in {"a.json#/status": True, "a.json#/status/form": True, "a.json#/status2": False}.items():
        assert (assumption_for(assumed, ["b.json#/x", place]) is not None) is covers, place
    assert assumption_for(assumed, []) is None
