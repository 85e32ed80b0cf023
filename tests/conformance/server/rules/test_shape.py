"""The rules about the shape of responses, on hand-written traces: kept, broken, not observed, and only assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Verdict, judge
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.conformance.server.expected import schema_of
from hobbyhorse.contract.forms.expressions import MISSING, replaced
from hobbyhorse.contract.forms.ids import ID_FORMS
from hobbyhorse.contract.values import Assumption, Contract, Situation
from tests.conftest import CONTRACTS, contracts_that
from tests.json_patch import after
from tests.judging import family
from tests.tracing import JSON, START, Teller

FAMILIES = tuple(one for letters in ("SHA", "LIF", "IDN", "AUT", "NEG") for one in family(letters))
# The responses of these traces are the contract's examples, which repeat another submission.
MINE = tuple(one for one in FAMILIES if one.id != "SHA-05")
HTML: dict[str, Any] = {"answer": b"<html>Bad Gateway</html>", "answer_headers": (("content-type", "text/html"),)}


def a_job(contract: Contract, number: int = 0) -> str:
    """Return an id of the documented form."""
    return contract.job_id_prefix + ID_FORMS[contract.job_id_form](Random(number), START)


def bare(contract: Contract) -> Contract:
    """Return a contract that assumes nothing."""
    return replace(contract, assumptions=())


def assuming(contract: Contract, *places: str) -> Contract:
    """Return a contract that assumes only the given places."""
    return replace(contract, assumptions=(Assumption(places, "nobody says so"),))


def verdict(rule: str, told: Teller, contract: Contract | None = None) -> Verdict:
    """Return the verdict on a rule."""
    found = [one for one in MINE if one.id == rule]
    return judge(contract or bare(told.contract), [told.trace()], found)[0]


def word(rule: str, told: Teller, contract: Contract | None = None) -> str:
    """Return the verdict on a rule, as a word."""
    return verdict(rule, told, contract).verdict


def broken(told: Teller, rules: Sequence[Rule] = MINE) -> dict[str, list[str]]:
    """Return the findings of the rules under test, with nothing assumed."""
    verdicts = judge(bare(told.contract), [told.trace()], rules)
    return {one.rule.id: [breach.message for breach in one.breaches] for one in verdicts if one.verdict == BROKEN}


def answer(contract: Contract, role: str, situation: str, job: str | None = None) -> Any:
    """Return the body of a response."""
    return orjson.loads(Teller(contract).call(role, situation, job or a_job(contract)).exchanges[0].answer)


def changed(contract: Contract, role: str, situation: str, pointer: tuple[str, ...], value: Any) -> bytes:
    """Return the body of a response with another value at a place."""
    return orjson.dumps(replaced(answer(contract, role, situation), pointer, value))


def place(contract: Contract, role: str, name: str) -> tuple[str, ...]:
    """Return the place of a value in an operation's responses."""
    return next(one.pointer for one in contract.operations[role].bindings[name].response if one.part == "body")


def staged(contract: Contract, role: str, kind: str) -> str:
    """Return a situation that shows only a stage of a kind."""
    found = contract.operations[role].situations.values()
    return next(
        one.name for one in found if one.stages and all(contract.graph[stage].kind == kind for stage in one.stages)
    )


def running(contract: Contract) -> str:
    """Return a status situation of a running job."""
    return staged(contract, "status", "running")


def home(contract: Contract, role: str, name: str) -> str:
    """Return the place of a situation in lifecycle.json."""
    own = f"lifecycle.json#/operations/{role}/situations/{name}"
    return own if contract.schemas.at(own) else f"lifecycle.json#/situations/{name}"


ANSWERS = [
    (contract, role, situation)
    for contract in CONTRACTS
    for role, operation in contract.operations.items()
    for situation in operation.situations.values()
]
REFUSALS = [answer for answer in ANSWERS if answer[2].status >= 400]


def named(part: object) -> str:
    """Return the name of a contract, a role or a situation in a test id."""
    return part.key if isinstance(part, Contract) else part.name if isinstance(part, Situation) else str(part)


@pytest.mark.parametrize(("contract", "role", "situation"), ANSWERS, ids=named)
def test_no_example_of_the_contract_breaks_a_rule(contract: Contract, role: str, situation: Situation) -> None:
    told = Teller(contract).call(role, situation.name, a_job(contract))
    assert broken(told) == {}


@pytest.mark.parametrize(("contract", "role", "situation"), REFUSALS, ids=named)
def test_no_provoked_refusal_breaks_a_rule(contract: Contract, role: str, situation: Situation) -> None:
    for probe in ("auth:none", "identity:unknown", "negative:type:/x", "idempotency:other", None):
        told = Teller(contract).call(role, situation.name, a_job(contract), probe=probe, expected=situation.name)
        found = broken(told)
        assert not found.keys() & {"SHA-01", "SHA-02", "SHA-03", "SHA-04"}


def test_a_documented_lifecycle_breaks_no_rule(contract: Contract) -> None:
    job = a_job(contract)
    told = Teller(contract, {"prompt": "a horse"})
    told.submit("accepted", job, probe="job", expected="accepted")
    for stage in contract.graph.path(contract.graph.initial):
        for role in ("status", "result"):
            if role in contract.operations:
                found = contract.operations[role].situations.values()
                situation = next(one.name for one in found if stage in one.stages)
                told.call(role, situation, job, probe="job")
    assert broken(told) == {}
    for rule in ("SHA-01", "SHA-02", "SHA-04", "LIF-01" if len(contract.graph.stages) > 3 else "SHA-01", "IDN-01"):
        assert word(rule, told) == PASSED


# SHA-01


def test_a_missing_field_is_reported_with_its_place(contract: Contract) -> None:
    situation = running(contract)
    pointer = place(contract, "status", "job")
    told = Teller(contract).status(situation, answer=changed(contract, "status", situation, pointer, 7))
    found = verdict("SHA-01", told)
    assert found.verdict == BROKEN
    assert len(found.breaches) == 1
    assert situation in found.breaches[0].message
    assert ".".join(pointer) in found.breaches[0].message
    assert found.breaches[0].seen == 7
    assert any(one.endswith("/type") for one in found.breaches[0].places[:1])
    assert all(contract.schemas.at(one) is not None for one in found.breaches[0].places)


def test_an_assumption_at_any_of_the_places_makes_a_lesson(contract: Contract) -> None:
    situation = running(contract)
    pointer = place(contract, "status", "job")
    told = Teller(contract).status(situation, answer=changed(contract, "status", situation, pointer, 7))
    operation = contract.operations["status"]
    (breach,) = verdict("SHA-01", told).breaches
    for at in (*breach.places, "lifecycle.json#/operations/status"):
        assert word("SHA-01", told, assuming(contract, at)) == LESSON
    # The schema is documented even if its example, or the status, is not.
    for at in (operation.situations[situation].example_at, home(contract, "status", situation)):
        assert word("SHA-01", told, assuming(contract, at)) == BROKEN


def test_a_documented_fault_is_not_hidden_behind_an_assumed_one(contract: Contract) -> None:
    situation = running(contract)
    job, stage = place(contract, "status", "job"), place(contract, "status", "stage")
    body = replaced(replaced(answer(contract, "status", situation), job, 7), stage, "reticulating")
    told = Teller(contract).status(situation, answer=orjson.dumps(body))
    found = verdict("SHA-01", told)
    by_word = next(one for one in found.breaches if "reticulating" in one.message)
    mixed = verdict("SHA-01", told, assuming(contract, by_word.places[0]))
    assert mixed.verdict == BROKEN
    assert len(mixed.breaches) == len(mixed.lessons) == 1


def test_a_word_that_no_document_has_breaks_the_shape(contract: Contract) -> None:
    situation = running(contract)
    pointer = place(contract, "status", "stage")
    told = Teller(contract).status(situation, answer=changed(contract, "status", situation, pointer, "reticulating"))
    found = verdict("SHA-01", told)
    assert found.verdict == BROKEN
    assert "reticulating" in found.breaches[0].message
    assert found.breaches[0].places[0] == "lifecycle.json#/stages"


@pytest.mark.parametrize("name", ["job", "stage"])
def test_a_response_without_the_id_or_the_stage_is_a_finding_although_its_schema_is_assumed(
    contract: Contract, name: str
) -> None:
    situation = running(contract)
    told = Teller(contract).status(
        situation, answer=changed(contract, "status", situation, place(contract, "status", name), MISSING)
    )
    assert word("SHA-01", told, assuming(contract, "openapi.json#/components/schemas")) == BROKEN
    assert word("SHA-01", told, assuming(contract, "lifecycle.json#/operations/status/bindings")) == LESSON


def test_an_undocumented_stage_is_a_finding_although_its_schema_is_assumed(contract: Contract) -> None:
    situation = running(contract)
    pointer = place(contract, "status", "stage")
    told = Teller(contract).status(situation, answer=changed(contract, "status", situation, pointer, "reticulating"))
    assert word("SHA-01", told, assuming(contract, "openapi.json#/components/schemas")) == BROKEN
    assert word("SHA-01", told, assuming(contract, "lifecycle.json#/stages")) == LESSON


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'"x"', b"{}", b"[" * 2000])
def test_a_successful_response_of_another_shape_is_reported(contract: Contract, body: bytes) -> None:
    assert word("SHA-01", Teller(contract).status(running(contract), answer=body)) == BROKEN
    assert word("SHA-01", Teller(contract).submit("accepted", answer=body)) == BROKEN


def test_a_body_is_held_against_the_schema_where_no_situation_has_its_status(contract: Contract) -> None:
    name, operation = running(contract), contract.operations["status"]
    status = operation.situations[name].status
    others = {key: one for key, one in operation.situations.items() if one.status != status}
    changed = replace(operation, situations=others)
    without = replace(contract, operations={**contract.operations, "status": changed})
    bodies = orjson.dumps(answer(contract, "status", name)), b"[]"
    told = [Teller(without).status(None, status=status, answer=one) for one in bodies]
    assert [word("SHA-01", one) for one in told] == [PASSED, BROKEN]


def test_another_status_is_reported_with_the_documented_one(contract: Contract) -> None:
    found = verdict("SHA-01", Teller(contract).submit("accepted", status=206, expected="accepted"))
    assert found.verdict == BROKEN
    (breach,) = found.breaches
    right = contract.operations["submit"].situations["accepted"]
    assert str(right.status) in breach.message
    assert breach.seen == 206
    assert after(contract.written, breach.patch, breach.places[0]) == 206
    assert contract.schemas.at(breach.places[0]) == right.status


def test_an_undocumented_refusal_breaks_the_shape_unless_it_is_assumed(contract: Contract) -> None:
    told = Teller(contract).status("unknown_job", status=418, expected="unknown_job", probe="identity:unknown")
    assert word("SHA-01", told) == BROKEN
    assert word("SHA-01", told, assuming(contract, home(contract, "status", "unknown_job"))) == LESSON
    assert word("SHA-01", Teller(contract).status(None, status=418)) == BROKEN


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_reported_as_a_shape(contract: Contract, status: int) -> None:
    assert word("SHA-01", Teller(contract).status(None, status=status)) == BROKEN


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 599])
def test_a_bad_day_breaks_no_shape(contract: Contract, status: int) -> None:
    told = Teller(contract).status(None, status=status, **HTML).submit(None, status=status, **HTML)
    assert word("SHA-01", told) == word("SHA-02", told) == NOT_OBSERVED


def test_an_undefined_case_may_be_refused_in_any_way(contract: Contract) -> None:
    assert "body_too_large" not in contract.operations["submit"].situations
    told = Teller(contract).submit(None, status=413, expected="body_too_large", answer_headers=JSON, answer=b"{}")
    told.status(None, status=400, probe="identity:malformed", answer_headers=JSON, answer=b"{}")
    assert word("SHA-01", told) == PASSED


def test_an_incomplete_response_has_no_shape(contract: Contract) -> None:
    told = Teller(contract).nothing("status").status(running(contract), whole=False, answer=b"{")
    assert [word(rule, told) for rule in ("SHA-01", "SHA-02", "SHA-03")] == [NOT_OBSERVED] * 3
    assert word("SHA-01", Teller(contract).media().call(None, None, status=404)) == NOT_OBSERVED


def test_a_repeated_fault_is_reported_once(contract: Contract) -> None:
    situation = running(contract)
    body = changed(contract, "status", situation, place(contract, "status", "job"), 7)
    told = Teller(contract)
    for _ in range(5):
        told.status(situation, answer=body)
    (breach,) = verdict("SHA-01", told).breaches
    assert "4 more times" in breach.message


def test_a_successful_response_may_have_undocumented_fields(contract: Contract) -> None:
    situation = running(contract)
    body = answer(contract, "status", situation)
    mores: list[dict[str, Any]] = [{"surprise": 1}, {"error_code": 0}, {} if "code" in body else {"code": "OK"}]
    for more in mores:
        told = Teller(contract).status(situation, answer=orjson.dumps(body | more))
        assert word("SHA-01", told) == PASSED


# SHA-02


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"])
def test_json_calls_itself_json(contract: Contract, kind: str) -> None:
    told = Teller(contract).status(running(contract), answer_headers=(("content-type", kind),))
    assert word("SHA-02", told) == PASSED


@pytest.mark.parametrize("headers", [(("content-type", "text/html"),), (("date", "now"),), (("content-type", ""),)])
def test_json_of_another_content_type_is_reported(contract: Contract, headers: Any) -> None:
    told = Teller(contract).status(running(contract), answer_headers=headers)
    found = verdict("SHA-02", told)
    assert found.verdict == BROKEN
    assert word("SHA-02", told, assuming(contract, found.breaches[0].places[-1])) == LESSON


def test_a_trace_without_headers_shows_nothing_about_them(contract: Contract) -> None:
    assert word("SHA-02", Teller(contract).status(running(contract), answer_headers=())) == NOT_OBSERVED


# SHA-03


def test_a_refusal_keeps_its_envelope(contract: Contract) -> None:
    assert word("SHA-03", Teller(contract).status("unknown_job")) == PASSED
    assert word("SHA-03", Teller(contract).status(running(contract))) == NOT_OBSERVED


@pytest.mark.parametrize("body", [b'{"oops": "no"}', b"[]", b"", b"<html>nginx</html>"])
def test_a_refusal_in_another_envelope_is_reported(contract: Contract, body: bytes) -> None:
    told = Teller(contract).status("unknown_job", answer=body)
    found = verdict("SHA-03", told)
    assert found.verdict == BROKEN
    situation = contract.operations["status"].situations["unknown_job"]
    for at in (situation.example_at, situation.schema, home(contract, "status", "unknown_job")):
        assert word("SHA-03", told, assuming(contract, at)) == LESSON
    assert word("SHA-01", told) == PASSED


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_has_its_own_words(contract: Contract, status: int) -> None:
    assert word("SHA-03", Teller(contract).submit(None, status=status, **HTML)) == NOT_OBSERVED


def test_trouble_keeps_the_envelope_where_the_contract_has_one(contract: Contract) -> None:
    assert word("SHA-03", Teller(contract).status("server_error")) == PASSED
    assert word("SHA-03", Teller(contract).status("server_error", answer=b"[]")) == BROKEN
    assert word("SHA-03", Teller(contract).status(None, status=599, answer=b"[]")) == NOT_OBSERVED


def test_a_refusal_may_leave_out_what_it_need_not_have(contract: Contract) -> None:
    for role, operation in contract.operations.items():
        for name, one in operation.situations.items():
            if one.status >= 400:
                for key in (body := answer(contract, role, name)):
                    less = {other: body[other] for other in body if other != key}
                    allowed = not contract.schemas.violations(one.schema, less)
                    told = Teller(contract).call(role, name, answer=orjson.dumps(less))
                    assert word("SHA-03", told) == (PASSED if allowed else BROKEN)


# SHA-04


def test_responses_end(contract: Contract) -> None:
    assert word("SHA-04", Teller(contract).status(running(contract), probe="job")) == PASSED
    assert word("SHA-04", Teller(contract).status(running(contract))) == NOT_OBSERVED


def test_an_operation_that_never_responds_is_reported(contract: Contract) -> None:
    told = Teller(contract).submit(probe="job").nothing("status", probe="job")
    found = verdict("SHA-04", told)
    assert found.verdict == BROKEN
    assert "status" in found.breaches[0].message
    half = Teller(contract).status(running(contract), probe="job", whole=False, answered=None)
    assert word("SHA-04", half) == BROKEN


def test_a_single_lost_response_is_no_finding(contract: Contract) -> None:
    told = Teller(contract).nothing("status", probe="job").status(running(contract), probe="job")
    assert word("SHA-04", told) == PASSED


def test_a_request_that_was_not_awaited_is_no_finding(contract: Contract) -> None:
    trace = Teller(contract).submit(probe="job").nothing("status", probe="job").trace()
    (rule,) = (one for one in MINE if one.id == "SHA-04")
    for waited, said in ((1.0, PASSED), (31.0, BROKEN)):
        ended = replace(trace, ended=trace.exchanges[-1].arrived + waited)
        assert judge(contract, [ended], [rule])[0].verdict == said


def test_a_response_of_a_hundred_megabytes_is_reported(contract: Contract) -> None:
    told = Teller(contract).status(running(contract), whole=False, answered=None, size=100_000_000)
    assert word("SHA-04", told) == BROKEN


@pytest.mark.parametrize(("submitted", "expected"), [(85_000_000, PASSED), (80_000_000, BROKEN)])
def test_a_response_may_repeat_what_was_submitted(contract: Contract, submitted: int, expected: str) -> None:
    told = Teller(contract).submit(headers=(("content-length", str(submitted)),))
    assert word("SHA-04", told.status(running(contract), probe="job", size=100_000_000)) == expected
    earlier = Teller(contract).status(running(contract), probe="job", size=100_000_000)
    assert word("SHA-04", earlier.submit(headers=(("content-length", str(submitted)),))) == BROKEN


def test_every_rule_has_a_statement_and_a_reason(contract: Contract) -> None:
    for rule in MINE:
        assert rule.level in ("MUST", "SHOULD")
        assert rule.severity in ("S1", "S2", "S3", "S4")
        assert rule.family
        assert rule.says.endswith(".")
        assert rule.because.endswith(".")
        assert judge(contract, [Teller(contract).trace()], [rule])[0].verdict in (NOT_OBSERVED, NOT_APPLICABLE)


@contracts_that(lambda contract: "categories" in contract.operations)
def test_a_request_that_needs_nothing_but_the_key_is_granted(contract: Contract) -> None:
    refused = Teller(contract).submit(probe="job").call("categories", "unauthenticated", None, probe="read:categories")
    assert word("SHA-01", refused) == BROKEN
    assert word("SHA-01", Teller(contract).submit(probe="job").call("categories", "listed", None)) == PASSED
    alone = Teller(contract).call("categories", "unauthenticated", None, probe="read:categories")
    assert word("SHA-01", alone) == PASSED


def refusals_without_an_example(contract: Contract) -> list[int]:
    """Return the statuses for which a document has the schema of a refusal of a poll, but no example."""
    status = contract.operations["status"]
    shown = {one.status for one in status.situations.values()}
    return [code for code in range(400, 500) if code not in shown and schema_of(contract, status, code) is not None]


@contracts_that(lambda contract: bool(refusals_without_an_example(contract)))
def test_a_refusal_without_an_example_has_the_documented_schema(contract: Contract) -> None:
    for status in refusals_without_an_example(contract):
        told = Teller(contract).call("status", None, status=status, answer=b"[1]", answer_headers=JSON)
        assert word("SHA-03", told) == BROKEN
        assert 'is not of type "object"' in verdict("SHA-03", told).breaches[0].message
