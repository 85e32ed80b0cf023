"""The rules about callbacks, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.conformance.client.cases import CLOCK_KINDS
from hobbyhorse.conformance.client.rules import limits, requests, secrecy
from hobbyhorse.conformance.client.rules import notified as rules
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET, sign
from hobbyhorse.contract.values import Contract
from tests.conformance.client.rules.test_requests import asked, success
from tests.conftest import CONTRACTS, contracts_that
from tests.judging import messages, rules_of
from tests.tracing import JOB, Teller

calling = contracts_that(lambda contract: contract.callbacks is not None)
signing = contracts_that(lambda contract: contract.callbacks is not None and contract.callbacks.signature is not None)
silent = contracts_that(lambda contract: contract.callbacks is None)
dated = contracts_that(
    lambda contract: (
        contract.callbacks is not None
        and contract.callbacks.signature is not None
        and contract.callbacks.signature.tolerance is not None
    )
)
RULES = rules_of(rules)


def ends(contract: Contract, kind: str = "success") -> str:
    """Return the callback's situation that reports an end."""
    assert contract.callbacks is not None
    found = contract.callbacks.situations.values()
    return next(one.name for one in found if {contract.graph[name].kind for name in one.stages} == {kind})


def ordered(contract: Contract) -> Teller:
    """Return a trace of a job that was submitted with a callback URL, some time ago."""
    place = contract.operations["submit"].bindings["callback_url"].request[0]
    request = replaced(asked(contract), place.pointer, "http://127.0.0.1:9000/hook")
    return Teller(contract, request).submit().made().wait(60)


def running(contract: Contract) -> str:
    names = contract.operations["status"].situations
    return next(stage.name for stage in contract.graph if not stage.terminal and stage.name in names)


def deliver(told: Teller, status: int | None = 200, tells: str = "success", **how: Any) -> Teller:
    """Add a callback with a valid signature."""
    callbacks = told.contract.callbacks
    assert callbacks is not None
    assert callbacks.signature is not None
    body = callbacks.situations[ends(told.contract, tells)].template.write({"job": JOB, "video_url": told.video}.get)
    body = how.pop("body", body)
    headers = sign(callbacks.signature, DEFAULT_SECRET, body, timestamp=int(told.now), message_id="m-1")
    said: dict[str, Any] = {"headers": tuple(headers.items()), "body": body} | how
    return told.callback(ends(told.contract, tells), status, **said)


def unknown(contract: Contract) -> bytes:
    assert contract.callbacks is not None
    return contract.callbacks.situations[ends(contract)].template.write({"job": "job-of-nobody"}.get)


def whole(told: Teller) -> Teller:
    """Add the end of a careful run: it reads the job, fetches the video, and reports."""
    return told.call(*success(told.contract)).media().wait(5).end("success")


@silent
def test_callback_rules_do_not_apply_without_callbacks(contract: Contract) -> None:
    assert not any(rule.applies(contract) for rule in RULES)


@calling
def test_a_careful_client_keeps_every_rule(contract: Contract) -> None:
    trace = whole(deliver(ordered(contract))).story()
    assert [messages(rule, trace) for rule in RULES] == [[], None, None, [], None, [], *[None] * 6, []]
    trace = Teller(contract).submit().story()
    assert all(messages(rule, trace) is None for rule in RULES)


@calling
def test_a_late_or_missing_acknowledgement_is_found(contract: Contract) -> None:
    assert contract.callbacks is not None
    late = contract.callbacks.deadline + 1
    failings: list[dict[str, Any]] = [
        {"status": 500},
        {"status": None, "error": "ReadTimeout: "},
        {"status": None, "error": "ConnectError: refused"},
    ]
    for how in failings:
        told = deliver(ordered(contract), **how).wait(60)
        assert messages(rules.ack_fast, told.end("success").story()) != []
    told = ordered(contract)
    deliver(told, answered=told.now + late).wait(60)
    assert messages(rules.ack_fast, told.end("success").story()) != []


GONE: dict[str, Any] = {"status": None, "error": "RemoteProtocolError: Server disconnected without a response."}
RESET: dict[str, Any] = {"status": None, "error": "ReadError: connection reset"}
CLOSED: dict[str, Any] = {"status": None, "error": "ConnectError: refused"}


def twice(contract: Contract, gap: float, **how: Any) -> Teller:
    """Return a trace in which a callback is acknowledged, and comes again after some seconds."""
    return whole(deliver(deliver(ordered(contract)).wait(gap), **how))


@calling
@pytest.mark.parametrize("how", [{"status": 500}, {"status": 404}, {"status": 409}, GONE], ids=str)
@pytest.mark.parametrize("gap", [0.0, 30.0])
def test_a_repeated_callback_that_is_not_acknowledged_is_found(
    gap: float, how: dict[str, Any], contract: Contract
) -> None:
    assert messages(rules.dedupe, twice(contract, gap, **how).story())


@calling
def test_a_client_that_knows_the_end_may_close_its_receiver_but_its_handler_must_not_crash(contract: Contract) -> None:
    assert messages(rules.dedupe, twice(contract, 30, **CLOSED).story()) == []
    assert messages(rules.ack_fast, twice(contract, 30, **CLOSED).story()) == []
    assert messages(rules.ack_fast, twice(contract, 30, **GONE).story())
    # A receiver that is being closed resets the connections that it has not accepted.
    assert messages(rules.dedupe, twice(contract, 30, **RESET).story()) == []
    told = whole(deliver(deliver(deliver(ordered(contract)).wait(30), **RESET).wait(30)))
    assert messages(rules.dedupe, told.story())


@calling
def test_a_repetition_at_the_very_end_of_a_run_may_find_no_receiver(contract: Contract) -> None:
    def ended(before_the_end: float) -> list[str] | None:
        told = deliver(ordered(contract)).call(*success(contract)).media().wait(30)
        deliver(told, **GONE).wait(before_the_end - 0.002)
        return messages(rules.dedupe, told.end("success").story())

    assert ended(0.5) == []
    assert ended(1.5)


@signing
def test_a_genuine_callback_that_is_refused_is_found_whatever_else_was_done_to_it(contract: Contract) -> None:
    for note in ("", "duplicate", "reordered_callback", "zzz"):
        told = whole(deliver(ordered(contract), 401, note=note))
        assert messages(rules.signature, told.story()), note
    assert not messages(rules.signature, whole(deliver(ordered(contract), 401, note="null_payload")).story())


@calling
def test_a_first_callback_is_acknowledged_with_2xx_and_nothing_else(contract: Contract) -> None:
    for status in (301, 404, 422):
        told = deliver(ordered(contract), status).wait(60).end("failed")
        assert messages(rules.ack_fast, told.story())
        told = deliver(ordered(contract).call(*success(contract)), status).wait(60).end("success")
        assert messages(rules.ack_fast, told.story()) == [], "the client knows the end"


@calling
def test_a_receiver_that_is_closed_at_the_end_of_the_run_is_not_accused(contract: Contract) -> None:
    refused: dict[str, Any] = {"status": None, "error": "ConnectError: refused"}
    told = whole(ordered(contract))
    assert messages(rules.ack_fast, deliver(told, **refused).story()) is None
    told = ordered(contract).call(*success(contract))
    assert messages(rules.ack_fast, deliver(told, **refused).wait(60).end("success").story()) == []
    told = deliver(ordered(contract), status=None, error="ReadTimeout: ").wait(5).end("success")
    assert messages(rules.ack_fast, told.story()) == []


@calling
def test_a_callback_before_the_submissions_response_is_not_judged(contract: Contract) -> None:
    told = Teller(contract).nothing("submit")
    deliver(told.wait(5), status=404).wait(30).submit().end("success")
    trace = told.story()
    assert all(messages(rule, trace) is None for rule in RULES)


@calling
def test_a_receiver_may_respond_with_a_5xx_if_its_own_poll_failed(contract: Contract) -> None:
    told = ordered(contract)
    sent = told.now
    deliver(told.status(None, status=503, answered=sent + 1), status=503, answered=sent + 1)
    assert messages(rules.ack_fast, told.wait(60).end("success").story()) == []


@calling
def test_two_effects_of_a_repeated_callback_are_found(contract: Contract) -> None:
    told = whole(deliver(deliver(ordered(contract)), note="duplicate"))
    assert messages(rules.dedupe, told.story()) == []
    told = deliver(deliver(ordered(contract))).call(*success(contract)).media().media().wait(5).end("success")
    assert messages(rules.dedupe, told.story()) != []
    told = whole(deliver(deliver(ordered(contract)), status=409))
    assert messages(rules.dedupe, told.story()) != []


@calling
def test_an_incomplete_video_may_be_fetched_again_after_callbacks(contract: Contract) -> None:
    told = deliver(deliver(ordered(contract))).call(*success(contract))
    told.media(503).media(move="truncated", whole=False).media(headers=(("range", "bytes=9-"),)).media(403)
    told.media(url=f"{told.video}.first-frame.jpg").media()
    assert messages(rules.dedupe, told.wait(5).end("success").story()) == []


@calling
def test_polls_after_a_late_callback_are_found(contract: Contract) -> None:
    told = deliver(deliver(ordered(contract)).call(*success(contract)).media().wait(3)).wait(5)
    assert messages(rules.out_of_order, told.end("success").story()) == []
    told = deliver(deliver(ordered(contract)).call(*success(contract)).media().wait(3))
    told.status(running(contract)).status(running(contract)).wait(5).end("success")
    assert messages(rules.out_of_order, told.story()) != []


@calling
def test_a_success_after_a_reported_failure_is_found(contract: Contract) -> None:
    told = deliver(deliver(ordered(contract), tells="failure").wait(3), tells="failure").wait(5)
    assert messages(rules.out_of_order, told.end("failed").story()) == []
    assert messages(rules.out_of_order, told.end("success").story()) != []
    told = deliver(deliver(ordered(contract), tells="failure").wait(3), tells="failure").call(*success(contract))
    assert messages(rules.out_of_order, told.wait(5).end("success").story()) == []


@calling
@pytest.mark.parametrize("kind", ["forged", "unsigned"])
def test_an_accepted_or_effective_forgery_is_found(contract: Contract, kind: str) -> None:
    told = whole(deliver(_false(contract, kind, 401)))
    assert messages(rules.signature, told.story()) == []
    for status in (200, 204, 500):
        assert messages(rules.signature, whole(deliver(_false(contract, kind, status))).story()) != []
    told = deliver(_false(contract, kind, 401).media().wait(1))
    assert messages(rules.signature, told.wait(5).end("success").story()) != []
    assert messages(rules.signature, _false(contract, kind, 401).wait(5).end("success").story()) != []


def _false(contract: Contract, kind: str, status: int | None) -> Teller:
    told = ordered(contract)
    return told.callback(ends(contract), status, kind=kind, note=kind).wait(1)


@dated
def test_an_accepted_stale_callback_is_found(contract: Contract) -> None:
    assert messages(rules.no_replay, whole(deliver(_false(contract, "stale", 400))).story()) == []
    replayed = whole(deliver(_false(contract, "stale", 200))).story()
    assert messages(rules.no_replay, replayed) != []
    assert messages(rules.signature, replayed) == []  # a replay is not a forgery


@calling
def test_an_effect_that_a_poll_explains_is_not_attributed_to_a_forgery(contract: Contract) -> None:
    told = _false(contract, "forged", 401).call(*success(contract)).media().wait(5).end("success")
    assert messages(rules.signature, told.story()) == []


@calling
def test_a_refused_genuine_callback_is_found(contract: Contract) -> None:
    assert messages(rules.signature, whole(deliver(ordered(contract), status=401)).story()) != []
    told = ordered(contract).callback(ends(contract), 401)
    assert messages(rules.signature, whole(told).story()) is None  # without a signature it is none
    trace = whole(deliver(ordered(contract), status=400, note="null_payload")).story()
    assert messages(rules.signature, trace) is None


@dated
def test_a_genuine_callback_may_be_refused_by_a_clock_that_is_wrong(contract: Contract) -> None:
    for drill in CLOCK_KINDS:
        told = ordered(contract)
        told.drill = drill
        assert messages(rules.signature, whole(deliver(told, status=401)).story()) is None
        assert messages(rules.signature, whole(deliver(told)).story()) == [], "an acknowledged one is judged"


@calling
def test_an_effect_of_a_callback_without_a_read_is_found(contract: Contract) -> None:
    assert messages(rules.trust_but_verify, deliver(ordered(contract)).media().wait(5).end("success").story()) != []
    assert messages(rules.trust_but_verify, deliver(ordered(contract)).wait(5).end("success").story()) != []
    assert messages(rules.trust_but_verify, deliver(ordered(contract)).wait(5).end("failed").story()) is None
    told = deliver(ordered(contract).call(*success(contract))).media().wait(5).end("success")
    assert messages(rules.trust_but_verify, told.story()) == []
    told = deliver(ordered(contract)).status(None, status=503).media().wait(5).end("success")
    assert messages(rules.trust_but_verify, told.story()) == []


@calling
def test_an_endless_wait_for_a_callback_is_found(contract: Contract) -> None:
    told = ordered(contract).callback(ends(contract), None, body=b"", note="lost", error="not sent")
    assert messages(rules.lost_callback, told.status(running(contract)).wait(3_600).end("timeout").story()) == []
    assert messages(rules.lost_callback, ordered(contract).wait(10).end("timeout").story()) == []
    soon, late = (
        ordered(contract).callback(ends(contract), None, body=b"", note="lost", error="not sent").wait(seconds)
        for seconds in (30, 90)
    )
    assert messages(rules.lost_callback, soon.end("timeout").story()) == []
    assert "had ended 90 s before" in str(messages(rules.lost_callback, late.end("timeout").story()))
    assert messages(rules.lost_callback, ordered(contract).wait(3_600).end("unfinished").story()) != []
    assert messages(rules.lost_callback, ordered(contract).wait(3_600).end("timeout").story()) != []
    assert messages(rules.lost_callback, deliver(ordered(contract)).wait(3_600).end("unfinished").story()) is None
    assert messages(rules.lost_callback, Teller(contract).submit().made().wait(3_600).end("timeout").story()) is None


@calling
def test_requests_for_an_unknown_job_of_a_callback_are_found(contract: Contract) -> None:
    for status in (200, 202, 404):
        assert messages(rules.unknown_job, whole(deliver(_strange(contract, status))).story()) == []
    assert messages(rules.unknown_job, whole(deliver(_strange(contract, 500))).story()) != []
    assert (
        messages(rules.unknown_job, whole(deliver(_strange(contract, None, error="RemoteProtocolError"))).story()) != []
    )
    for role in ("status", "media"):
        asks = _strange(contract, 200).call(
            role, None, job="job-of-nobody", url="http://127.0.0.1:8000/job-of-nobody", status=404
        )
        assert messages(rules.unknown_job, whole(deliver(asks)).story()) != []


@calling
@pytest.mark.parametrize("kind", ["failed", "error"])
def test_a_run_that_fails_because_of_a_callback_of_an_unknown_job_is_found(contract: Contract, kind: str) -> None:
    found = messages(rules.unknown_job, deliver(_strange(contract, 200)).wait(1).end(kind).story())
    assert found == ["the run failed after a callback for job job-of-nobody, which the client did not submit"]
    for told in (
        deliver(_strange(contract, 200)).wait(1).end("timeout"),
        deliver(_strange(contract, 200)).media(403).wait(1).end(kind),
        deliver(_strange(contract, 200), note="null_payload").wait(1).end(kind),
        _strange(contract, 200).wait(1).end(kind),
    ):
        assert messages(rules.unknown_job, told.story()) == []


def _strange(contract: Contract, status: int | None, **how: Any) -> Teller:
    told = ordered(contract)
    return told.callback(ends(contract), status, body=unknown(contract), kind="unknown_job", **how).wait(1)


@signing
def test_a_run_that_ends_with_a_false_callback_is_found(contract: Contract) -> None:
    def told(kind: str = "unsigned") -> Teller:
        return deliver(ordered(contract).made(), None, kind=kind)

    assert messages(rules.false_callbacks_change_nothing, ordered(contract).end("failed").story()) is None
    for end in ("success", "timeout"):
        assert messages(rules.false_callbacks_change_nothing, told().wait(1).end(end).story()) == []
    for kind in ("unsigned", "forged"):
        (found,) = messages(rules.false_callbacks_change_nothing, told(kind).wait(1).end("failed").story()) or []
        assert found == f"the run ended as 'failed' when a callback came that was {kind}"
    later = told().wait(60).end("failed")
    assert messages(rules.false_callbacks_change_nothing, later.story()) == []


@calling
def test_two_effects_of_a_poll_and_a_callback_are_found(contract: Contract) -> None:
    told = deliver(ordered(contract).call(*success(contract)).media().wait(1)).wait(5).end("success")
    assert messages(rules.callback_and_poll, told.story()) == []
    told = deliver(ordered(contract).call(*success(contract)).media().wait(1)).media().wait(5).end("success")
    assert messages(rules.callback_and_poll, told.story()) != []


@calling
def test_outcomes_that_depend_on_a_null_payload_are_found(contract: Contract) -> None:
    def told(status: int | None = 200) -> Teller:
        return deliver(ordered(contract), status, note="null_payload", body=orjson.dumps({"status": None})).wait(2)

    assert messages(rules.null_payload, whole(told()).story()) == []
    assert messages(rules.null_payload, whole(told(400)).story()) == []
    assert messages(rules.null_payload, whole(told(500)).story()) != []
    assert messages(rules.null_payload, told().wait(5).end("success").story()) != []
    assert messages(rules.null_payload, told().call(*success(contract)).wait(5).end("error").story()) != []
    assert messages(rules.null_payload, told().call(*success(contract)).media(503).wait(5).end("error").story()) == []
    assert messages(rules.null_payload, told().wait(5).end("error").story()) == []
    told_of = told()
    told_of.video = "http://127.0.0.2:8003/video.mp4"
    assert messages(rules.null_payload, told_of.call(*success(contract)).wait(5).end("failed").story()) == []
    assert messages(rules.null_payload, deliver(told()).wait(5).end("success").story()) == []


@calling
def test_a_restarted_client_is_not_judged_by_its_callbacks(contract: Contract) -> None:
    told = deliver(ordered(contract).restart().wait(5), status=None, error="ConnectError").wait(60).end("success")
    trace = told.story()
    assert all(messages(rule, trace) is None for rule in RULES)


def reporting_progress(contract: Contract) -> Contract:
    """Return the contract with callbacks about a job under way instead of callbacks about its failure."""
    assert contract.callbacks is not None
    name = ends(contract, "failure")
    early = replace(contract.callbacks.situations[name], stages=frozenset({running(contract)}))
    situations = {**contract.callbacks.situations, name: early}
    return replace(contract, callbacks=replace(contract.callbacks, situations=situations))


@calling
def test_a_callback_that_reports_progress_is_not_the_end(contract: Contract) -> None:
    rule, changed = rules.first_is_not_terminal, reporting_progress(contract)
    assert (rule.applies(contract), rule.applies(changed)) == (False, True)
    assert changed.callbacks is not None
    body = changed.callbacks.situations[ends(contract, "failure")].template.write({"job": JOB}.get)

    def told() -> Teller:
        return deliver(ordered(changed), body=body).wait(5)

    assert messages(rule, whole(deliver(ordered(changed))).story()) is None
    assert messages(rule, told().end("error").story()) == []
    assert messages(rule, whole(told()).story()) == [], "the job was read first"
    assert messages(rule, deliver(told()).wait(5).end("success").story()) == [], "its end was reported, too"
    found = f"job {JOB} was treated as done although its callback reported only progress"
    assert messages(rule, told().end("success").story()) == [found]
    assert messages(rule, told().media().end("error").story()) == [found]


TROUBLES = ["silence", "503", "429", "html", "empty", "cut", "foreign", "running", "wait", "extra_field", "latency"]
TOLD = ["genuine", "twice", "forged", "unsigned", "unknown_job", "null_payload", "lost"]
FETCHES = ["silence", "503", "403", "cut", "range", "html"]


@given(
    key=st.sampled_from([contract.key for contract in CONTRACTS]),
    orders=st.lists(st.sampled_from(["silence", "503", "429"]), max_size=3),
    events=st.lists(st.sampled_from([*TROUBLES, *TOLD, *TOLD]), max_size=10),
    fetches=st.lists(st.sampled_from(FETCHES), max_size=3),
    end=st.sampled_from(["success", "failed", "timeout", "error", "private"]),
    late=st.booleans(),
)
def test_a_careful_client_is_never_accused(
    *, key: str, orders: list[str], events: list[str], fetches: list[str], end: str, late: bool
) -> None:
    """Whatever the faults: it submits with pauses, believes signed callbacks, reads the job, keeps complete files."""
    contract = next(contract for contract in CONTRACTS if contract.key == key)
    told = careful(contract, orders, events, fetches, end)
    if late and contract.callbacks is not None:
        deliver(told, None, error="ConnectError: refused")
    for rule in rules_of(rules, limits, requests, secrecy):
        if rule.applies(contract):
            assert not messages(rule, told.story()), rule.id


def careful(contract: Contract, orders: list[str], events: list[str], fetches: list[str], end: str) -> Teller:
    """Return the trace of a careful client under some faults."""
    told = ordered(contract) if contract.callbacks is not None else Teller(contract, asked(contract)).submit()
    accepted = told.exchanges.pop()
    for trouble in orders:
        if trouble == "silence":
            return told.nothing("submit", body=accepted.body, headers=accepted.headers).end("error", job=None)
        told.submit(None, status=int(trouble), job=None).wait(5)
    told.submit().wait(30)
    for event in events:
        _befall(told, event)
        told.wait(7)
    if end in ("timeout", "error"):
        return told.status(running(contract)).wait(1_900).end(end)
    if end == "failed":
        return told.wait(10).end("failed")
    if end == "private":
        told.video = "http://127.0.0.2:8003/video.mp4"
        return told.call(*success(contract)).wait(1).end("failed")
    told.call(*success(contract)).wait(1)
    for trouble in fetches:
        _fetch(told, trouble)
        told.wait(7)
    return told.media().wait(5).end("success")


def _befall(told: Teller, event: str) -> None:
    name = running(told.contract)
    how: dict[str, dict[str, Any]] = {
        "html": {"status": 200, "answer": b"<html>", "move": "html_page"},
        "empty": {"status": 200, "answer": b"", "move": "empty_body"},
        "foreign": {"status": 307, "answer_headers": (("location", "http://localhost:8002/x"),), "move": "redirect"},
    }
    if event in ("503", "429"):
        told.status(None, status=int(event))
    elif event == "silence":
        told.nothing("status")
    elif event in how:
        told.status(None, **how[event])
    elif event == "cut":
        told.status(name, whole=False, move="truncate")
    elif event in ("running", "extra_field", "latency"):
        told.status(name, move=None if event == "running" else event)
    elif event in TOLD and told.contract.callbacks is not None:
        _notify(told, event)


def _notify(told: Teller, event: str) -> None:
    situation = ends(told.contract)
    if event == "lost":
        told.callback(situation, None, body=b"", note="lost", error="not sent")
    elif event in ("forged", "unsigned"):
        told.callback(situation, 401, kind=event, note=event)
    elif event == "unknown_job":
        deliver(told, 404, body=unknown(told.contract), kind=event, note=event)
    else:
        deliver(told, note=event if event == "null_payload" else "")
        if event == "twice":
            deliver(told, note="duplicate")
        told.status(running(told.contract))


def _fetch(told: Teller, trouble: str) -> None:
    if trouble == "silence":
        told.nothing("media", url=told.video, headers=())
    elif trouble == "cut":
        told.media(whole=False, move="truncate")
    elif trouble == "range":
        told.media(206, headers=(("range", "bytes=10-"),), whole=False, move="reset_peer")
    elif trouble == "html":
        told.media(200, move="html_page")
    else:
        told.media(int(trouble))
        told.call(*success(told.contract))


# CBK-13


def woken(contract: Contract, after: float, **how: Any) -> Teller:
    """Return a trace of a client that reads its job some seconds after the callback about the end."""
    told = ordered(contract).call("status", running(contract)).wait(20)
    return deliver(told, **how).wait(after).call(*success(contract)).media().end("success")


@calling
def test_a_callback_that_wakes_nobody_is_found(contract: Contract) -> None:
    (found,) = messages(rules.callback_wakes, woken(contract, 45).story()) or []
    assert "but the client did nothing for 45 s" in found
    assert messages(rules.callback_wakes, woken(contract, 15).story()) == []


@calling
def test_a_client_that_fetches_the_video_has_been_woken(contract: Contract) -> None:
    told = ordered(contract).call("status", running(contract)).wait(20)
    told = deliver(told).wait(1).media(status=403, move="expired").wait(45).call(*success(contract)).media()
    assert messages(rules.callback_wakes, told.end("success").story()) == []


@calling
def test_a_client_that_forgets_an_early_callback_is_found(contract: Contract) -> None:
    def told(after: float, **how: Any) -> Teller:
        place = contract.operations["submit"].bindings["callback_url"].request[0]
        told = Teller(contract, replaced(asked(contract), place.pointer, "http://127.0.0.1:9000/hook"))
        deliver(told.submit(answered=told.now + 5).made().wait(1), **how)
        return told.wait(4 + after).call(*success(contract)).media().end("success")

    (found,) = messages(rules.callback_wakes, told(40).story()) or []
    assert "before the response to its submission" in found
    assert messages(rules.callback_wakes, told(10).story()) == []
    (found,) = messages(rules.callback_wakes, told(10, status=404).story()) or []
    assert "and was refused with 404" in found
    for later in (429, 503):
        assert messages(rules.callback_wakes, told(40, status=later).story()) is None


@calling
def test_an_early_callback_that_is_refused_after_another_delivery_is_found(contract: Contract) -> None:
    place = contract.operations["submit"].bindings["callback_url"].request[0]
    told = Teller(contract, replaced(asked(contract), place.pointer, "http://127.0.0.1:9000/hook"))
    deliver(told.submit(answered=told.now + 5).made().wait(1), status=503)
    deliver(told.wait(1), status=404)
    told.wait(10).call(*success(contract)).media().end("success")
    (found,) = messages(rules.callback_wakes, told.story()) or []
    assert "and was refused with 404" in found


@calling
def test_only_a_client_that_waits_can_be_woken(contract: Contract) -> None:
    assert messages(rules.callback_wakes, woken(contract, 45, status=500).story()) is None
    busy = fetched_late(ordered(contract).call("status", running(contract), status=503))
    assert messages(rules.callback_wakes, busy.story()) is None
    known = fetched_late(ordered(contract).call(*success(contract)))
    assert messages(rules.callback_wakes, known.story()) is None


def fetched_late(told: Teller) -> Teller:
    """Add a callback, and a download long after it."""
    return deliver(told.wait(2)).wait(60).media().end("success")
