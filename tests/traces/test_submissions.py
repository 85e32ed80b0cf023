"""The request that a submission carries, in the documented form and in the other accepted ones."""

from __future__ import annotations

from typing import Any

import orjson

from hobbyhorse.conformance.client.rules import submitting
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.submissions import carried, path_values
from tests.conftest import contracts_that
from tests.judging import messages
from tests.tracing import HOME, JSON, Teller

FORMED = contracts_that(lambda contract: bool(contract.operations["submit"].forms))
MARKS = ("run 1", "run 2", "run 3")


def requests(contract: Contract) -> list[dict[str, Any]]:
    return [order_for(contract, contract.models[0], mark=mark) for mark in MARKS]


def crowd(contract: Contract) -> Teller:
    """Return a trace with three runs that started together."""
    told = Teller(contract, requests(contract)[0])
    for one in requests(contract)[1:]:
        told.again(one)
    told.drill = "crowd"
    return told


def rewritten(contract: Contract, request: dict[str, Any]) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """Return a request in every other form that the contract accepts: its body and its additional headers."""
    moved = [
        (to, source, resolve(request, to)) for form in contract.operations["submit"].forms for to, source in form.set
    ]
    body: Any = request
    for to, _, _ in moved:
        body = replaced(body, to, MISSING)
    for _, source, value in moved:
        if source.part == "body":
            body = replaced(body, source.pointer, value)
    headers = tuple((source.name, value) for _, source, value in moved if source.part == "header")
    return _with_lists(body), headers


def _with_lists(value: Any) -> Any:
    """Turn each object whose only member is "0" into a list with that member."""
    if not isinstance(value, dict):
        return value
    inner = {name: _with_lists(one) for name, one in value.items()}
    return [inner["0"]] if list(inner) == ["0"] else inner


def owners(trace: AnnotatedTrace) -> list[int | None]:
    return [trace.owner_of(step) for step in trace.submits]


def test_a_submission_with_more_members_carries_its_request(contract: Contract) -> None:
    told = crowd(contract)
    for number in (2, 0, 1):
        told.submit(body=orjson.dumps(requests(contract)[number] | {"note": "mine"}), job=f"job-{number}")
    assert owners(told.story()) == [2, 0, 1]


@FORMED
def test_a_submission_in_another_accepted_form_carries_its_request(contract: Contract) -> None:
    told = crowd(contract)
    for number in (2, 0, 1):
        body, headers = rewritten(contract, requests(contract)[number])
        assert body != requests(contract)[number]
        told.submit(body=orjson.dumps(body), headers=(*JSON, *headers), job=f"job-{number}")
    trace = told.story()
    assert owners(trace) == [2, 0, 1]
    assert [len(order) for order in trace.orders] == [1, 1, 1]
    assert [messages(rule, trace) for rule in (submitting.no_ambiguous_resend,)] == [None]
    assert not messages(submitting.no_resubmit_on_own_timeout, trace)


def test_a_submission_with_converted_parameters_is_known_by_its_prompt(contract: Contract) -> None:
    told = crowd(contract)
    place = (*contract.operations["submit"].model_parameters.pointer, *contract.models[0].parameters["duration"][0])
    for number in (1, 2, 0):
        body = replaced(requests(contract)[number], place, "5 s")
        told.submit(body=orjson.dumps(body), job=f"job-{number}")
    assert owners(told.story()) == [1, 2, 0]


def test_unknown_submissions_of_overlapping_runs_are_not_one_order(contract: Contract) -> None:
    told = crowd(contract)
    for number in range(3):
        told.submit(body=b'{"something": %d}' % number, job=f"job-{number}", key=None)
    trace = told.story()
    assert owners(trace) == [None, None, None]
    assert [len(order) for order in trace.orders] == [1, 1, 1]
    assert trace.by_order == ()
    assert not messages(submitting.no_resubmit_on_own_timeout, trace)
    # One run alone certainly sent both.
    alone = Teller(contract, requests(contract)[0]).submit(body=b'{"a": 1}').submit(body=b'{"a": 2}', job="b").story()
    assert [len(order) for order in alone.orders] == [2]
    assert messages(submitting.no_resubmit_on_own_timeout, alone)


@contracts_that(lambda contract: contract.idempotency.mode == "replay")
def test_an_attempt_with_a_spoilt_body_belongs_to_the_order_of_its_key(contract: Contract) -> None:
    told = crowd(contract)
    for number in (1, 0):
        told.submit(None, status=429, job=None, body=orjson.dumps(requests(contract)[number]), key=f"key-{number}")
    for number in (0, 1):
        told.submit(None, status=400, job=None, body=b"", key=f"key-{number}")
    assert owners(told.story()) == [1, 0, 0, 1]


def test_an_unknown_submission_belongs_to_the_only_active_run(contract: Contract) -> None:
    told = Teller(contract, requests(contract)[0]).submit().end("success").wait(1).again(requests(contract)[1])
    assert owners(told.submit(body=b'{"a": 1}', job="b").story()) == [0, 1]


def test_a_request_carries_nothing_without_a_body_or_an_operation(contract: Contract) -> None:
    told = Teller(contract, requests(contract)[0]).submit(body=b"").call(None, None, body=b'{"a": 1}')
    for exchange in told.exchanges:
        assert carried(contract, exchange, [told.base], requests(contract)) == []


def test_path_values_are_read_under_the_longest_base(contract: Contract) -> None:
    operation, told = contract.operations["status"], Teller(contract).status(None, status=500)
    url = told.exchanges[0].url
    found = path_values(operation, url, [HOME, told.base])
    assert found is not None
    assert "tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVY" in found.values()
    assert path_values(operation, url, [f"{HOME}/other"]) is None
