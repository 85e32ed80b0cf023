"""The rules about restarts, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import persistence as rules
from hobbyhorse.contract.values import Contract
from tests.conformance.client.rules.test_deadlines import done, running
from tests.conftest import contracts_that
from tests.judging import checked, messages, rules_of
from tests.tracing import HOME, MEDIA, Teller

keyed = contracts_that(lambda contract: contract.idempotency.mode == "replay")


def ended(contract: Contract, told: Teller) -> Teller:
    """Add a job that is polled to its end and fetched."""
    told.status(done(contract))
    if "result" in contract.operations:
        told.result("succeeded")
    return told.media()


def test_a_client_that_was_not_killed_is_not_judged(contract: Contract) -> None:
    trace = Teller(contract).submit().end("success").story()
    assert [checked(rule, trace) for rule in rules_of(rules)] == [None, None]


def test_a_client_that_resumes_its_job_keeps_the_rule(contract: Contract) -> None:
    told = ended(contract, Teller(contract).submit().wait(1).restart().wait(1)).end("success")
    assert messages(rules.resume_not_resubmit, told.story()) == []


@pytest.mark.parametrize(
    "how", [{}, {"status": 0, "answered": None}, {"whole": False}, {"answer": b""}, {"status": 504}]
)
def test_a_second_submission_of_a_possible_job_is_found(contract: Contract, how: dict[str, Any]) -> None:
    told = Teller(contract).submit(**how).wait(1).restart().wait(1).submit(key="another", job="job-2")
    assert messages(rules.resume_not_resubmit, told.end("success").story()) != []


@pytest.mark.parametrize(
    ("how", "fate"),
    [
        ({"status": 0, "answered": None}, "may have created a job (no response)"),
        ({"status": 504}, "may have created a job (status 504)"),
    ],
)
def test_the_finding_says_how_the_first_submission_ended(contract: Contract, how: dict[str, Any], fate: str) -> None:
    told = Teller(contract).submit(**how).wait(1).restart().wait(1).submit(key="another", job="job-2")
    assert fate in str(messages(rules.resume_not_resubmit, told.end("success").story()))


def test_a_second_submission_of_a_collected_job_is_found(contract: Contract) -> None:
    told = ended(contract, Teller(contract).submit()).wait(1).restart().wait(1).submit(key="another", job="job-2")
    assert messages(rules.resume_not_resubmit, told.end("success").story()) != []


def test_a_certainly_refused_submission_may_be_repeated_after_a_restart(contract: Contract) -> None:
    told = Teller(contract).submit(None, status=429, job=None).wait(1).restart().wait(1).submit().end("success")
    assert messages(rules.resume_not_resubmit, told.story()) == []


def test_a_client_that_was_killed_before_submitting_may_submit(contract: Contract) -> None:
    told = Teller(contract).wait(1).restart().wait(1).submit().end("success")
    assert messages(rules.resume_not_resubmit, told.story()) is None


def test_submissions_within_one_run_are_not_judged_by_the_restart_rule(contract: Contract) -> None:
    told = Teller(contract).submit(None, status=429, job=None).restart().wait(1).submit(None, status=504).submit()
    assert messages(rules.resume_not_resubmit, told.story()) == []


@keyed
def test_the_same_key_and_body_is_not_a_new_order(contract: Contract) -> None:
    told = Teller(contract).submit(status=0, answered=None).wait(1).restart().wait(1).submit()
    assert messages(rules.resume_not_resubmit, told.story()) == []


OTHER = f"{HOME}/elsewhere"


def moved(contract: Contract, base: str, kind: str = "moved") -> Teller:
    """Return a trace of a client that was restarted with OTHER and requests its job from a base URL."""
    told = Teller(contract).submit().wait(1).restart(OTHER)
    told.drill = kind
    home, told.base = told.base, base
    told.wait(1).status(running(contract))
    told.base = home
    return told


def test_a_request_to_another_provider_for_a_job_is_found(contract: Contract) -> None:
    home = Teller(contract).base
    assert messages(rules.right_provider, moved(contract, home).story()) == []
    assert messages(rules.right_provider, moved(contract, OTHER).story()) != []
    assert messages(rules.right_provider, moved(contract, OTHER).media(url=f"{MEDIA}/video").story()) != []


def test_a_client_that_was_not_moved_or_requests_nothing_is_not_judged(contract: Contract) -> None:
    assert messages(rules.right_provider, moved(contract, OTHER, "killed").story()) is None
    told = Teller(contract).submit().wait(1).restart(OTHER).wait(1).end("error")
    told.drill = "moved"
    assert messages(rules.right_provider, told.story()) is None


def test_a_new_base_below_the_first_one_is_the_same_provider(contract: Contract) -> None:
    told = Teller(contract).submit().wait(1).restart(HOME).wait(1).status(running(contract))
    told.drill = "moved"
    assert messages(rules.right_provider, told.story()) == []
