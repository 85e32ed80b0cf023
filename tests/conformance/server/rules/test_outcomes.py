"""The rules about whole responses: one outcome, its reason, and a job that can be read to its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.server.rules.outcomes import exclusive_places, is_empty
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, replaced, resolve
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.judging import assuming, family, judged, knowing, named, verdict
from tests.judging import teller as ordered
from tests.tracing import JOB, Teller

RULES = family("LIF")
ONE_OUTCOME, REASON, READABLE = (named(RULES, f"LIF-0{number}") for number in (7, 8, 9))
STAYS = named(RULES, "LIF-10")


def told(contract: Contract) -> Teller:
    return ordered(knowing(contract)).submit(probe="job")


def shown(contract: Contract, kind: str) -> tuple[str, str]:
    """Return an operation and a situation that shows only stages of a kind, and has the values of an end."""
    for role in ("result", "status"):
        operation = contract.operations.get(role)
        for one in operation.situations.values() if operation is not None else ():
            if one.stages and {contract.graph[stage].kind for stage in one.stages} == {kind}:
                return role, one.name
    raise AssertionError(kind)


def body(contract: Contract, role: str, situation: str) -> Any:
    return orjson.loads(Teller(contract).call(role, situation).exchanges[0].answer)


def place(contract: Contract, role: str, kind: str, *names: str) -> Pointer:
    operation = contract.operations[role]
    return next(at for name in names for at in exclusive_places(contract, operation, name, kind))


def mixed(contract: Contract, kind: str, other: str, *names: str) -> Teller:
    """Return a trace with a response of one kind that also has the values of another kind."""
    role, situation = shown(contract, kind)
    _, donor = shown(contract, other)
    at = place(contract, role, other, *names)
    value = resolve(body(contract, role, donor), at)
    return told(contract).call(
        role, situation, answer=orjson.dumps(replaced(body(contract, role, situation), at, value))
    )


def test_each_documented_response_has_one_outcome(contract: Contract) -> None:
    for kind in ("success", "failure", "running"):
        assert verdict(ONE_OUTCOME, told(contract).call(*shown(contract, kind))) == PASSED


def test_an_error_beside_a_success_is_reported(contract: Contract) -> None:
    annotated = mixed(contract, "success", "failure", "error_code", "error_message")
    assert verdict(ONE_OUTCOME, annotated) == BROKEN
    annotated.contract = assuming(contract, *(f"lifecycle.json#/operations/{role}" for role in ("status", "result")))
    assert verdict(ONE_OUTCOME, annotated) == LESSON


def test_an_output_beside_a_failure_is_reported(contract: Contract) -> None:
    assert verdict(ONE_OUTCOME, mixed(contract, "failure", "success", "video_url")) == BROKEN


@pytest.mark.parametrize("value", [None, "", 0, {}, [], {"code": "", "message": None}, [{}]])
def test_an_empty_error_is_no_error(contract: Contract, value: Any) -> None:
    role, situation = shown(contract, "success")
    at = place(contract, role, "failure", "error_code", "error_message")
    text = orjson.dumps(replaced(body(contract, role, situation), at, value))
    assert verdict(ONE_OUTCOME, told(contract).call(role, situation, answer=text)) == PASSED
    assert is_empty(value)


def test_values_that_say_something_are_not_empty() -> None:
    assert not any(map(is_empty, (1, "x", True, {"a": {"b": 1}}, [0, 2])))
    assert is_empty(MISSING)


def test_a_result_before_the_end_is_reported(contract: Contract) -> None:
    role, running = shown(contract, "running")
    at = place(contract, role, "success", "video_url")
    found = {"type": "thumbnail"}
    value = {"thumbnail": "x"} if len(at) == 1 and role == "result" else [found]
    text = orjson.dumps(replaced(body(contract, role, running), at, value))
    assert verdict(ONE_OUTCOME, told(contract).call(role, running, answer=text)) == BROKEN


def reasons(contract: Contract, role: str) -> list[Pointer]:
    """Return the places of a failed job's reason."""
    bindings = contract.operations[role].bindings
    names = [name for name in ("error_code", "error_message") if name in bindings]
    return [place.pointer for name in names for place in bindings[name].response]


def test_a_failed_job_has_a_reason(contract: Contract) -> None:
    role, failed = shown(contract, "failure")
    annotated = told(contract).call(role, failed)
    assert verdict(REASON, annotated) == PASSED
    assert verdict(REASON, told(contract).call(*shown(contract, "success"))) == NOT_OBSERVED
    less = body(contract, role, failed)
    for name in ("error_code", "error_message"):
        binding = contract.operations[role].bindings.get(name)
        for one in binding.response if binding is not None else ():
            if resolve(less, one.pointer) is not MISSING:
                less = replaced(less, one.pointer, None)
    annotated = told(contract).call(role, failed, answer=orjson.dumps(less))
    found = judged(REASON, annotated)
    assert found.verdict == BROKEN
    assert "has no error_" in found.breaches[0].message
    example = contract.operations[role].situations[failed].example_at
    annotated.contract = assuming(contract, f"{example.partition('/examples/')[0]}/examples")
    assert verdict(REASON, annotated) == LESSON
    # An assumed code is still a code: only its value is assumed.
    annotated.contract = assuming(contract, *(f"{example}{format_pointer(at)}" for at in reasons(contract, role)))
    assert verdict(REASON, annotated) == BROKEN


@pytest.mark.parametrize("status", [404, 400, 500])
def test_an_accepted_job_that_cannot_be_read_is_reported(contract: Contract, status: int) -> None:
    annotated = told(contract)
    for _ in range(4):
        annotated.status(None, status=status, answer=b"{}")
    assert verdict(READABLE, annotated) == NOT_OBSERVED
    found = judged(READABLE, annotated.status(None, status=status, answer=b"{}"))
    assert found.verdict == BROKEN
    assert JOB in found.breaches[0].message
    assert "5 polls in a row failed: request 6 " in found.breaches[0].message


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_not_blamed(contract: Contract, status: int) -> None:
    annotated = told(contract)
    for _ in range(9):
        annotated.status(None, status=status, answer=b"{}")
    assert verdict(READABLE, annotated) == NOT_OBSERVED


def test_a_job_of_a_client_is_not_judged(contract: Contract) -> None:
    annotated = ordered(knowing(contract)).submit()
    for _ in range(9):
        annotated.status(None, status=404, answer=b"{}")
    assert verdict(READABLE, annotated) == NOT_OBSERVED


def test_a_job_that_does_not_end_is_reported(contract: Contract) -> None:
    running = next(
        one.name
        for one in contract.operations["status"].situations.values()
        if one.stages and {contract.graph[stage].kind for stage in one.stages} == {"running"}
    )
    annotated = told(contract).status(running)
    assert verdict(READABLE, annotated) == NOT_OBSERVED
    annotated.wait(contract.polling.longest_wait + 1).status(running)
    assert verdict(READABLE, annotated) == BROKEN
    annotated.contract = assuming(contract, "lifecycle.json#/polling")
    assert verdict(READABLE, annotated) == LESSON


def test_a_job_that_was_shown_is_not_unknown_later(contract: Contract) -> None:
    role, situation = shown(contract, "success")
    first = next(one.name for one in contract.operations["status"].situations.values() if one.stages)

    def polled(**how: Any) -> Teller:
        return told(contract).status(first).status("unknown_job", **how).call(role, situation).status(first)

    assert verdict(READABLE, polled(status=404)) == BROKEN
    assert "other reads show it, but request 3" in judged(READABLE, polled(status=404)).breaches[0].message
    assert verdict(READABLE, polled(status=404, expected="unknown_job")) != BROKEN, "a probe with another key"
    assert verdict(READABLE, told(contract).status("unknown_job", status=404).status(first)) == BROKEN, "not yet"
    assert verdict(READABLE, told(contract).status("unknown_job", status=404)) != BROKEN, "never shown"
    assert verdict(READABLE, polled(status=503)) != BROKEN


@contracts_that(lambda contract: "result" in contract.operations)
def test_the_result_of_an_accepted_job_can_be_read_as_well(contract: Contract) -> None:
    situations = contract.operations["result"].situations.values()
    early = next(one.name for one in situations if one.stages and not _ends(contract, one.stages))
    for status in (400, 403, 404):
        refused = told(contract).status(None, status=200, answer=b"{}").call("result", "unknown_job", status=status)
        assert verdict(READABLE, refused.call("result", early)) == BROKEN
    assert verdict(READABLE, told(contract).call("result", early).call("result", early)) == NOT_OBSERVED
    asked = told(contract).call("result", "unknown_job", status=422, expected="invalid_request").call("result", early)
    assert verdict(READABLE, asked) == NOT_OBSERVED


def _ends(contract: Contract, stages: frozenset[str]) -> bool:
    return any(contract.graph[name].terminal for name in stages)


def without_video(contract: Contract, role: str, situation: str) -> bytes:
    found = body(contract, role, situation)
    for at in contract.operations[role].bindings["video_url"].response:
        if resolve(found, at.pointer) is not MISSING:
            found = replaced(found, at.pointer, None)
    return orjson.dumps(found)


def test_a_video_that_was_shown_is_shown_again(contract: Contract) -> None:
    role, situation = shown(contract, "success")
    gone = without_video(contract, role, situation)
    assert verdict(STAYS, told(contract).call(role, situation)) == NOT_OBSERVED
    assert verdict(STAYS, told(contract).call(role, situation).call(role, situation)) == PASSED
    found = judged(STAYS, told(contract).call(role, situation).call(role, situation, answer=gone))
    assert found.verdict == BROKEN
    assert "has no video any more" in found.breaches[0].message
    assert verdict(STAYS, told(contract).call(role, situation, answer=gone).call(role, situation)) == NOT_OBSERVED
    elsewhere = told(contract).call(role, situation).call(role, situation, answer=gone, url="http://127.0.0.1/?less=1")
    assert verdict(STAYS, elsewhere) == NOT_OBSERVED, "another request"


@contracts_that(lambda contract: contract.retention.result_url is not None)
def test_a_video_whose_link_has_expired_may_be_gone(contract: Contract) -> None:
    role, situation = shown(contract, "success")
    gone = without_video(contract, role, situation)
    life = contract.retention.result_url
    assert life is not None
    assert verdict(STAYS, told(contract).call(role, situation).wait(life).call(role, situation, answer=gone)) != BROKEN


def test_a_job_may_be_unknown_once_its_documented_time_is_over(contract: Contract) -> None:
    first = next(one.name for one in contract.operations["status"].situations.values() if one.stages)
    kept = replace(contract, retention=replace(contract.retention, job=3600.0))

    def forgotten(after: float) -> str:
        annotated = told(kept).status(first).wait(after).status("unknown_job", status=404)
        return verdict(READABLE, annotated)

    assert forgotten(3590) == BROKEN
    assert forgotten(3610) != BROKEN
    assert verdict(READABLE, told(contract).status(first).wait(3610).status("unknown_job", status=404)) == BROKEN


def test_the_life_of_a_job_begins_with_its_first_acceptance(contract: Contract) -> None:
    first = next(one.name for one in contract.operations["status"].situations.values() if one.stages)
    short = replace(contract, retention=replace(contract.retention, job=100.0))
    annotated = told(short).status(first).wait(90).submit(probe="idempotency:late").wait(20)
    assert verdict(READABLE, annotated.status("unknown_job", status=404)) != BROKEN
    early = told(short).status(first).wait(50).submit(probe="idempotency:late")
    assert verdict(READABLE, early.status("unknown_job", status=404)) == BROKEN
