"""The rules about the order's fidelity, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.client.order_cases import fullest_and_least
from hobbyhorse.conformance.client.rules import fidelity as rules
from hobbyhorse.conformance.client.rules.fidelity import drifts, is_equal
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conftest import contracts_that
from tests.judging import messages
from tests.tracing import Teller

SEEDED = contracts_that(lambda contract: "seed" in contract.models[0].parameters)
FORMED = contracts_that(lambda contract: bool(contract.operations["submit"].forms))
NOTED = contracts_that(lambda contract: "metadata" in contract.operations["submit"].bindings)
CALLED = contracts_that(lambda contract: "callback_url" in contract.operations["submit"].bindings)
WRAPPED = contracts_that(lambda contract: bool(contract.operations["submit"].model_parameters.pointer))
FIDELITY = (rules.falsy_values, rules.text_unchanged, rules.members_unchanged)
TEXT = 'a "horse"\nruns, 駿馬'


def place(contract: Contract, name: str) -> tuple[str, ...]:
    """Return the place of a parameter in a submission's body."""
    return (*contract.operations["submit"].model_parameters.pointer, *contract.models[0].parameters[name][0])


def plain(contract: Contract, **values: Any) -> Any:
    """Return the plain order with other parameters."""
    body: Any = order_for(contract, contract.models[0])
    for name, value in values.items():
        body = replaced(body, place(contract, name), value)
    return body


def sent(contract: Contract, request: Any, **changes: Any) -> Teller:
    """Return a trace of a submission that changes some requested parameters; MISSING removes one."""
    return Teller(contract, request).submit(body=orjson.dumps(changed(contract, request, **changes)))


def changed(contract: Contract, body: Any, **changes: Any) -> Any:
    for name, value in changes.items():
        body = replaced(body, place(contract, name), value)
    return body


def test_an_order_that_arrives_as_given_keeps_every_rule(contract: Contract) -> None:
    told = Teller(contract, plain(contract, prompt=TEXT)).submit()
    assert messages(rules.text_unchanged, told.story()) == []
    assert messages(rules.members_unchanged, told.story()) == []


def test_nothing_is_judged_without_a_run_or_with_an_order_that_is_not_valid(contract: Contract) -> None:
    told = sent(contract, plain(contract), prompt=MISSING, duration="3")
    told.runs.clear()
    assert [messages(rule, told.story()) for rule in (*FIDELITY, rules.same_order_again)] == [None] * 4
    told = Teller(contract, {"n": 1}).submit(body=orjson.dumps(plain(contract)))
    assert [messages(rule, told.story()) for rule in FIDELITY] == [None] * 3


@SEEDED
@pytest.mark.parametrize("seed", [MISSING, 1, False, "0", None])
def test_a_seed_of_0_that_does_not_arrive_is_found(contract: Contract, seed: Any) -> None:
    request = plain(contract, seed=0)
    assert messages(rules.falsy_values, sent(contract, request).story()) == []
    assert messages(rules.falsy_values, sent(contract, request, seed=0.0).story()) == []
    found = messages(rules.falsy_values, sent(contract, request, seed=seed).story())
    assert found is not None
    assert len(found) == 1
    assert "seed: " in found[0]
    assert found[0].endswith("; given: 0")
    assert messages(rules.members_unchanged, sent(contract, request, seed=seed).story()) == []


def test_an_order_without_falsy_values_shows_nothing_about_them(contract: Contract) -> None:
    request = changed(contract, plain(contract), **({"seed": 7} if "seed" in contract.models[0].parameters else {}))
    assert messages(rules.falsy_values, sent(contract, request).story()) is None


@pytest.mark.parametrize("prompt", ["a 'horse' runs, ??", TEXT.replace("\n", " "), TEXT.upper(), 7, f"{TEXT} "])
def test_a_changed_prompt_is_found(contract: Contract, prompt: Any) -> None:
    found = messages(rules.text_unchanged, sent(contract, plain(contract, prompt=TEXT), prompt=prompt).story())
    assert found is not None
    assert len(found) == 1


@pytest.mark.parametrize("prompt", [MISSING, TEXT[:-2], TEXT[:-4] + "...", ""])
def test_a_shortened_prompt_is_the_subject_of_another_rule(contract: Contract, prompt: Any) -> None:
    assert messages(rules.text_unchanged, sent(contract, plain(contract, prompt=TEXT), prompt=prompt).story()) == []
    assert messages(rules.members_unchanged, sent(contract, plain(contract, prompt=TEXT), prompt=prompt).story()) == []


@pytest.mark.parametrize("change", [{"duration": 4}, {"duration": "3"}, {"duration": MISSING}, {"resolution": "8K"}])
def test_a_changed_parameter_is_found(contract: Contract, change: dict[str, Any]) -> None:
    request = plain(contract, duration=3)
    assert messages(rules.members_unchanged, sent(contract, request, duration=3.0).story()) == []
    found = messages(rules.members_unchanged, sent(contract, request, **change).story())
    assert found is not None
    assert len(found) == 1


@NOTED
def test_a_nested_member_that_does_not_arrive_is_found(contract: Contract) -> None:
    request = {**plain(contract), "metadata": {"tags": ["a", "a", {"deep": 1}], "off": False}}
    body = {**request, "metadata": {"tags": ["a", "a", {"deep": True}], "off": False}}
    told = Teller(contract, request).submit(body=orjson.dumps(body))
    assert messages(rules.members_unchanged, told.story()) == [
        "request 1 sends metadata.tags.2.deep: True; given: 1",
    ]


def test_members_that_the_client_adds_are_allowed(contract: Contract) -> None:
    request = plain(contract)
    told = Teller(contract, request).submit(body=orjson.dumps({**request, "more": [1]}))
    assert messages(rules.members_unchanged, told.story()) == []


@CALLED
def test_the_client_may_replace_the_callback(contract: Contract) -> None:
    ((at,),) = [contract.operations["submit"].bindings["callback_url"].request]
    request = replaced(plain(contract), at.pointer, "https://example.com/one")
    told = Teller(contract, request).submit(body=orjson.dumps(replaced(request, at.pointer, "https://example.com/two")))
    assert messages(rules.members_unchanged, told.story()) == []
    told = Teller(contract, plain(contract)).submit(situation="rate_limited", job=None, status=429)
    told.submit(body=orjson.dumps(request))
    assert messages(rules.same_order_again, told.story()) == []


@FORMED
def test_another_form_of_the_same_order_is_allowed(contract: Contract) -> None:
    request, (form, *_) = plain(contract, prompt=TEXT), contract.operations["submit"].forms
    _, wrapped = contract.operations["submit"].body_examples.values()
    body: Any = {name: value for name, value in wrapped.items() if name in request}
    for to, source in form.set:
        body = replaced(body, source.pointer, resolve(request, to))
    for one, other in ((request, body), (body, request)):
        told = Teller(contract, one).submit(body=orjson.dumps(other))
        assert [messages(rule, told.story()) for rule in FIDELITY[1:]] == [[], []]
    told = Teller(contract, body).submit(body=orjson.dumps(changed(contract, request, duration=4)))
    assert messages(rules.members_unchanged, told.story()) != []


@WRAPPED
def test_the_parameters_alone_may_be_wrapped(contract: Contract) -> None:
    body = plain(contract)
    request = resolve(body, contract.operations["submit"].model_parameters.pointer)
    told = Teller(contract, request).submit(body=orjson.dumps(body))
    assert messages(rules.members_unchanged, told.story()) == []


def test_another_model_is_found(contract: Contract) -> None:
    trace = Teller(contract, plain(contract)).submit().trace()
    assert messages(rules.members_unchanged, AnnotatedTrace(contract, trace)) == []
    assert messages(rules.members_unchanged, AnnotatedTrace(contract, replace(trace, model="another"))) != []


@SEEDED
def test_a_value_that_only_an_earlier_order_has_is_found(contract: Contract) -> None:
    full, least = fullest_and_least(contract, contract.models[0])

    def told(later: Any, sent: Any) -> list[str] | None:
        body = orjson.dumps(sent)
        first = Teller(contract, full).submit().end("success").again(later)
        return messages(rules.no_member_of_an_earlier_order, first.submit(job="job-2", body=body).story())

    assert told(least, least) == []
    assert told(least, changed(contract, least, duration=15)) == [], "a default of the client's own"
    found = told(least, changed(contract, least, seed=resolve(full, place(contract, "seed"))))
    assert found
    assert all(one.endswith("it was given with run 1 only") for one in found)
    assert told(full, full) is None, "the caller gave it again"


@SEEDED
def test_a_value_of_an_earlier_order_that_an_equal_order_before_did_not_have_is_found(contract: Contract) -> None:
    full, least = fullest_and_least(contract, contract.models[0])

    def told(before: Any, after: Any) -> list[str] | None:
        teller = Teller(contract, least).submit(body=orjson.dumps(before)).end("success").again(full)
        teller.submit(job="job-2", body=orjson.dumps(full)).end("success").again(least)
        return messages(
            rules.no_member_of_an_earlier_order, teller.submit(job="job-3", body=orjson.dumps(after)).story()
        )

    usual, longest = (changed(contract, least, duration=seconds) for seconds in (5, 15))
    assert resolve(full, place(contract, "duration")) == 15
    assert told(least, least) == told(usual, usual) == told(longest, longest) == []
    for before in (least, usual):
        found = told(before, longest)
        assert found
        assert found[0].endswith("duration: 15; it was given with run 2 only")


def test_a_retry_that_changes_a_parameter_is_found(contract: Contract) -> None:
    request = plain(contract)
    told = Teller(contract, request).submit(situation=None, job=None, status=503)
    told.wait(1).submit(body=orjson.dumps(changed(contract, request, duration=MISSING)))
    found = messages(rules.same_order_again, told.story())
    assert found is not None
    assert len(found) == 1
    assert found[0].endswith("duration: nothing; given: 3 in request 1")
    assert messages(rules.members_unchanged, told.story()) == []
    told = Teller(contract, request).submit(situation=None, job=None, status=503).wait(1).submit()
    assert messages(rules.same_order_again, told.story()) == []


def test_a_parameter_that_only_a_retry_adds_is_found(contract: Contract) -> None:
    request = changed(contract, plain(contract), resolution=MISSING)
    told = Teller(contract, request).submit(situation=None, job=None, status=503)
    told.wait(1).submit(body=orjson.dumps(plain(contract)))
    assert messages(rules.same_order_again, told.story()) != []


def test_an_order_may_be_corrected_after_a_refusal_that_criticises_it(contract: Contract) -> None:
    request = plain(contract)
    told = Teller(contract, request).submit(situation=None, job=None, status=422)
    told.wait(1).submit(body=orjson.dumps(changed(contract, request, duration=MISSING)))
    assert messages(rules.same_order_again, told.story()) is None


def test_a_run_that_fails_before_it_submits_is_found(contract: Contract) -> None:
    told = Teller(contract, plain(contract, prompt=TEXT)).end("failed", message="UnicodeEncodeError: 'latin-1'")
    assert messages(rules.valid_order_sent, told.story()) == [
        "the run ended as 'failed' without submitting its order: UnicodeEncodeError: 'latin-1'"
    ]
    assert messages(rules.valid_order_sent, Teller(contract, plain(contract)).submit().end("failed").story()) == []
    assert messages(rules.valid_order_sent, Teller(contract, {"n": 1}).end("failed").story()) is None
    assert messages(rules.valid_order_sent, Teller(contract, plain(contract)).story()) is None


def test_a_run_may_fail_because_of_an_earlier_request(contract: Contract) -> None:
    told = Teller(contract, plain(contract)).status(None, status=503).end("failed")
    assert messages(rules.valid_order_sent, told.story()) is None


def test_two_equal_orders_make_two_jobs(contract: Contract) -> None:
    request = plain(contract)
    told = Teller(contract, request).submit(job="one").end("success").wait(1).again(request)
    assert messages(rules.one_job_for_each_order, told.submit(job="two").end("success").story()) == []
    assert messages(rules.one_job_for_each_order, Teller(contract, request).submit().end("success").story()) is None


def test_a_second_order_that_gets_the_first_job_is_found(contract: Contract) -> None:
    request = plain(contract)
    told = Teller(contract, request).submit().end("success").wait(1).again(request).submit().end("success")
    found = messages(rules.one_job_for_each_order, told.story())
    assert found is not None
    assert len(found) == 1
    assert found[0].startswith("run 2 got the job of run 1 (")


def test_a_second_order_that_is_never_submitted_is_found(contract: Contract) -> None:
    request = plain(contract)
    told = Teller(contract, request).submit().end("success").wait(1).again(request).end("success")
    assert messages(rules.one_job_for_each_order, told.story()) == [
        "run 2 reported a success without submitting its order"
    ]


def test_concurrent_orders_are_not_told_apart(contract: Contract) -> None:
    told = Teller(contract, plain(contract)).again(plain(contract)).submit().submit().end("success")
    assert messages(rules.one_job_for_each_order, told.story()) is None
    assert messages(rules.same_order_again, told.story()) is None


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (5, 5.0, True),
        (True, 1, False),
        (0, False, False),
        ({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]}, True),
        ([1], [1, 1], False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ("1", 1, False),
    ],
)
def test_values_are_equal_as_json(one: Any, other: Any, equal: bool) -> None:
    assert is_equal(one, other) is equal
    assert is_equal(other, one) is equal


def test_null_may_be_left_out_and_an_object_may_get_members() -> None:
    assert list(drifts({"a": None, "b": {}}, {"b": {"c": 1}})) == []
    assert [drift.place for drift in drifts({"a": None, "b": {}, "c": []}, {"a": 1, "c": [1]})] == [
        ("a",),
        ("b",),
        ("c",),
    ]
