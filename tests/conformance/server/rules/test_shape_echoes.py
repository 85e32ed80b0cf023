"""The rules about values that depend on the request, on traces written by hand."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.server.rules.shape_echoes import _status_places, alike
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract, Situation
from tests.conftest import contracts_that
from tests.judging import assuming, family, judged, knowing, named, verdict
from tests.judging import teller as ordered
from tests.tracing import JSON, Teller

RULE = named(family("SHA"), "SHA-05")


def binds(role: str, name: str) -> pytest.MarkDecorator:
    def bound(contract: Contract) -> bool:
        operation, submit = contract.operations.get(role), contract.operations["submit"]
        there = operation is not None and name in operation.bindings and bool(operation.bindings[name].response)
        return there and (role == "list" or bool(submit.bindings.get(name) and submit.bindings[name].request))

    return contracts_that(bound)


def running(contract: Contract) -> str:
    return next(
        one.name
        for one in contract.operations["status"].situations.values()
        if one.stages and not {contract.graph[stage].kind for stage in one.stages} & {"success", "failure", "cancelled"}
    )


def polled(contract: Contract, name: str, sent: Any, received: Any) -> Teller:
    """Return a trace of a submission with a value and a poll with a value."""
    told = ordered(knowing(contract))
    place = contract.operations["submit"].bindings[name].request[0]
    if place.part == "body":
        told.request = replaced(told.request, place.pointer, sent)
    situation = running(contract)
    body = orjson.loads(Teller(contract).status(situation).exchanges[0].answer)
    at = contract.operations["status"].bindings[name].response[0].pointer
    return told.submit().status(situation, answer=orjson.dumps(replaced(body, at, received)))


def said(told: Teller) -> list[str]:
    """Return the findings about the metadata of polls; the documented acceptance shows another input."""
    found = [breach.message for breach in judged(RULE, told).breaches]
    return [one for one in found if "(status): metadata" in one]


@binds("status", "metadata")
def test_metadata_is_repeated(contract: Contract) -> None:
    sent = {"order": "1", "tags": [1]}
    assert said(polled(contract, "metadata", sent, sent)) == []
    for received in (None, {}, {"order": "2", "tags": [1]}, {"order": "1", "tags": []}):
        annotated = polled(contract, "metadata", sent, received)
        assert len(said(annotated)) == 1
        assert judged(RULE, annotated).verdict == BROKEN
        annotated.contract = assuming(contract, "lifecycle.json#/operations/submit/bindings")
        assert judged(RULE, annotated).verdict == LESSON


@binds("status", "model")
def test_the_model_is_the_submitted_one(contract: Contract) -> None:
    model = contract.models[0].id
    assert verdict(RULE, polled(contract, "model", model, model)) == PASSED
    assert verdict(RULE, polled(contract, "model", model, f"{model}@fast")) == PASSED
    found = judged(RULE, polled(contract, "model", model, "another"))
    assert found.verdict == BROKEN
    assert "model is 'another'" in found.breaches[0].message


@binds("list", "page")
def test_a_page_has_the_requested_number(contract: Contract) -> None:
    operation = contract.operations["list"]
    name = operation.bindings["page"].request[0].name
    example = contract.schemas.at(operation.situations["listed"].example_at)
    at = operation.bindings["page"].response[0].pointer
    for page, word in ((2, PASSED), (1, BROKEN)):
        told = ordered(knowing(contract))
        text = orjson.dumps(replaced(example, at, page))
        url = f"{told.base}{operation.path}?{name}=2"
        assert verdict(RULE, told.call("list", "listed", None, answer=text, answer_headers=JSON, url=url)) == word
        # A page that should be refused, and is not, is another finding.
        beyond = {"answer": text, "answer_headers": JSON, "url": url, "expected": "invalid_request"}
        told = ordered(knowing(contract)).call("list", "listed", None, **beyond)
        assert verdict(RULE, told) != BROKEN


@pytest.mark.parametrize(
    ("sent", "received", "same"),
    [
        ("2", 2, True),
        ("2", 3, False),
        ("1", True, False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, None, False),
        ({"u": "https://x/y.png"}, {"u": "https://copy/z.png"}, True),
        ({"u": "https://x/y.png"}, {"u": ""}, False),
        ([1], [1], True),
        ([1], [2], False),
    ],
)
def test_values_are_alike_if_a_client_finds_its_own_in_them(
    contract: Contract, sent: Any, received: Any, same: bool
) -> None:
    assert alike(contract, "metadata", sent, received) is same


# SHA-06


REPEATED = named(family("SHA"), "SHA-06")
numbered = contracts_that(lambda contract: bool(_status_places(contract, contract.operations["status"])))


@numbered
def test_the_number_in_a_refusal_is_its_status(contract: Contract) -> None:
    told = ordered(knowing(contract)).status("unknown_job")
    assert verdict(REPEATED, told) == PASSED
    body = orjson.loads(told.exchanges[0].answer)
    for number, word in ((200, BROKEN), ("404", NOT_OBSERVED), (None, NOT_OBSERVED)):
        at = _status_places(contract, contract.operations["status"])[0]
        text = orjson.dumps(replaced(body, at, number))
        assert verdict(REPEATED, ordered(knowing(contract)).status("unknown_job", answer=text)) == word


@numbered
def test_a_number_is_judged_only_in_a_complete_refusal_of_a_known_operation(contract: Contract) -> None:
    body = orjson.loads(ordered(contract).status("unknown_job").exchanges[0].answer)
    text = orjson.dumps(replaced(body, _status_places(contract, contract.operations["status"])[0], 418))
    others: list[tuple[str | None, dict[str, Any]]] = [
        (None, {"status": 404}),
        ("status", {"status": 404, "whole": False}),
        ("status", {"status": 399}),
    ]
    for role, how in others:
        assert verdict(REPEATED, ordered(knowing(contract)).call(role, None, answer=text, **how)) == NOT_OBSERVED
    assert verdict(REPEATED, ordered(knowing(contract)).call("status", None, answer=text, status=400)) == BROKEN


# SHA-07


REQUESTED = named(family("SHA"), "SHA-07")


def conditional(contract: Contract) -> list[tuple[str, Situation]]:
    operations = contract.operations.items()
    return [(role, one) for role, operation in operations for one in operation.situations.values() if one.when]


@contracts_that(lambda contract: bool(conditional(contract)))
def test_a_member_is_shown_only_on_request(contract: Contract) -> None:
    for role, situation in conditional(contract):
        asked = ordered(knowing(contract)).call(role, situation.name)
        assert verdict(REQUESTED, asked) == PASSED
        url = asked.exchanges[0].url
        assert verdict(REQUESTED, ordered(knowing(contract)).call(role, situation.name, url=url.partition("?")[0])) == (
            BROKEN
        )
        others = contract.operations[role].situations.values()
        alike = (one for one in others if (one.status, one.stages) == (situation.status, situation.stages))
        plain = next(one for one in alike if not one.when)
        assert verdict(REQUESTED, ordered(knowing(contract)).call(role, plain.name, url=url)) == BROKEN
        assert verdict(REQUESTED, ordered(knowing(contract)).call(role, plain.name)) == PASSED
        odd = url.replace("true", "perhaps")
        assert verdict(REQUESTED, ordered(knowing(contract)).call(role, situation.name, url=odd)) == NOT_OBSERVED


def routed(contract: Contract, sent: str | None, received: str | None) -> str:
    told = ordered(knowing(contract))
    told.request = told.request if sent is None else {**(told.request or {}), "route": sent}
    body = orjson.loads(Teller(contract).status(running(contract)).exchanges[0].answer)
    data = body["data"] if received is None else body["data"] | {"route": received}
    return verdict(REQUESTED, told.submit().status(running(contract), answer=orjson.dumps(body | {"data": data})))


@contracts_that(lambda contract: contract.key == "hiapi")
def test_a_member_that_depends_on_the_submission_is_shown_if_it_was_sent(contract: Contract) -> None:
    assert routed(contract, None, None) == routed(contract, "backup", "backup") == PASSED
    assert routed(contract, None, "standard") == BROKEN
    assert routed(contract, "backup", None) == BROKEN
    assert routed(contract, "backup", "standard") == BROKEN
