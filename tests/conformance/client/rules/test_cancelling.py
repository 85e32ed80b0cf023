"""The rules about cancelling, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

import pytest

from hobbyhorse.conformance.client.rules import cancelling as rules
from hobbyhorse.contract.values import Contract
from tests.conformance.client.rules.test_deadlines import done, patience, running, waiting
from tests.conftest import contracts_that
from tests.judging import checked, messages, rules_of
from tests.tracing import FOREIGN, JOB, Teller

able = contracts_that(lambda contract: "cancel" in contract.operations)
unable = contracts_that(lambda contract: "cancel" not in contract.operations)


@unable
def test_cancellation_rules_do_not_apply_without_a_cancel_operation(contract: Contract) -> None:
    trace = waiting(contract, patience(contract)).end("timeout").story()
    assert [checked(rule, trace) for rule in rules_of(rules)] == [None] * 3


@able
@pytest.mark.parametrize("how", ["failed", "error", "timeout"])
def test_an_abandoned_job_is_cancelled(contract: Contract, how: str) -> None:
    told = waiting(contract, patience(contract)).call("cancel", running(contract)).end(how)
    assert messages(rules.cancel_on_abort, told.story()) in ([], None)
    for job in (JOB, None):
        told = waiting(contract, patience(contract)).nothing("cancel", job=job).end(how)
        assert messages(rules.cancel_on_abort, told.story()) == []
    assert messages(rules.cancel_on_abort, waiting(contract, patience(contract)).end(how).story()) != []


@able
@pytest.mark.parametrize("seconds", [10, 60])
def test_a_short_deadline_does_not_excuse_from_cancelling(contract: Contract, seconds: float) -> None:
    for how in ({"told": True}, {"told": False}):
        told = waiting(contract, seconds).end("timeout", **how)
        assert messages(rules.cancel_on_abort, told.story()) != [], how
        told = waiting(contract, seconds).call("cancel", running(contract)).end("timeout", **how)
        assert messages(rules.cancel_on_abort, told.story()) == [], how
    # A client whose error does not name the deadline has shown it by its polls.
    told = waiting(contract, seconds).status(running(contract)).status(running(contract)).end("failed", told=False)
    assert messages(rules.cancel_on_abort, told.story()) != []


@able
def test_the_timeout_of_one_request_is_not_the_deadline(contract: Contract) -> None:
    told = waiting(contract, 10).nothing("status").end("timeout", told=False)
    assert messages(rules.cancel_on_abort, told.story()) is None
    told = Teller(contract).submit().wait(3).status(running(contract)).end("failed", told=False)
    assert messages(rules.cancel_on_abort, told.story()) is None


@able
def test_a_failed_poll_at_the_deadline_does_not_excuse_from_cancelling(contract: Contract) -> None:
    told = waiting(contract, patience(contract)).nothing("status").status(None, status=503).end("timeout")
    assert messages(rules.cancel_on_abort, told.story()) != []


@able
def test_a_job_that_may_have_ended_need_not_be_cancelled(contract: Contract) -> None:
    told = waiting(contract, patience(contract))
    assert messages(rules.cancel_on_abort, told.status("unknown_job").end("error").story()) is None
    told = waiting(contract, patience(contract)).status(done(contract)).end("error")
    assert messages(rules.cancel_on_abort, told.story()) is None
    assert messages(rules.cancel_on_abort, waiting(contract, 10).end("error").story()) is None
    assert messages(rules.cancel_on_abort, waiting(contract, patience(contract)).end("unfinished").story()) is None


@able
def test_a_cancel_url_on_a_foreign_origin_need_not_be_followed(contract: Contract) -> None:
    told = Teller(contract)
    home = told.base
    told.base = f"{FOREIGN}/{contract.key}"
    told.submit()
    told.base = home
    told.wait(patience(contract)).status(running(contract)).end("timeout")
    assert messages(rules.cancel_on_abort, told.story()) is None


@able
def test_a_job_without_a_request_to_cancel_shows_nothing_about_the_race(contract: Contract) -> None:
    assert messages(rules.cancel_race, waiting(contract, 100).end("timeout").story()) is None
    told = waiting(contract, 100).call("cancel", "cancelled").end("timeout")
    assert messages(rules.cancel_race, told.story()) is None, "it was cancelled as requested"


@able
@pytest.mark.parametrize("answer", ["completed", "in_progress", "unknown_job", "server_error"])
def test_a_refused_cancellation_is_fine_if_the_error_exposes_the_job_id(contract: Contract, answer: str) -> None:
    told = waiting(contract, 100).call("cancel", answer).end("timeout")
    assert messages(rules.cancel_race, told.story()) == []


@able
@pytest.mark.parametrize("answer", ["completed", "unknown_job", "server_error"])
@pytest.mark.parametrize("how", ["failed", "error"])
def test_a_job_that_was_not_cancelled_must_not_be_lost(contract: Contract, answer: str, how: str) -> None:
    told = waiting(contract, 100).call("cancel", answer).end(how, id_exposed=False)
    assert messages(rules.cancel_race, told.story()) != []
    told = waiting(contract, 100).call("cancel", answer).end(how, id_exposed=None)
    assert messages(rules.cancel_race, told.story()) == []


@able
def test_a_submission_after_a_cancellation_is_found(contract: Contract) -> None:
    told = waiting(contract, 100).call("cancel", "cancelled").submit(job="job-2").end("timeout")
    assert messages(rules.cancel_race, told.story()) != []


@able
def test_endless_requests_to_cancel_are_found(contract: Contract) -> None:
    told = waiting(contract, 100)
    for _ in range(4):
        told.call("cancel", None, status=503)
    assert messages(rules.cancel_race, told.call("cancel", "cancelled").end("timeout").story()) == []
    for _ in range(3):
        told.call("cancel", "cancelled")
    assert messages(rules.cancel_race, told.end("timeout").story()) != []


CLAIM = "JobError: job 7 was cancelled by the client"


def refused(contract: Contract, message: str = CLAIM, how: str = "failed") -> Teller:
    """Return a trace of a client that reports something after a refused cancellation."""
    told = waiting(contract, patience(contract)).call("cancel", None, status=409)
    return told.status(running(contract)).end(how, message=message)


@able
def test_a_cancellation_that_was_not_confirmed_is_not_reported(contract: Contract) -> None:
    for how in ("failed", "timeout"):
        (found,) = messages(rules.cancel_is_confirmed, refused(contract, how=how).story()) or []
        assert found.startswith("the cancellation was not confirmed (409, request 12), but the run ended with")
    (found,) = messages(rules.cancel_is_confirmed, refused(contract, "Failed: job 7 was canceled").story()) or []
    for message in ("job 7: it was not done after 1800 s, and was cancelled", "the job failed; it is canceled"):
        assert messages(rules.cancel_is_confirmed, refused(contract, message).story()) not in (None, [])
    lost = waiting(contract, patience(contract)).nothing("cancel").end("failed", message=CLAIM)
    (found,) = messages(rules.cancel_is_confirmed, lost.story()) or []
    assert "(no response, request 12)" in found


@able
@pytest.mark.parametrize(
    "message",
    [
        "timed out: job 7 is still running",
        "job 7 could not be cancelled",
        "job 7 was not cancelled: HTTP 409",
        "gave up; job 7 may be cancelled or not",
        "the job can't be canceled",
        "failed to get job 7 cancelled",
    ],
)
def test_other_reports_after_a_refused_cancellation_are_right(contract: Contract, message: str) -> None:
    assert messages(rules.cancel_is_confirmed, refused(contract, message).story()) == []


@able
def test_a_confirmed_cancellation_may_be_reported(contract: Contract) -> None:
    told = waiting(contract, patience(contract)).call("cancel", "cancelled").end("failed", message=CLAIM)
    assert messages(rules.cancel_is_confirmed, told.story()) is None
    assert messages(rules.cancel_is_confirmed, refused(contract).made("cancelled").story()) is None
    told = waiting(contract, patience(contract)).call("cancel", None, status=204).end("failed", message=CLAIM)
    assert messages(rules.cancel_is_confirmed, told.story()) is None, "any 2xx may be read as a confirmation"
    told = waiting(contract, patience(contract)).end("failed", message=CLAIM)
    assert messages(rules.cancel_is_confirmed, told.story()) is None, "nothing was requested"
    assert messages(rules.cancel_is_confirmed, refused(contract, how="success").story()) is None
