"""The rules about ids, on hand-written traces: kept, broken, not observed, and only assumed."""

from __future__ import annotations

import uuid
from random import Random
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.server.rules.identity import ID_PATTERNS as PATTERNS
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.forms.ids import ID_FORMS
from hobbyhorse.contract.values import Contract, find_situation
from tests.conformance.server.rules.test_shape import (
    a_job,
    answer,
    assuming,
    broken,
    home,
    place,
    running,
    staged,
    verdict,
    word,
)
from tests.conftest import contracts_that
from tests.json_patch import after
from tests.tracing import START, Teller

lists = contracts_that(lambda contract: "list" in contract.operations)
prefixed = contracts_that(lambda contract: bool(contract.job_id_prefix))
keyed = contracts_that(lambda contract: contract.idempotency.mode != "none")
counted = contracts_that(lambda contract: "total" in getattr(contract.operations.get("list"), "bindings", {}))
paged = contracts_that(lambda contract: "next_cursor" in getattr(contract.operations.get("list"), "bindings", {}))
PROMPT = "a horse that nobody knows"

# IDN-01


def test_ids_have_their_form(contract: Contract) -> None:
    for number in range(20):
        assert word("IDN-01", Teller(contract).submit(job=a_job(contract, number))) == PASSED
    assert word("IDN-01", Teller(contract).status(running(contract))) == NOT_OBSERVED
    assert word("IDN-01", Teller(contract).submit("invalid_request", None)) == NOT_OBSERVED


def test_every_generated_form_is_recognised() -> None:
    assert set(PATTERNS) == set(ID_FORMS)


def test_another_form_is_reported(contract: Contract) -> None:
    for odd in (str(uuid.uuid1()), "1", "!" * 26, a_job(contract)[len(contract.job_id_prefix) :] + "0"):
        told = Teller(contract).submit(job=contract.job_id_prefix + odd)
        assert word("IDN-01", told) == BROKEN
        assert word("IDN-01", told, assuming(contract, "lifecycle.json#/job_id/form")) == LESSON
        assert word("IDN-01", told, assuming(contract, "lifecycle.json#/job_id")) == LESSON


@prefixed
def test_another_prefix_is_reported(contract: Contract) -> None:
    told = Teller(contract).submit(job="x" + a_job(contract))
    assert word("IDN-01", told) == BROKEN
    assert word("IDN-01", told, assuming(contract, "lifecycle.json#/job_id/form")) == BROKEN
    assert word("IDN-01", told, assuming(contract, "lifecycle.json#/job_id/prefix")) == LESSON


# IDN-02


def test_each_submission_has_its_own_id(contract: Contract) -> None:
    told = Teller(contract).submit(job=a_job(contract), key="k1").submit(job=a_job(contract, 1), key="k2")
    assert word("IDN-02", told) == PASSED
    assert word("IDN-02", Teller(contract).submit(job=a_job(contract))) == NOT_OBSERVED


def test_two_submissions_with_one_id_are_reported(contract: Contract) -> None:
    told = Teller(contract).submit(job=a_job(contract), key="k1").submit(job=a_job(contract), key="k2")
    assert word("IDN-02", told) == BROKEN
    told = Teller(contract).submit(job=a_job(contract), key=None).submit(job=a_job(contract), key=None)
    assert word("IDN-02", told) == BROKEN


@keyed
def test_the_same_key_is_the_same_submission(contract: Contract) -> None:
    told = Teller(contract).submit(job=a_job(contract), key="k").submit(job=a_job(contract), key="k")
    assert word("IDN-02", told) == PASSED
    other = told.submit(job=a_job(contract), key="k", body=b'{"another": 1}')
    assert word("IDN-02", other) == PASSED


def test_a_response_is_about_the_requested_job(contract: Contract) -> None:
    body = Teller(contract).status(running(contract), job=a_job(contract, 1)).exchanges[0].answer
    told = Teller(contract).status(running(contract), job=a_job(contract))
    assert word("IDN-02", told) == PASSED
    told.status(running(contract), job=a_job(contract), answer=body)
    assert word("IDN-02", told) == BROKEN


# IDN-03


def asked(contract: Contract, probe: str, situation: str | None, role: str = "status", **how: Any) -> Teller:
    """Add a probe of an unknown id."""
    return Teller(contract).call(role, situation, a_job(contract, 9), probe=probe, expected="unknown_job", **how)


def test_an_unknown_job_is_refused(contract: Contract) -> None:
    for role in {"status", "result", "cancel"} & set(contract.operations):
        assert broken(asked(contract, "identity:unknown", "unknown_job", role)) == {}
        assert word("IDN-03", asked(contract, "identity:unknown", "unknown_job", role)) == PASSED
    assert word("IDN-03", Teller(contract).status("unknown_job")) == NOT_OBSERVED


def test_an_unknown_job_that_is_shown_is_reported(contract: Contract) -> None:
    for probe in ("identity:unknown", "identity:malformed"):
        told = asked(contract, probe, running(contract))
        assert word("IDN-03", told) == BROKEN
        # A running job that does not exist is wrong however the contract refuses unknown ids.
        assert word("IDN-03", told, assuming(contract, home(contract, "status", "unknown_job"))) == BROKEN


def test_an_unknown_job_may_be_reported_as_failed_if_its_refusal_is_assumed(contract: Contract) -> None:
    told = asked(contract, "identity:unknown", None, status=200, answer=b"{}")
    assert word("IDN-03", told) == BROKEN
    assert word("IDN-03", told, assuming(contract, home(contract, "status", "unknown_job"))) == LESSON


def test_an_undocumented_refusal_of_an_unknown_job_is_reported(contract: Contract) -> None:
    told = asked(contract, "identity:unknown", "forbidden")
    found = verdict("IDN-03", told)
    assert found.verdict == BROKEN
    at = found.breaches[0].places[0]
    assert at.endswith("unknown_job/status")
    forbidden = contract.operations["status"].situations["forbidden"]
    assert after(contract.written, found.breaches[0].patch, at) == forbidden.status
    # The code may be documented although the status is assumed.
    places = [place for breach in found.breaches for place in breach.places[:1]]
    assert word("IDN-03", told, assuming(contract, *places)) == LESSON
    assert word("IDN-03", told, assuming(contract, places[0])) == (BROKEN if len(places) > 1 else LESSON)
    assert word("IDN-03", asked(contract, "identity:malformed", "forbidden")) == PASSED


@contracts_that(lambda contract: "refusal_code" in contract.operations["status"].bindings)
def test_another_code_is_reported_and_a_missing_one_is_not(contract: Contract) -> None:
    pointer = place(contract, "status", "refusal_code")
    body = answer(contract, "status", "unknown_job")
    coded = pointer[-1] in body
    other = orjson.dumps(replaced(body, pointer, "ANOTHER"))
    less = orjson.dumps({name: value for name, value in body.items() if name != pointer[-1]})
    assert word("IDN-03", asked(contract, "identity:unknown", "unknown_job", answer=less)) == PASSED
    told = asked(contract, "identity:unknown", "unknown_job", answer=other)
    assert word("IDN-03", told) == (BROKEN if coded else PASSED)
    if coded:
        situation = contract.operations["status"].situations["unknown_job"]
        assert word("IDN-03", told, assuming(contract, situation.example_at)) == LESSON


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_failure_shows_nothing_about_an_id(contract: Contract, status: int) -> None:
    for probe, rule in (("identity:unknown", "IDN-03"), ("identity:foreign", "IDN-04")):
        assert word(rule, asked(contract, probe, None, status=status)) == NOT_OBSERVED
        assert word(rule, Teller(contract).nothing("status", probe=probe)) == NOT_OBSERVED


# IDN-04


def stranger(contract: Contract, situation: str | None, **how: Any) -> Teller:
    """Add the life of a job, and the response to another account."""
    around = contract.operations["submit"].model_parameters.pointer
    parameters: Any = {}
    for pointer in contract.models[0].parameters["prompt"]:
        parameters = replaced(parameters, pointer, PROMPT)
    job = a_job(contract)
    told = Teller(contract, replaced({}, around, parameters)).submit(job=job)
    told.status(running(contract), job=job)
    role = "result" if "result" in contract.operations else "status"
    told.call(role, staged(contract, role, "success"), job)
    return told.status(situation, job=job, probe="identity:foreign", expected="foreign_job", **how)


def test_another_account_is_refused(contract: Contract) -> None:
    right = find_situation(contract.operations["status"], "foreign_job")
    assert right is not None
    assert broken(stranger(contract, right.name)) == {}
    assert word("IDN-04", stranger(contract, right.name)) == PASSED
    assert word("IDN-04", stranger(contract, "unknown_job")) == PASSED


def test_a_job_shown_to_another_account_is_reported_whatever_is_assumed(contract: Contract) -> None:
    told = stranger(contract, running(contract))
    assert word("IDN-04", told) == word("IDN-04", told, contract) == BROKEN


def test_an_undocumented_refusal_of_another_account_is_reported(contract: Contract) -> None:
    told = stranger(contract, "unauthenticated")
    found = verdict("IDN-04", told)
    assert found.verdict == BROKEN
    places = [place for breach in found.breaches for place in breach.places[:1]]
    assert word("IDN-04", told, assuming(contract, *places)) == LESSON


def test_a_refusal_reveals_nothing_to_another_account(contract: Contract) -> None:
    right = find_situation(contract.operations["status"], "foreign_job")
    assert right is not None
    body = answer(contract, "status", right.name)
    said = answer(contract, "status", running(contract))
    stage = place(contract, "status", "stage")
    value: Any = said
    for step in stage:
        value = value[step]
    for leak in (
        body | {"prompt": PROMPT},
        body | {"inner": [{"text": f"your {PROMPT} is private"}]},
        body | {"video": Teller(contract).video.replace("tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVY", "x")},
        replaced(body, stage, value) if body.get(stage[0]) is None else body | {"prompt": PROMPT},
    ):
        told = stranger(contract, right.name, answer=orjson.dumps(leak))
        shown = "video" not in leak
        assert word("IDN-04", told) == (BROKEN if shown else PASSED)
    video = orjson.dumps(body | {"see": Teller(contract).video})
    assert word("IDN-04", stranger(contract, right.name, answer=video)) == BROKEN


def test_without_another_account_there_is_no_evidence(contract: Contract) -> None:
    assert word("IDN-04", Teller(contract).submit().status("unknown_job")) == NOT_OBSERVED


# IDN-05


def listing(contract: Contract, *jobs: str, **more: Any) -> Teller:
    """Add an accepted job and a list after it."""
    operation = contract.operations["list"]
    assert operation.items is not None
    body = answer(contract, "list", "listed")
    item = operation.items.at.get
    first: Any = body
    for step in operation.items.at.pointer:
        first = first[step]
    (at,) = operation.items.bindings["job"].response
    assert item is not None
    body = replaced(body, operation.items.at.pointer, [replaced(first[0], at.pointer, job) for job in jobs])
    for name, value in more.items():
        body = replaced(body, place(contract, "list", name), value)
    told = Teller(contract).submit(job=a_job(contract), probe="job")
    return told.call("list", "listed", None, answer=orjson.dumps(body), probe="identity:list", expected="listed")


@lists
def test_a_list_has_the_jobs(contract: Contract) -> None:
    assert word("IDN-05", listing(contract, a_job(contract, 1), a_job(contract))) == PASSED
    assert word("IDN-05", Teller(contract).submit()) == NOT_OBSERVED
    told = Teller(contract).call("list", "listed", None, probe="identity:list")
    assert word("IDN-05", told) == NOT_OBSERVED


@counted
def test_a_complete_list_without_the_job_is_reported(contract: Contract) -> None:
    told = listing(contract, a_job(contract, 1), total=1, size=20)
    assert word("IDN-05", told) == BROKEN
    assert word("IDN-05", told, assuming(contract, "lifecycle.json#/operations/list/items")) == LESSON
    assert word("IDN-05", listing(contract, total=0, size=20)) == BROKEN
    assert word("IDN-05", listing(contract, a_job(contract, 1), total=2, size=20)) == BROKEN


@counted
def test_one_page_of_many_shows_nothing_about_the_next(contract: Contract) -> None:
    assert word("IDN-05", listing(contract, a_job(contract, 1), total=2, size=1)) == NOT_OBSERVED
    assert word("IDN-05", listing(contract, a_job(contract, 1), total=30, size=20, page=2)) == NOT_OBSERVED


@paged
def test_the_last_page_is_a_complete_list(contract: Contract) -> None:
    nothing: dict[str, Any] = {"next_cursor": None, "previous_cursor": None}
    assert word("IDN-05", listing(contract, a_job(contract, 1), **nothing)) == BROKEN
    assert word("IDN-05", listing(contract, a_job(contract, 1), **(nothing | {"next_cursor": "x"}))) == NOT_OBSERVED
    assert word("IDN-05", listing(contract, a_job(contract), **(nothing | {"next_cursor": "x"}))) == PASSED


@lists
def test_a_job_that_was_accepted_while_the_list_was_made_may_be_missing(contract: Contract) -> None:
    told = listing(contract, total=0, size=20) if _counted(contract) else listing(contract)
    told.exchanges[0] = told.exchanges[0].__class__(
        **{name: getattr(told.exchanges[0], name) for name in told.exchanges[0].__slots__} | {"answered": START + 60}
    )
    assert word("IDN-05", told) == NOT_OBSERVED


def _counted(contract: Contract) -> bool:
    return "total" in contract.operations["list"].bindings


@contracts_that(lambda contract: "list" not in contract.operations)
def test_without_a_list_the_rule_does_not_apply(contract: Contract) -> None:
    assert word("IDN-05", Teller(contract)) == NOT_APPLICABLE


def test_generated_ids_have_the_documented_form(contract: Contract) -> None:
    assert a_job(contract, 3).startswith(contract.job_id_prefix)
    assert ID_FORMS[contract.job_id_form](Random(3), START) in a_job(contract, 3)
