"""The rules about keys, on hand-written traces: kept, broken, not observed, and only assumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_OBSERVED, PASSED
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.values import Contract, find_situation
from tests.conformance.server.rules.test_shape import (
    HTML,
    a_job,
    answer,
    assuming,
    broken,
    home,
    running,
    verdict,
    word,
)
from tests.conftest import contracts_that
from tests.json_patch import after
from tests.tracing import Teller

PROBES = (("auth:none", "AUT-01", "unauthenticated"), ("auth:wrong", "AUT-02", "key_refused"))
probed = pytest.mark.parametrize(("probe", "rule", "expected"), PROBES)


def refused(contract: Contract, probe: str, expected: str, situation: str | None, role: str, **how: Any) -> Teller:
    """Add a request without a valid key."""
    return Teller(contract).call(role, situation, None, probe=probe, expected=expected, headers=(), **how)


def guarded(contract: Contract) -> list[str]:
    """Return the roles of the operations that need a key."""
    return [role for role, operation in contract.operations.items() if operation.authenticated]


@probed
def test_a_request_without_a_valid_key_is_refused(contract: Contract, probe: str, rule: str, expected: str) -> None:
    for role in guarded(contract):
        told = refused(contract, probe, expected, "unauthenticated", role)
        assert broken(told) == {}
        assert word(rule, told) == PASSED
    other = refused(contract, probe, expected, "forbidden", "status")
    assert word(rule, other) == (BROKEN if rule == "AUT-01" else PASSED)


@probed
def test_a_response_without_a_valid_key_is_reported(contract: Contract, probe: str, rule: str, expected: str) -> None:
    for role in guarded(contract):
        good = next((one.name for one in contract.operations[role].situations.values() if one.status < 300), None)
        if good is None:
            continue
        told = refused(contract, probe, expected, good, role)
        assert word(rule, told) == BROKEN
        assert word(rule, told, assuming(contract, home(contract, role, "unauthenticated"))) == LESSON
        assert word(rule, told, assuming(contract, f"{home(contract, role, 'unauthenticated')}/status")) == BROKEN


@probed
def test_an_undocumented_refusal_is_reported(contract: Contract, probe: str, rule: str, expected: str) -> None:
    told = refused(contract, probe, expected, "unknown_job", "status")
    found = verdict(rule, told)
    assert found.verdict == BROKEN
    at = f"{home(contract, 'status', 'unauthenticated')}/status"
    assert found.breaches[0].places[0] == at
    # The code may be documented although the status is assumed.
    places = [place for breach in found.breaches for place in breach.places[:1]]
    assert word(rule, told, assuming(contract, *places)) == LESSON
    assert after(contract.written, found.breaches[0].patch, at) == 404


def test_the_right_code_with_another_status_is_a_matter_of_the_status(contract: Contract) -> None:
    told = refused(contract, "auth:wrong", "key_refused", "unauthenticated", "status", status=403)
    at = f"{home(contract, 'status', 'unauthenticated')}/status"
    found = verdict("AUT-02", told)
    coded = "refusal_code" in contract.operations["status"].bindings
    assert found.verdict in (BROKEN, PASSED)
    assert found.verdict == PASSED or (coded and found.breaches[0].places[0] == at)


@probed
def test_a_redirect_is_not_a_refusal(contract: Contract, probe: str, rule: str, expected: str) -> None:
    told = refused(contract, probe, expected, None, "status", status=302)
    assert word(rule, told) == NOT_OBSERVED
    assert word("SHA-01", told) == BROKEN


@probed
def test_an_undocumented_status_is_left_to_the_shape_rules(
    contract: Contract, probe: str, rule: str, expected: str
) -> None:
    told = refused(contract, probe, expected, "unauthenticated", "status", status=418)
    assert word(rule, told) == PASSED
    assert word("SHA-01", told) == (BROKEN if rule == "AUT-01" else PASSED)
    assert word("SHA-01", told, assuming(contract, f"{home(contract, 'status', 'unauthenticated')}/status")) in (
        LESSON,
        PASSED,
    )


@probed
def test_other_requests_show_nothing_about_keys(contract: Contract, probe: str, rule: str, expected: str) -> None:
    assert word(rule, Teller(contract).submit().status("unauthenticated")) == NOT_OBSERVED
    assert word(rule, refused(contract, probe, expected, None, "status", status=503, **HTML)) == NOT_OBSERVED
    assert word(rule, Teller(contract).nothing("status", probe=probe)) == NOT_OBSERVED


@contracts_that(lambda contract: any(not one.authenticated for one in contract.operations.values()))
def test_an_operation_without_a_key_serves_every_client(contract: Contract) -> None:
    for role in set(contract.operations) - set(guarded(contract)):
        good = next(one.name for one in contract.operations[role].situations.values() if one.status < 300)
        assert word("AUT-01", refused(contract, "auth:none", "unauthenticated", good, role)) == NOT_OBSERVED


# AUT-03


@pytest.mark.parametrize("probe", ["auth:none", "auth:wrong"])
def test_a_refused_submission_makes_no_job(contract: Contract, probe: str) -> None:
    told = refused(contract, probe, "unauthenticated", "unauthenticated", "submit")
    assert word("AUT-03", told) == PASSED
    assert word("AUT-03", refused(contract, probe, "unauthenticated", "unauthenticated", "status")) == NOT_OBSERVED
    assert word("AUT-03", Teller(contract).submit()) == NOT_OBSERVED


@pytest.mark.parametrize("probe", ["auth:none", "auth:wrong"])
def test_a_job_made_without_a_key_is_reported_whatever_is_assumed(contract: Contract, probe: str) -> None:
    told = Teller(contract).submit(job=a_job(contract), probe=probe, expected="unauthenticated")
    assert word("AUT-03", told) == word("AUT-03", told, contract) == BROKEN


def with_id(contract: Contract) -> Teller:
    """Add a refused submission whose refusal contains an id, at the place of the acceptance."""
    body = answer(contract, "submit", "accepted") | answer(contract, "submit", "unauthenticated")
    return Teller(contract).submit(
        "unauthenticated", a_job(contract), probe="auth:none", expected="unauthenticated", answer=orjson.dumps(body)
    )


def test_an_id_in_a_refusal_is_a_job_only_if_somebody_knows_it(contract: Contract) -> None:
    told = with_id(contract).status("unknown_job", job=a_job(contract))
    assert word("AUT-03", told) == PASSED


@contracts_that(lambda contract: "job" in contract.operations["submit"].bindings)
def test_an_id_in_a_refusal_that_can_be_read_is_a_job(contract: Contract) -> None:
    told = with_id(contract)
    if told.story().steps[0].reading.values.get("job") is None:
        return
    assert word("AUT-03", told.status(running(contract), job=a_job(contract))) == BROKEN


@contracts_that(lambda contract: "list" in contract.operations)
def test_a_job_of_a_refused_submission_that_a_list_shows_later_is_reported(contract: Contract) -> None:
    listing, job = contract.operations["list"], a_job(contract)
    assert listing.items is not None
    place = listing.items.bindings["job"].response[0].pointer

    def listed(name: str) -> Teller:
        told = with_id(contract)
        situation = next(one.name for one in listing.situations.values() if one.status < 300)
        told.call("list", situation, None)
        body = orjson.loads(told.exchanges[-1].answer)
        assert listing.items is not None
        at = listing.items.at.pointer
        item = replaced(resolve(body, at)[0], place, name)
        text = orjson.dumps(replaced(body, at, [item]))
        told.exchanges[-1] = replace(told.exchanges[-1], answer=text, size=len(text))
        return told

    readable = with_id(contract).story().steps[0].reading.values.get("job") is not None
    assert word("AUT-03", listed(job)) == (BROKEN if readable else PASSED)
    assert word("AUT-03", listed(f"another-than-{job}")) == PASSED


# AUT-04


def test_a_key_that_is_accepted_once_is_accepted_everywhere(contract: Contract) -> None:
    told = Teller(contract).submit(probe="job")
    assert word("AUT-04", told) == PASSED
    for name in ("unauthenticated", "key_refused"):
        if name in contract.operations["status"].situations:
            refused_once = Teller(contract).submit(probe="job").status(name, probe="job")
            assert word("AUT-04", refused_once) == BROKEN
            at = verdict("AUT-04", refused_once).breaches[0].places[0]
            assert word("AUT-04", refused_once, assuming(contract, at)) == LESSON
    assert word("AUT-04", Teller(contract).submit(probe="job").status(None, status=401, probe="job")) == BROKEN


def test_a_key_that_is_refused_always_or_for_a_probe_breaks_no_rule(contract: Contract) -> None:
    refusal = find_situation(contract.operations["status"], "unauthenticated")
    assert refusal is not None
    assert word("AUT-04", Teller(contract).status(refusal.name, probe="job")) == NOT_OBSERVED
    for probe in ("auth:none", "auth:wrong", "identity:foreign"):
        told = Teller(contract).submit(probe="job").status(refusal.name, probe=probe)
        assert word("AUT-04", told) == PASSED
    assert word("AUT-04", Teller(contract).submit(probe="job").status("unknown_job", probe="job")) == PASSED


def test_a_key_that_is_known_is_not_refused_after_an_unknown_one(contract: Contract) -> None:
    refusal = find_situation(contract.operations["status"], "unauthenticated")
    assert refusal is not None

    def known_and_refused(**how: Any) -> Teller:
        told = Teller(contract).status("unknown_job", probe="identity:unknown")
        return told.status(refusal.name, probe="auth:wrong", **how).status(refusal.name, probe="key:again")

    assert word("AUT-04", known_and_refused()) == BROKEN
    told = Teller(contract).status("unknown_job", probe="identity:unknown").status(refusal.name, probe="key:again")
    assert word("AUT-04", told) == NOT_OBSERVED, "the job may be looked up before the key"
    told = Teller(contract).status(refusal.name, probe="identity:unknown").status(refusal.name, probe="auth:wrong")
    assert word("AUT-04", told) == NOT_OBSERVED


# AUT-05


def test_a_key_in_another_scheme_is_refused(contract: Contract) -> None:
    refusal = find_situation(contract.operations["status"], "unauthenticated")
    assert refusal is not None
    assert word("AUT-05", Teller(contract).status(refusal.name, probe="auth:scheme")) == PASSED
    shown = next(one.name for one in contract.operations["status"].situations.values() if one.stages)
    told = Teller(contract).status(shown, probe="auth:scheme")
    assert word("AUT-05", told) == BROKEN
    at = verdict("AUT-05", told).breaches[0].places[0]
    assert word("AUT-05", told, assuming(contract, at)) == LESSON
    assert word("AUT-05", Teller(contract).status(shown)) == NOT_OBSERVED


@contracts_that(lambda contract: "operator_cancel" in contract.operations)
def test_what_is_for_operators_refuses_an_ordinary_key(contract: Contract) -> None:
    def asked(situation: str | None, **how: Any) -> Teller:
        return Teller(contract).call("operator_cancel", situation, probe="auth:operator", expected="forbidden", **how)

    assert word("AUT-06", asked("forbidden")) == PASSED
    assert broken(asked("forbidden")) == {}
    granted = asked(None, status=200, answer=b"{}")
    assert word("AUT-06", granted) == BROKEN
    summary = f"openapi.json{_path(contract)}/post/summary"
    assert word("AUT-06", granted, assuming(contract, summary)) == LESSON
    assert word("AUT-06", asked("unknown_job")) == BROKEN, "a refusal of another kind"
    assert word("AUT-06", asked(None, status=503, answer=b"{}")) == NOT_OBSERVED


def _path(contract: Contract) -> str:
    return f"#/paths/{contract.operations['operator_cancel'].path.replace('/', '~1')}"
