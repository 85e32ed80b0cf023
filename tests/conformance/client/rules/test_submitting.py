"""The rules about submissions, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import submitting as rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.pair import annotated
from tests.conftest import CONTRACTS, contracts_that
from tests.judging import messages
from tests.tracing import JOB, Teller

BY_KEY = {contract.key: contract for contract in CONTRACTS}
keyed = contracts_that(lambda contract: contract.idempotency.mode == "replay")
keyless = contracts_that(lambda contract: contract.idempotency.mode == "none")


def running(contract: Contract) -> str:
    return next(stage.name for stage in contract.graph if not stage.terminal)


def failed(contract: Contract) -> str:
    names = contract.operations["result" if "result" in contract.operations else "status"].situations
    return next(stage.name for stage in contract.graph if stage.kind == "failure" and stage.name in names)


def test_an_accepted_submission_shows_nothing_about_resending(contract: Contract) -> None:
    assert messages(rules.no_ambiguous_resend, Teller(contract).submit().story()) is None


@pytest.mark.parametrize("status", [0, 500, 502, 504, 408])
def test_resending_after_an_unknown_outcome_is_found(contract: Contract, status: int) -> None:
    told = Teller(contract).submit(None, status=status, answered=None if status == 0 else 1.0, job=None)
    assert messages(rules.no_ambiguous_resend, told.story()) is None, "the trace does not show what the client did next"
    assert messages(rules.no_ambiguous_resend, told.end("unfinished").story()) is None
    assert messages(rules.no_ambiguous_resend, told.end("error").story()) == []
    told.wait(1).submit(key="another")
    assert messages(rules.no_ambiguous_resend, told.story()) != []


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data": null}'])
def test_resending_after_a_2xx_without_an_id_is_found(contract: Contract, body: bytes) -> None:
    told = Teller(contract).submit(answer=body, job=None)
    assert messages(rules.no_ambiguous_resend, told.end("error").story()) == []
    assert messages(rules.no_ambiguous_resend, told.submit(key="another").story()) != []


@keyed
def test_the_same_key_and_body_may_be_resent(contract: Contract) -> None:
    told = Teller(contract).nothing("submit", headers=(("idempotency-key", "key-1"),), body=b"{}")
    assert messages(rules.no_ambiguous_resend, told.submit().story()) == []
    assert messages(rules.no_ambiguous_resend, told.submit(body=b'{"a": 1}').story()) != []


def test_a_refused_submission_may_be_retried(contract: Contract) -> None:
    told = Teller(contract).submit(None, status=503, job=None).wait(1).submit()
    assert messages(rules.no_ambiguous_resend, told.story()) is None
    assert messages(rules.safe_resend_allowed, told.story()) == []


def test_an_immediate_retry_of_a_refused_submission_is_found(contract: Contract) -> None:
    told = Teller(contract).submit(None, status=429, job=None).submit()
    assert messages(rules.safe_resend_allowed, told.story()) != []


def test_endless_retries_of_a_refused_submission_are_found(contract: Contract) -> None:
    told = Teller(contract)
    for _ in range(20):
        told.submit(None, status=429, job=None).wait(2)
    assert messages(rules.safe_resend_allowed, told.story()) != []


def test_slow_retries_and_those_that_the_provider_requests_are_not_counted(contract: Contract) -> None:
    for pause, headers in ((12, ()), (1, (("retry-after", "1"),)), (0, (("retry-after", "0"),))):
        told = Teller(contract)
        for _ in range(20):
            told.submit(None, status=429, job=None, answer_headers=headers).wait(pause)
        assert messages(rules.safe_resend_allowed, told.story()) == [], pause


AGAIN = (("retry-after", "5"),)


@pytest.mark.parametrize("how", [{"status": status, "answer_headers": AGAIN} for status in (429, 503)])
@pytest.mark.parametrize("kind", ["failed", "error", "timeout"])
def test_an_order_that_one_refusal_loses_is_found(contract: Contract, how: dict[str, Any], kind: str) -> None:
    (found,) = (
        messages(rules.one_refusal_survives, Teller(contract).submit(None, job=None, **how).end(kind).story()) or []
    )
    assert f"refused ({how['status']})" in found
    told = Teller(contract).submit(None, job=None, **how).wait(5).submit(None, job=None, **how).end(kind)
    assert messages(rules.one_refusal_survives, told.story()) == []
    told = Teller(contract).submit(None, job=None, **how).wait(5).submit().end("success")
    assert messages(rules.one_refusal_survives, told.story()) == []


@pytest.mark.parametrize("status", [0, 408, 502, 504])
def test_a_lost_response_loses_an_order_only_if_keys_are_replayed(contract: Contract, status: int) -> None:
    told = Teller(contract)
    told = (told.nothing("submit", job=None) if status == 0 else told.submit(None, status=status, job=None)).end(
        "error"
    )
    found = messages(rules.one_refusal_survives, told.story())
    assert bool(found) == (contract.idempotency.mode == "replay")
    assert found or found is None


@contracts_that(lambda contract: "key_in_flight" in contract.operations["submit"].situations)
def test_a_client_that_gives_up_because_its_own_attempt_is_in_progress_is_found(contract: Contract) -> None:
    def told() -> Teller:
        return Teller(contract).nothing("submit", job=None).wait(2).submit("key_in_flight", job=None)

    (found,) = messages(rules.one_refusal_survives, told().end("error").story()) or []
    assert "the first attempt with its key is in progress (409), but the client gave up the job" in found
    assert messages(rules.one_refusal_survives, told().wait(2).submit().end("success").story()) == []
    alone = Teller(contract).submit("key_in_flight", job=None).end("error")
    assert messages(rules.one_refusal_survives, alone.story()) is None
    # Two such refusals, or a client that ended at its own deadline.
    again = told().wait(2).submit("key_in_flight", job=None)
    assert messages(rules.one_refusal_survives, again.end("error").story()) == []
    assert messages(rules.one_refusal_survives, told().wait(90).end("timeout").story()) == []


@keyed
@pytest.mark.parametrize("key", ["k", None])
def test_a_client_without_a_key_is_not_asked_to_retry_a_lost_submission(contract: Contract, key: str | None) -> None:
    told = Teller(contract).submit(None, job=None, key=key, status=504).end("error")
    (found,) = messages(rules.one_refusal_survives, told.story()) or []
    assert found.endswith("gave up without a retry" if key else "sent no key to retry with")


@pytest.mark.parametrize(
    "how",
    [
        {"status": 429},
        {"status": 429, "answer_headers": (("retry-after", "90"),)},
        {"status": 503, "answer": b"<html>"},
        {"status": 500},
        {"status": 400},
        {"status": 402},
    ],
)
def test_a_refusal_that_invites_no_retry_may_be_reported(contract: Contract, how: dict[str, Any]) -> None:
    told = Teller(contract).submit(None, job=None, **how).end("error")
    assert messages(rules.one_refusal_survives, told.story()) is None


def test_an_order_that_is_not_given_up_soon_is_not_lost(contract: Contract) -> None:
    def refused() -> Teller:
        return Teller(contract).submit(None, job=None, status=503, answer=b"{}")

    assert messages(rules.one_refusal_survives, refused().wait(100).end("timeout").story()) is None
    assert messages(rules.one_refusal_survives, refused().end("unfinished").story()) is None
    assert messages(rules.one_refusal_survives, refused().story()) is None
    assert messages(rules.one_refusal_survives, refused().call("list", None, status=200).end("error").story()) is None
    told = refused().end("error")
    told.drill = "crowd"
    assert messages(rules.one_refusal_survives, told.story()) is None


@contracts_that(lambda contract: contract.idempotency.mode == "replay")
def test_an_order_is_lost_if_it_is_given_up_before_its_response_or_within_a_minute_after_it(contract: Contract) -> None:
    def ended(answered: float, later: float) -> list[str] | None:
        told = Teller(contract)
        told.submit(None, job=None, status=504, answered=told.now + answered)
        return messages(rules.one_refusal_survives, told.wait(later - 0.002).end("error").story())

    assert ended(answered=30, later=10)
    assert ended(answered=30, later=89)
    assert ended(answered=30, later=91) is None


def test_a_date_that_a_client_may_misread_is_not_judged(contract: Contract) -> None:
    date = (("retry-after", "Thu, 01 Jan 2026 00:00:05 GMT"),)
    told = Teller(contract).submit(None, job=None, status=429, answer_headers=date).end("error")
    assert messages(rules.one_refusal_survives, told.story()) != []
    virtual = AnnotatedTrace(contract, replace(told.trace(), real_dates=True))
    assert messages(rules.one_refusal_survives, virtual) is None


@keyed
def test_a_new_key_within_an_order_is_found(contract: Contract) -> None:
    told = Teller(contract).submit(None, status=503, job=None).wait(1).submit()
    assert messages(rules.stable_key, told.story()) == []
    assert messages(rules.stable_key, told.submit(key="key-2").story()) != []


@keyed
def test_a_key_shared_between_orders_is_found(contract: Contract) -> None:
    told = Teller(contract, {"a": 1}).submit().end("success").wait(1).again({"a": 2})
    assert messages(rules.stable_key, told.submit(key="key-2").story()) == []
    told = Teller(contract, {"a": 1}).submit().end("success").wait(1).again({"a": 2})
    assert messages(rules.stable_key, told.submit().story()) != []


@keyed
def test_a_single_submission_shows_nothing_about_keys_or_retries(contract: Contract) -> None:
    assert messages(rules.stable_key, Teller(contract).submit().end("success").story()) is None
    told = Teller(contract).submit(None, status=429, job=None).end("error")
    assert messages(rules.safe_resend_allowed, told.story()) is None


@keyed
def test_a_key_with_another_body_is_found(contract: Contract) -> None:
    told = Teller(contract, {"a": 1}).submit(None, status=503, job=None).wait(1).submit(body=b'{"a": 2}')
    (found,) = messages(rules.stable_key, told.story()) or []
    assert "with another body" in found


@keyed
def test_a_resend_without_a_key_is_found(contract: Contract) -> None:
    told = Teller(contract).submit(None, status=503, key=None, job=None)
    assert messages(rules.stable_key, told.story()) is None
    assert messages(rules.stable_key, told.submit(key=None).story()) != []
    told = Teller(contract).submit(None, status=429, key=None, job=None)
    assert messages(rules.stable_key, told.submit(key=None).story()) is None, (
        "the first one has certainly bought nothing"
    )


@keyed
def test_a_new_key_after_a_refused_key_is_found(contract: Contract) -> None:
    told = Teller(contract).submit("key_mismatch", job=None)
    assert messages(rules.reject_mode, told.story()) is None
    assert messages(rules.reject_mode, told.end("error").story()) == []
    assert messages(rules.reject_mode, told.submit(key="key-2").story()) != []


def test_resubmitting_a_failed_job_is_found(contract: Contract) -> None:
    read = "result" if "result" in contract.operations else "status"
    told = Teller(contract).submit().call(read, failed(contract))
    assert messages(rules.no_resubmit_on_failed, told.story()) is None
    assert messages(rules.no_resubmit_on_failed, told.end("failed").story()) == []
    assert messages(rules.no_resubmit_on_failed, told.submit(job="job-2").story()) != []


def test_resubmitting_a_job_under_way_is_found(contract: Contract) -> None:
    told = Teller(contract).submit().status(running(contract))
    assert messages(rules.no_resubmit_on_own_timeout, told.story()) == []
    told.wait(900).submit(job="job-2", key="key-2")
    assert messages(rules.no_resubmit_on_own_timeout, told.story()) != []
    assert messages(rules.no_resubmit_on_failed, told.story()) is None


@contracts_that(lambda contract: "cancel" in contract.operations)
def test_a_cancelled_job_is_not_under_way(contract: Contract) -> None:
    told = Teller(contract).submit().wait(10).status(running(contract)).call("cancel", "cancelled").submit(job="job-2")
    assert messages(rules.no_resubmit_on_own_timeout, told.story()) == []
    assert messages(rules.no_resubmit_on_failed, told.story()) != []


# ---- two providers


def both(first: Teller, second: Teller) -> list[str] | None:
    """Return the breaches of SUB-08 at the second provider."""
    trace = replace(first.trace(), partner=replace(second.trace(), rank=1))
    return messages(rules.one_purchase, annotated([first.contract, second.contract], trace)[1])


def second_after(first: Teller, seconds: float = 1.0) -> Teller:
    """Return a trace at another provider that goes on when the first one's has ended."""
    other = next(contract for contract in CONTRACTS if contract.key != first.contract.key)
    told = Teller(other)
    told.now = first.now + seconds
    return told


def test_a_single_provider_shows_nothing_about_a_second_purchase(contract: Contract) -> None:
    assert messages(rules.one_purchase, Teller(contract).submit().story()) is None
    told = Teller(contract).submit()
    assert both(told, second_after(told)) is None, "nothing was submitted to the second provider"
    assert both(Teller(contract), Teller(contract).submit()) is None, "nor to the first one"


def test_a_purchase_after_a_certain_refusal_is_right(contract: Contract) -> None:
    for status in (400, 401, 422, 429, 503):
        told = Teller(contract).submit(None, status=status, job=None)
        assert both(told, second_after(told).submit()) == []


@pytest.mark.parametrize("status", [0, 500, 502, 504, 408])
def test_a_purchase_after_an_unknown_outcome_is_found(contract: Contract, status: int) -> None:
    told = Teller(contract).submit(None, status=status, answered=None if status == 0 else 1.0, job=None)
    (found,) = both(told, second_after(told).submit()) or [""]
    assert found.startswith("one click, two billed jobs at two providers: request 1 submits to ")
    assert (
        f"request 1 to {contract.key} may have created a job ({f'status {status}' if status else 'no response'})"
        in found
    )
    # A submission that is refused buys nothing.
    assert both(told, second_after(told).submit(None, status=400, job=None)) is None


def test_a_purchase_is_right_only_once_the_client_has_seen_the_failed_job(contract: Contract) -> None:
    told = Teller(contract).submit()
    (found,) = both(told, second_after(told).submit()) or [""]
    assert f"although job {JOB} at {contract.key} had neither failed nor been cancelled" in found
    told.status(running(contract))
    assert both(told, second_after(told).submit()) != []
    (told.result if "result" in contract.operations else told.status)(failed(contract))
    assert both(told, second_after(told).submit()) == []
    assert both(told, second_after(told, -0.003).submit()) != [], "it was submitted before the failure was shown"
    told.exchanges[-1] = replace(told.exchanges[-1], answered=told.now + 10)
    assert both(told, second_after(told).submit()) != [], "it was submitted before the response had arrived"


def test_a_failure_of_another_job_excuses_no_purchase(contract: Contract) -> None:
    told = Teller(contract).submit()
    (told.result if "result" in contract.operations else told.status)(failed(contract), job="another")
    assert both(told, second_after(told).submit()) != []


@contracts_that(lambda contract: "cancel" in contract.operations)
def test_only_a_confirmed_cancellation_excuses_a_purchase(contract: Contract) -> None:
    for situation, how, is_right in (
        ("cancelled", {}, True),
        ("cancelled", {"status": 500}, False),
        ("cancelled", {"whole": False}, False),
        ("completed", {}, False),
    ):
        told = Teller(contract).submit().call("cancel", situation, **how)
        assert (both(told, second_after(told).submit()) == []) is is_right, situation


def test_two_submissions_of_one_moment_are_found(contract: Contract) -> None:
    told = Teller(contract).submit(None, status=400, job=None)
    other = second_after(told, -0.002).submit(number=2)
    told.exchanges[0] = replace(told.exchanges[0], number=1)
    (found,) = both(told, other) or [""]
    assert f"before {contract.key} has answered request 1" in found


@keyed
def test_a_repeated_key_shows_what_became_of_a_lost_submission(contract: Contract) -> None:
    told = Teller(contract).submit(None, status=0, answered=None, made=JOB).wait(1).submit()
    assert both(told, second_after(told).submit()) != [], "its job goes on"
    told.status(failed(contract))
    assert both(told, second_after(told).submit()) == []
    refused = Teller(contract).submit(None, status=0, answered=None, job=None).wait(1)
    assert both(refused.submit(None, status=400, job=None), second_after(refused).submit()) == []
    accepted = Teller(contract).submit().wait(1).submit(None, status=400, job=None)
    assert both(accepted, second_after(accepted).submit()) != [], "the first submission was accepted"
    other = Teller(contract).submit(None, status=0, answered=None, job=None).wait(1)
    assert both(other.submit(None, status=400, job=None, key="another"), second_after(other).submit()) != []


@contracts_that(lambda contract: contract.callbacks is not None)
def test_a_callback_about_the_failure_excuses_a_purchase(contract: Contract) -> None:
    told = Teller(contract).submit()
    told.callback(failed(contract), job="another")
    assert both(told, second_after(told).submit()) != []
    assert contract.callbacks is not None
    names = [stage.name for stage in contract.graph if stage.kind == "success"]
    told.callback(next(name for name in names if name in contract.callbacks.situations))
    assert both(told, second_after(told).submit()) != []
    told.callback(failed(contract))
    assert both(told, second_after(told).submit()) == []
    assert both(told, second_after(told, -0.003).submit()) != [], "it was submitted before the callback"


def test_each_run_has_orders_of_its_own(contract: Contract) -> None:
    told = Teller(contract).submit()
    other = second_after(told)
    run = replace(told.runs[0], started=other.now)
    told.runs.append(run)
    other.runs.append(run)
    assert both(told, other.submit()) is None
