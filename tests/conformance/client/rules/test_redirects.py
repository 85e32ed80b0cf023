"""The rules about redirects, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import redirects as rules
from hobbyhorse.contract.values import Contract
from tests.judging import messages
from tests.tracing import Teller


def redirected(contract: Contract, status: int = 307, to: str = "?hop=1", **how: Any) -> Teller:
    """Return a trace whose submission was redirected."""
    told = Teller(contract, {"prompt": "a horse"})
    return told.submit(None, job=None, status=status, answer_headers=(("location", to),), **how)


def target(told: Teller, to: str = "?hop=1") -> str:
    return told.exchanges[0].url + to


@pytest.mark.parametrize("status", [307, 308])
def test_a_submission_that_follows_a_redirect_stays_the_same(contract: Contract, status: int) -> None:
    told = redirected(contract, status)
    assert messages(rules.same_request, told.story()) is None, "it need not be followed"
    told.submit(url=target(told))
    assert messages(rules.same_request, told.story()) == []


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirected_submission_that_becomes_another_request_is_found(contract: Contract, status: int) -> None:
    told = redirected(contract, status)
    told.submit(url=target(told), method="GET", body=b"")
    (found,) = messages(rules.same_request, told.story()) or []
    assert found == f"request 1 (POST) was redirected ({status}), but request 2 follows it with GET"
    told = redirected(contract, status)
    told.submit(url=target(told), body=b"{}")
    (found,) = messages(rules.same_request, told.story()) or []
    assert found.endswith("but request 2 follows it with another body")


def test_the_method_may_change_after_other_redirects(contract: Contract) -> None:
    told = redirected(contract, 302)
    told.submit(url=target(told), method="GET", body=b"")
    assert messages(rules.same_request, told.story()) is None


def test_a_request_of_another_run_or_elsewhere_does_not_follow(contract: Contract) -> None:
    told = redirected(contract)
    told.submit(method="GET")
    assert messages(rules.same_request, told.story()) is None
    told = redirected(contract)
    told.end("failed").wait(1).again({"prompt": "a mule"}).submit(url=target(told), method="GET")
    assert messages(rules.same_request, told.story()) is None


def test_a_body_that_was_not_recorded_may_be_the_same(contract: Contract) -> None:
    told = redirected(contract)
    told.submit(url=target(told), body=b"", unrecorded=("body",))
    assert messages(rules.same_request, told.story()) == []


@pytest.mark.parametrize(
    ("status", "headers"), [(307, ()), (200, (("location", "/x"),)), (307, (("location", "http://[x"),))]
)
def test_a_response_without_a_target_redirects_nowhere(contract: Contract, status: int, headers: Any) -> None:
    told = Teller(contract).submit(None, job=None, status=status, answer_headers=headers).submit()
    assert messages(rules.same_request, told.story()) is None
    assert messages(rules.bounded_redirects, told.story()) is None


def circle(contract: Contract, times: int, status: int = 302) -> Teller:
    """Return a trace of a client that follows some redirects of a download to the same URL."""
    told = Teller(contract).submit()
    for _ in range(times + 1):
        told.media(status, answer_headers=(("location", told.video),))
    return told


def test_a_bounded_number_of_redirects_may_be_followed(contract: Contract) -> None:
    for times in (0, 5, rules.MOST_REDIRECTS):
        assert messages(rules.bounded_redirects, circle(contract, times).story()) == []


def test_a_circle_without_a_bound_is_found(contract: Contract) -> None:
    (found,) = messages(rules.bounded_redirects, circle(contract, rules.MOST_REDIRECTS + 1).story()) or []
    assert found == "the client followed 51 redirects in a row, from request 2; allowed: 50"
    for status in (301, 302, 303, 307, 308):
        assert messages(rules.bounded_redirects, circle(contract, rules.MOST_REDIRECTS + 1, status).story()) == [found]
    # Also if something else ends it.
    told = circle(contract, rules.MOST_REDIRECTS).media(200)
    assert messages(rules.bounded_redirects, told.story()) != []


def test_a_client_that_begins_anew_has_not_gone_on_in_the_circle(contract: Contract) -> None:
    told = Teller(contract).submit()
    for _ in range(10):
        told.media(302, answer_headers=(("location", "?hop=1"),))
        for hop in (2, 1) * 10:
            url = f"{told.video}?hop={3 - hop}"
            told.media(302, url=url, answer_headers=(("location", f"?hop={hop}"),))
    assert messages(rules.bounded_redirects, told.story()) == []
