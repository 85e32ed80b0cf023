"""The server rules about cancelling, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

import orjson

from hobbyhorse.conformance.server.rules.cancelling import SITUATIONS
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.lifecycle import Stage
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.judging import (
    BROKEN,
    LESSON,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    assuming,
    family,
    knowing,
    named,
    teller,
    verdict,
)
from tests.tracing import Teller

RULES = family("CNL")
ALLOWED, AGAIN, NEVER, FINISHED, OUTCOME, OTHERS = RULES
able = contracts_that(lambda contract: "cancel" in contract.operations)
unable = contracts_that(lambda contract: "cancel" not in contract.operations)


def answer(contract: Contract, role: str, stage: Stage) -> str:
    """Return the situation of an operation for a job in a stage."""
    situations = contract.operations[role].situations.values()
    return next(one.name for one in situations if stage.name in one.stages)


def a_stage(contract: Contract, kind: str | None = None, cancellable: bool | None = None) -> Stage:
    """Return a stage of a kind, or a running stage that can or cannot be cancelled."""
    fits = (s for s in contract.graph if (s.kind == kind if kind else not s.terminal and s.cancellable == cancellable))
    return next(fits)


def told(contract: Contract) -> Teller:
    return teller(contract).submit()


def poll(annotated: Teller, stage: Stage) -> Teller:
    return annotated.wait(1).status(answer(annotated.contract, "status", stage))


def result(annotated: Teller, stage: Stage) -> Teller:
    return annotated.wait(1).result(answer(annotated.contract, "result", stage))


def cancel(annotated: Teller, stage: Stage) -> Teller:
    return annotated.wait(1).call("cancel", answer(annotated.contract, "cancel", stage))


@unable
def test_cancel_rules_do_not_apply_to_a_provider_without_cancelling(contract: Contract) -> None:
    assert {verdict(rule, told(contract)) for rule in RULES} == {NOT_APPLICABLE}


@able
def test_a_job_that_is_not_cancelled_shows_nothing(contract: Contract) -> None:
    assert {verdict(rule, told(contract)) for rule in RULES} == {NOT_OBSERVED}


@able
def test_a_job_that_waits_is_cancelled_and_stays_so(contract: Contract) -> None:
    gone, waiting = a_stage(contract, "cancelled"), a_stage(contract, cancellable=True)
    annotated = cancel(cancel(poll(told(contract), waiting), gone), gone)
    annotated = result(poll(annotated, gone), gone)
    assert [verdict(rule, annotated) for rule in (ALLOWED, AGAIN, NEVER)] == [PASSED] * 3
    assert verdict(FINISHED, annotated) == NOT_OBSERVED


@able
def test_a_job_that_waits_may_start_while_it_is_cancelled(contract: Contract) -> None:
    runs, waiting = a_stage(contract, cancellable=False), a_stage(contract, cancellable=True)
    annotated = poll(cancel(poll(told(contract), waiting), runs), runs)
    assert verdict(ALLOWED, annotated) == NOT_OBSERVED


@able
def test_a_job_that_waits_on_was_not_to_be_refused(contract: Contract) -> None:
    waiting = a_stage(contract, cancellable=True)
    annotated = poll(told(knowing(contract)), waiting).call("cancel", None, status=409)
    assert verdict(ALLOWED, poll(annotated, waiting)) == BROKEN
    # That a waiting job can be cancelled is documented even if the response to the cancellation is not.
    annotated = poll(told(assuming(contract, SITUATIONS)), waiting).call("cancel", None, status=409)
    assert verdict(ALLOWED, poll(annotated, waiting)) == BROKEN
    annotated = poll(told(assuming(contract, "lifecycle.json#/stages")), waiting).call("cancel", None, status=409)
    assert verdict(ALLOWED, poll(annotated, waiting)) == LESSON
    annotated = poll(told(knowing(contract)), waiting).call("cancel", "unauthenticated", headers=())
    assert verdict(ALLOWED, poll(annotated, waiting)) == PASSED
    assert verdict(ALLOWED, poll(poll(told(contract), waiting).nothing("cancel"), waiting)) == NOT_OBSERVED


@able
def test_a_queued_job_is_not_reported_as_running(contract: Contract) -> None:
    runs, waiting = a_stage(contract, cancellable=False), a_stage(contract, cancellable=True)
    annotated = poll(cancel(poll(told(knowing(contract)), waiting), runs), waiting)
    assert verdict(ALLOWED, annotated) == BROKEN
    annotated.contract = assuming(contract, SITUATIONS)
    assert verdict(ALLOWED, annotated) == BROKEN
    annotated.contract = assuming(contract, "lifecycle.json#/stages")
    assert verdict(ALLOWED, annotated) == LESSON


@able
def test_a_cancellation_may_take_effect_later(contract: Contract) -> None:
    runs, waiting = a_stage(contract, cancellable=False), a_stage(contract, cancellable=True)
    annotated = poll(cancel(poll(told(knowing(contract)), waiting), runs), waiting)
    assert verdict(ALLOWED, poll(annotated, a_stage(contract, "cancelled"))) == PASSED


@able
def test_a_job_that_runs_is_not_cancelled_where_it_cannot_be(contract: Contract) -> None:
    runs, gone = a_stage(contract, cancellable=False), a_stage(contract, "cancelled")
    annotated = cancel(poll(told(knowing(contract)), runs), runs)
    assert verdict(ALLOWED, poll(annotated, runs)) == PASSED
    annotated = cancel(poll(told(knowing(contract)), runs), gone)
    assert verdict(ALLOWED, annotated) == BROKEN
    annotated.contract = assuming(contract, SITUATIONS)
    assert verdict(ALLOWED, annotated) == LESSON
    assert verdict(ALLOWED, poll(annotated, gone)) == BROKEN
    annotated.contract = assuming(contract, f"lifecycle.json#/stages/{runs.name}/cancellable")
    assert verdict(ALLOWED, annotated) == LESSON


@able
def test_a_repeated_cancellation_gets_the_same_response(contract: Contract) -> None:
    gone, runs = a_stage(contract, "cancelled"), a_stage(contract, cancellable=False)
    first = cancel(told(knowing(contract)), gone)
    assert verdict(AGAIN, first) == NOT_OBSERVED
    assert verdict(AGAIN, cancel(first, gone).call("cancel", "rate_limited")) == PASSED
    assert verdict(AGAIN, cancel(first, runs)) == BROKEN
    first.contract = assuming(contract, SITUATIONS)
    assert verdict(AGAIN, first) == LESSON
    refused = cancel(told(knowing(contract)), gone).call("cancel", None, status=409)
    assert verdict(AGAIN, refused) == BROKEN
    other = cancel(told(knowing(contract)), gone).call("cancel", "unauthenticated", headers=())
    assert verdict(AGAIN, other) == NOT_OBSERVED


@able
def test_a_job_that_was_cancelled_never_succeeds(contract: Contract) -> None:
    gone, done = a_stage(contract, "cancelled"), a_stage(contract, "success")
    annotated = result(cancel(told(contract), gone), done)
    assert verdict(NEVER, annotated) == BROKEN
    annotated.contract = assuming(contract, f"lifecycle.json#/stages/{gone.name}/next")
    assert verdict(NEVER, annotated) == LESSON
    assert verdict(NEVER, result(poll(cancel(told(contract), done), done), done)) == NOT_OBSERVED


@able
def test_a_job_that_has_ended_is_not_changed(contract: Contract) -> None:
    gone, done = a_stage(contract, "cancelled"), a_stage(contract, "success")
    ended = result(told(knowing(contract)), done)
    assert verdict(FINISHED, result(cancel(ended, done), done)) == PASSED
    assert verdict(FINISHED, ended.call("cancel", None, status=409)) == PASSED
    annotated = result(cancel(result(told(knowing(contract)), done), done), gone)
    assert verdict(FINISHED, annotated) == BROKEN
    annotated.contract = assuming(contract, f"lifecycle.json#/stages/{done.name}/next")
    assert verdict(FINISHED, annotated) == LESSON
    annotated = cancel(result(told(knowing(contract)), done), gone)
    assert verdict(FINISHED, annotated) == BROKEN
    annotated.contract = assuming(contract, SITUATIONS)
    assert verdict(FINISHED, annotated) == LESSON


# CNL-05


with_outcome = contracts_that(
    lambda contract: "cancel" in contract.operations and "outcome" in contract.operations["cancel"].bindings
)


def refused_stage(contract: Contract) -> Stage:
    """Return a stage whose cancellation has another outcome than the one of a cancelled job."""
    return a_stage(contract, cancellable=False)


@with_outcome
def test_a_true_outcome_is_kept(contract: Contract) -> None:
    success, gone = a_stage(contract, "success"), a_stage(contract, "cancelled")
    assert verdict(OUTCOME, poll(cancel(told(contract), gone), gone)) == PASSED
    assert verdict(OUTCOME, result(cancel(told(contract), refused_stage(contract)), success)) == PASSED
    # A job that was last seen under way may still be cancelled.
    assert verdict(OUTCOME, poll(cancel(told(contract), gone), refused_stage(contract))) == NOT_OBSERVED


@with_outcome
def test_a_false_outcome_is_reported(contract: Contract) -> None:
    success, gone = a_stage(contract, "success"), a_stage(contract, "cancelled")
    assert verdict(OUTCOME, result(cancel(told(contract), gone), success)) == BROKEN
    assert verdict(OUTCOME, cancel(result(told(contract), success), gone)) == BROKEN
    denied = cancel(told(contract), refused_stage(contract))
    assert verdict(OUTCOME, poll(denied, gone)) == BROKEN
    # A second cancellation may have been the one that worked.
    again = cancel(cancel(told(contract), refused_stage(contract)), gone)
    assert verdict(OUTCOME, poll(again, gone)) == PASSED
    # A further cancellation of a cancelled job changes nothing, whatever word it has for that.
    twice = cancel(cancel(told(contract), gone), refused_stage(contract))
    assert verdict(OUTCOME, poll(twice, gone)) == PASSED
    annotated = result(cancel(told(contract), gone), success)
    annotated.contract = assuming(contract, "lifecycle.json#/operations/cancel/bindings/outcome")
    assert verdict(OUTCOME, annotated) == LESSON


@with_outcome
def test_only_the_outcome_of_a_further_cancellation_is_free(contract: Contract) -> None:
    """No document says what happens to a job that is cancelled already, so its body breaks no shape either."""
    operation, gone = contract.operations["cancel"], a_stage(contract, "cancelled")
    first = operation.situations[answer(contract, "cancel", gone)]
    other = operation.situations[answer(contract, "cancel", refused_stage(contract))]
    at = operation.bindings["outcome"].response[0].pointer
    word = resolve(contract.schemas.at(other.example_at), at)
    body = orjson.dumps(replaced(contract.schemas.at(first.example_at), at, word))
    shape = named(family("SHA"), "SHA-01")
    once = told(contract).wait(1).call("cancel", first.name, answer=body)
    assert verdict(shape, once) == BROKEN
    assert verdict(shape, cancel(told(contract), gone).wait(1).call("cancel", first.name, answer=body)) == PASSED


# CNL-06


def beside(contract: Contract, kind: str, cancelled: str | None = "first") -> Teller:
    """Return a trace of two jobs: one is cancelled, and then the other one is read in a stage."""
    annotated = teller(contract).submit(job="first").submit(job="second", key="key-2")
    if cancelled is not None:
        situation = answer(contract, "cancel", a_stage(contract, "cancelled"))
        annotated.wait(1).call("cancel", situation, cancelled)
    return annotated.wait(1).call("status", answer(contract, "status", a_stage(contract, kind)), "second")


@able
def test_a_cancellation_changes_no_other_job(contract: Contract) -> None:
    assert verdict(OTHERS, beside(contract, "running")) == PASSED
    assert verdict(OTHERS, beside(contract, "cancelled")) == BROKEN
    assert verdict(OTHERS, beside(contract, "cancelled", "second")) == NOT_OBSERVED
    assert verdict(OTHERS, beside(contract, "cancelled", None)) == NOT_OBSERVED


@able
def test_another_job_that_is_cancelled_only_later_is_found_as_well(contract: Contract) -> None:
    gone = answer(contract, "status", a_stage(contract, "cancelled"))
    assert verdict(OTHERS, beside(contract, "running").wait(1).call("status", gone, "second")) == BROKEN


@able
def test_another_job_that_was_cancelled_before_tells_nothing(contract: Contract) -> None:
    gone, cancelled = answer(contract, "status", a_stage(contract, "cancelled")), a_stage(contract, "cancelled")
    told = teller(contract).submit(job="first").submit(job="second", key="key-2").call("status", gone, "second")
    told.wait(1).call("cancel", answer(contract, "cancel", cancelled), "first")
    assert verdict(OTHERS, told.wait(1).call("status", gone, "second")) == NOT_OBSERVED
