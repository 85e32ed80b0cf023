"""The rules about requests, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.client.rules import requests as rules
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conftest import contracts_that
from tests.judging import messages
from tests.tracing import FOREIGN, HOME, Teller

SEEDED = contracts_that(lambda contract: "seed" in contract.models[0].parameters)
FORMED = contracts_that(lambda contract: bool(contract.operations["submit"].forms))
KEYED = (("authorization", "Bearer [key]"), ("content-type", "application/json"))


def place(contract: Contract, name: str) -> tuple[str, ...]:
    """Return the place of a parameter in a submission's body."""
    return (*contract.operations["submit"].model_parameters.pointer, *contract.models[0].parameters[name][0])


def asked(contract: Contract, prompt: str = "a horse runs", **more: Any) -> dict[str, Any]:
    """Return a documented request with a given prompt and parameters."""
    body = next(iter(contract.operations["submit"].body_examples.values()))
    for name, value in {"prompt": prompt, "duration": 5, **more}.items():
        body = replaced(body, place(contract, name), value)
    found: dict[str, Any] = body
    return found


def sent(contract: Contract, request: dict[str, Any], **changes: Any) -> Teller:
    """Return a trace of a submission that changes some requested parameters; MISSING removes one."""
    body: Any = request
    for name, value in changes.items():
        body = replaced(body, place(contract, name), value)
    return Teller(contract, request).submit(body=orjson.dumps(body))


def success(contract: Contract) -> tuple[str, str]:
    """Return the role and the situation of a response with the video."""
    role = "result" if "result" in contract.operations else "status"
    found = contract.operations[role].situations.values()
    kinds = {one.name: {contract.graph[name].kind for name in one.stages} for one in found if not one.when}
    return role, next(name for name, kind in kinds.items() if kind == {"success"})


def test_a_documented_request_keeps_every_rule(contract: Contract) -> None:
    assert messages(rules.request_valid, Teller(contract).story()) is None
    at, model = contract.operations["submit"].model_parameters.pointer, contract.models[0]
    for body in contract.operations["submit"].body_examples.values():
        told_model = contract.schemas.violations(model.schema, resolve(body, at)) == []
        if told_model or contract.operations["submit"].forms:
            told = Teller(contract, body).submit().call(*success(contract)).media()
            assert messages(rules.request_valid, told.story()) == []


@pytest.mark.parametrize("change", [{"duration": 99}, {"duration": "5"}, {"prompt": 7}, {"resolution": "8K"}])
def test_a_request_that_violates_its_schema_is_found(contract: Contract, change: dict[str, Any]) -> None:
    assert messages(rules.request_valid, sent(contract, asked(contract), **change).story()) != []


@pytest.mark.parametrize("body", [b"[]", b"{", b"{}"])
def test_a_body_that_is_not_an_order_is_found(contract: Contract, body: bytes) -> None:
    assert messages(rules.request_valid, Teller(contract, asked(contract)).submit(body=body).story()) != []


def test_a_body_without_its_type_is_found(contract: Contract) -> None:
    told = Teller(contract, asked(contract)).submit(headers=(("authorization", "Bearer [key]"),))
    assert messages(rules.request_valid, told.story()) != []
    assert messages(rules.required_headers, told.story()) != []


def test_an_invalid_request_of_the_caller_may_be_passed_on(contract: Contract) -> None:
    request = asked(contract, duration=99)
    assert messages(rules.request_valid, Teller(contract, request).submit().story()) == []


def test_an_incomplete_body_in_the_trace_is_not_judged(contract: Contract) -> None:
    headers = (*KEYED, ("content-length", "70000"))
    told = Teller(contract, asked(contract)).submit(body=b'{"input": {', headers=headers)
    assert messages(rules.request_valid, told.story()) == []
    assert messages(rules.no_silent_truncation, told.story()) is None
    told = Teller(contract, asked(contract)).nothing("submit", body=b"", headers=(*KEYED, ("content-length", "300")))
    assert messages(rules.request_valid, told.story()) == []


def test_a_request_that_matches_no_operation_is_found(contract: Contract) -> None:
    assert messages(rules.request_valid, Teller(contract).call(None, None).story()) != []


def test_the_finding_names_the_nearest_operation(contract: Contract) -> None:
    """The id is missing in the path: the client read it from a field that does not exist."""
    status = contract.operations["status"]
    told = Teller(contract).call(None, None, url=HOME + re.sub(r"\{[^}]+\}", "", status.path))
    found = messages(rules.request_valid, told.story())
    assert found is not None
    (message,) = found
    assert f"closest: status {status.method} {status.path}, path segment " in message
    assert message.endswith("is empty")


def test_the_url_of_a_job_that_the_provider_gave_an_empty_id_is_not_the_clients_mistake(contract: Contract) -> None:
    status, told = contract.operations["status"], Teller(contract, asked(contract))
    value = Teller(contract).submit().story().steps[0].value
    for place in contract.operations["submit"].bindings["job"].response:
        value = replaced(value, place.pointer, "")
    told.submit(None, status=200, job=None, answer=orjson.dumps(value))
    there = HOME + re.sub(r"\{[^}]+\}", "", status.path)
    assert messages(rules.request_valid, told.call(None, None, url=there).story()) == []
    assert messages(rules.request_valid, told.call(None, None, url=f"{HOME}/elsewhere").story()) != []


def test_a_url_from_a_response_may_be_requested(contract: Contract) -> None:
    there = f"{HOME}/opaque/1"
    told = Teller(contract).call("status", None, status=307, answer_headers=(("location", "/opaque/1"),))
    assert messages(rules.request_valid, told.call(None, None, url=there).story()) == []
    told = Teller(contract).call("status", None, status=200, answer=orjson.dumps({"next": there}))
    assert messages(rules.request_valid, told.call(None, None, url=there).story()) == []


def test_an_opaque_query_is_allowed(contract: Contract) -> None:
    url = Teller(contract).status(None, status=503).exchanges[0].url
    assert messages(rules.request_valid, Teller(contract).status(None, url=f"{url}?opaque=1").story()) == []


@FORMED
def test_every_documented_form_of_a_request_is_allowed(contract: Contract) -> None:
    for body in contract.operations["submit"].body_examples.values():
        trace = Teller(contract, body).submit().story()
        for rule in (rules.request_valid, rules.no_silent_truncation, rules.numeric_units):
            assert messages(rule, trace) == []
    flat, wrapped = contract.operations["submit"].body_examples.values()
    trace = Teller(contract, flat).submit(body=orjson.dumps(wrapped)).story()
    assert messages(rules.request_valid, trace) == []
    assert messages(rules.no_silent_truncation, trace) == []


def test_a_truncated_or_changed_prompt_is_found(contract: Contract) -> None:
    request = asked(contract, "a horse that runs, nonce")
    assert messages(rules.no_silent_truncation, Teller(contract, request).story()) is None
    assert messages(rules.no_silent_truncation, Teller(contract).submit().story()) is None
    assert messages(rules.no_silent_truncation, sent(contract, request).story()) == []
    for prompt in ("a horse that runs", "A horse that runs, nonce", "a horse that runs, nonce ", MISSING):
        assert messages(rules.no_silent_truncation, sent(contract, request, prompt=prompt).story()) != []


def test_concurrent_runs_may_send_any_of_their_prompts(contract: Contract) -> None:
    told = Teller(contract, asked(contract, "one")).again(asked(contract, "two", duration=4))
    told.submit(body=orjson.dumps({**asked(contract, "one"), "more": 1}))
    assert messages(rules.no_silent_truncation, told.story()) == []
    assert messages(rules.numeric_units, told.story()) == []
    told.submit(body=orjson.dumps(asked(contract, "three")))
    assert messages(rules.no_silent_truncation, told.story()) != []


def test_an_ended_run_requests_no_prompt_any_more(contract: Contract) -> None:
    told = Teller(contract, asked(contract, "one")).submit().end("success").wait(1).again(asked(contract, "two"))
    assert messages(rules.no_silent_truncation, told.submit().story()) == []
    told.submit(body=orjson.dumps(asked(contract, "one")))
    assert messages(rules.no_silent_truncation, told.story()) != []


@SEEDED
def test_a_changed_number_is_found(contract: Contract) -> None:
    request = asked(contract, seed=7)
    assert messages(rules.numeric_units, Teller(contract, request).story()) is None
    assert messages(rules.numeric_units, sent(contract, request).story()) == []
    for seed in ("7", 7.25, True, 8, None, MISSING):
        assert messages(rules.numeric_units, sent(contract, request, seed=seed).story()) != []


def test_a_duration_sent_as_text_is_found(contract: Contract) -> None:
    assert messages(rules.numeric_units, sent(contract, asked(contract), duration=5.0).story()) == []
    assert messages(rules.numeric_units, sent(contract, asked(contract), duration="5").story()) != []


def test_a_request_without_numbers_shows_nothing_about_them(contract: Contract) -> None:
    request = {"prompt": "a"}
    for name in ("duration", "seed"):
        if name in contract.models[0].parameters:
            assert resolve(request, place(contract, name)) is MISSING
    assert (
        messages(rules.numeric_units, Teller(contract, request).submit(body=orjson.dumps(asked(contract))).story())
        is None
    )


def test_a_missing_key_or_type_is_found(contract: Contract) -> None:
    told = Teller(contract, asked(contract)).submit().call(*success(contract)).media()
    assert messages(rules.required_headers, Teller(contract).media().story()) is None
    assert messages(rules.required_headers, told.story()) == []
    for headers in ((), (("authorization", "[key]"),), (("authorization", "Bearer "),), (("x-api-key", "[key]"),)):
        assert messages(rules.required_headers, Teller(contract).status(None, headers=headers).story()) != []


def test_the_key_is_not_required_on_other_hosts(contract: Contract) -> None:
    told = Teller(contract).status(None, url=f"{FOREIGN}/status", headers=())
    assert messages(rules.required_headers, told.story()) is None


@pytest.mark.parametrize("move", ["extra_field", "reordered"])
def test_a_failure_because_of_new_fields_is_found(contract: Contract, move: str) -> None:
    def told() -> Teller:
        return Teller(contract, asked(contract)).submit(move=move).call(*success(contract)).media()

    assert messages(rules.additive_tolerance, told().end("success").story()) == []
    assert messages(rules.additive_tolerance, told().end("error").story()) != []
    assert messages(rules.additive_tolerance, told().end("failed").story()) != []
    assert messages(rules.additive_tolerance, Teller(contract).submit(move=move).end("error").story()) != []
    read = Teller(contract).submit().call(*success(contract), move=move).end("error")
    assert messages(rules.additive_tolerance, read.story()) != []


def test_giving_up_at_the_new_form_counts_only_early_in_the_wait(contract: Contract) -> None:
    """Later, the client may have stopped because its own deadline had passed."""
    running = next(stage.name for stage in contract.graph if stage.kind == "running")

    def ended(share: float) -> list[str] | None:
        told = Teller(contract, asked(contract)).submit().wait(share * contract.polling.longest_wait)
        return messages(rules.additive_tolerance, told.status(running, move="extra_field").end("error").story())

    assert ended(0.4)
    assert ended(0.6) is None
    assert ended(1.5) is None


def test_a_second_order_is_not_stopped_by_the_form_of_its_response(contract: Contract) -> None:
    told = Teller(contract, asked(contract)).submit(move="extra_field").wait(contract.polling.longest_wait)
    told.submit(move="extra_field").wait(contract.polling.longest_wait)
    assert messages(rules.additive_tolerance, told.end("error").story()) is None


def test_the_fields_to_which_a_failure_is_due_are_named_once_each(contract: Contract) -> None:
    told = Teller(contract, asked(contract)).submit(move="reordered").call(*success(contract), move="extra_field")
    (found,) = messages(rules.additive_tolerance, told.media(move="extra_field").end("failed").story()) or []
    assert found == "the run ended as 'failed' although the only fault was extra_field and reordered"


def test_another_fault_excuses_a_failure(contract: Contract) -> None:
    role, name = success(contract)
    told = Teller(contract).submit().call(role, name)
    assert messages(rules.additive_tolerance, told.media().end("error").story()) is None
    told = Teller(contract).submit(move="extra_field").status(None, status=503).call(role, name)
    assert messages(rules.additive_tolerance, told.media().end("error").story()) is None
    told = Teller(contract).submit(move="extra_field").call(role, name).media(move="not_video")
    assert messages(rules.additive_tolerance, told.end("failed").story()) is None
    told = Teller(contract).submit(move="extra_field").call(role, name).media(404)
    assert messages(rules.additive_tolerance, told.end("failed").story()) is None
    told = Teller(contract).submit(move="extra_field").wait(700).call(role, name, move="latency")
    assert messages(rules.additive_tolerance, told.media().end("error").story()) is None


def test_a_recording_without_secrets_is_not_accused_of_missing_keys(contract: Contract) -> None:
    told = Teller(contract).submit().status(next(iter(contract.graph)).name)
    bare = tuple(replace(exchange, headers=()) for exchange in told.exchanges)
    assert (
        messages(rules.required_headers, AnnotatedTrace(contract, replace(told.trace(), exchanges=bare, runs=()))) == []
    )
    assert messages(rules.required_headers, AnnotatedTrace(contract, replace(told.trace(), exchanges=bare))) != []


def test_a_moved_client_may_use_either_base_url(contract: Contract) -> None:
    base = f"{FOREIGN}/{contract.key}"
    told = Teller(contract).wait(1).restart(base)
    assert messages(rules.request_valid, told.call(None, None, url=f"{base}/v1/a-job").story()) == []


@pytest.mark.parametrize("headers", [(), (("transfer-encoding", "chunked"),), (("content-length", "0"),)])
@pytest.mark.parametrize("body", [b"", b"{", b"[]"])
def test_each_attempt_to_submit_is_judged(contract: Contract, headers: Any, body: bytes) -> None:
    told = Teller(contract, asked(contract)).submit(None, status=503, job=None)
    assert messages(rules.request_valid, told.story()) == []
    told.wait(1).submit(None, status=400, job=None, body=body, headers=(*KEYED, *headers))
    (found,) = messages(rules.request_valid, told.story()) or []
    assert "request 2 (submit)" in found


def test_a_body_that_the_server_did_not_read_is_not_judged(contract: Contract) -> None:
    for how in ({"status": 429}, {"status": 0, "whole": False, "answered": None}):
        for headers in ((), (("transfer-encoding", "chunked"),), (("content-length", "90"),)):
            told = Teller(contract, asked(contract)).submit(None, job=None, body=b"", headers=(*KEYED, *headers), **how)
            assert messages(rules.request_valid, told.story()) == []
    told = Teller(contract, asked(contract)).submit(None, status=400, job=None, body=b"", headers=KEYED)
    told.runs = []
    assert messages(rules.request_valid, told.story()) == [], "a recorder may omit bodies"
