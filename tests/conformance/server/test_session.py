"""The session of the probes: submissions, the picture in them, polls, the paid job, and when to give up."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal
from itertools import repeat
from typing import Any

import httpx
import orjson
import pytest
from PIL import Image

from hobbyhorse.conformance.server.session import (
    LONGEST_PAUSE,
    MOST_FAILED_POLLS,
    MOST_UNANSWERED,
    NO_PICTURE,
    OTHER_KEY,
    EndpointUnreachable,
    PaidJob,
    Session,
    Skipped,
    callback_job_reader,
    is_internal,
    is_json_response,
    with_callback,
)
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, resolve
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Exchange
from tests.conformance.server.test_suite import KEY, MODELS, OTHER, Time, models, never_called, session_on
from tests.conftest import contracts_that
from tests.tracing import Teller

BUDGET = Decimal(5)


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (640, 360), (200, 80, 80)).save(out, kind)
    return out.getvalue()


def picture_places(contract: Contract, model: Model, order: Any) -> list[Pointer]:
    """Return where an order has pictures."""
    around = contract.operations["submit"].model_parameters.pointer
    places = [(*around, *at) for name in ("first_frame", "references") for at in model.parameters.get(name, ())]
    return [place for place in places if resolve(order, place) is not MISSING]


ONLY_REFERENCES = [
    (contract, model)
    for contract, model in MODELS
    if "references" in model.parameters and "first_frame" not in model.parameters
]
WITH_PICTURES = [
    (contract, model)
    for contract, model in MODELS
    if picture_places(contract, model, session_on(contract, model, httpx.MockTransport(never_called)).order)
]


def with_picture(contract: Contract, model: Model, picture: bytes | str) -> Session:
    plain = session_on(contract, model, httpx.MockTransport(never_called))
    return Session(plain.endpoint, model, picture=picture)


def ids(pairs: list[tuple[Contract, Model]]) -> list[str]:
    return [f"{contract.key}-{model.id}" for contract, model in pairs]


@models
def test_the_same_seed_submits_the_same(contract: Contract, model: Model) -> None:
    one, other, third = (session_on(contract, model, httpx.MockTransport(never_called), seed) for seed in (3, 3, 4))
    assert one.order == other.order
    assert one.marked("x") == other.marked("x")
    assert one.order != third.order


@pytest.mark.parametrize(("contract", "model"), WITH_PICTURES, ids=ids(WITH_PICTURES))
def test_a_picture_url_replaces_the_documented_picture_in_each_submission(contract: Contract, model: Model) -> None:
    url = "https://pictures.example/mine.png"
    session = with_picture(contract, model, url)
    for order in (session.order, session.marked("again")):
        assert [resolve(order, place) for place in picture_places(contract, model, order)] == [url]
    assert session.notes == []
    assert session.picture == url


def test_some_model_takes_only_references() -> None:
    assert ONLY_REFERENCES


@pytest.mark.parametrize(("contract", "model"), ONLY_REFERENCES, ids=ids(ONLY_REFERENCES))
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_model_that_takes_only_references_gets_the_picture_as_its_first_reference(
    contract: Contract, model: Model, kind: str
) -> None:
    session = with_picture(contract, model, encoded(kind))
    (place,) = picture_places(contract, model, session.order)
    assert place == (*session.submit.model_parameters.pointer, *model.parameters["references"][0])
    assert str(resolve(session.order, place)).startswith(f"data:image/{kind};base64,")
    assert session.notes == []


@models
def test_a_picture_that_the_contract_refuses_is_noted_and_the_documented_one_is_sent(
    contract: Contract, model: Model
) -> None:
    session = with_picture(contract, model, "not a url")
    plain = session_on(contract, model, httpx.MockTransport(never_called))
    if session.picture is None:
        assert [note.probe for note in session.notes] == ["picture"]
        assert model.id in session.notes[0].why
        assert picture_places(contract, model, session.order) == picture_places(contract, model, plain.order)
        assert session.order.keys() == plain.order.keys()
    assert session.marked("again").keys() == plain.marked("again").keys()


def accepting(contract: Contract, status_responses: Any) -> httpx.MockTransport:
    """Return an endpoint that accepts every submission, and answers each poll with the next of some responses."""
    submit = contract.operations["submit"]
    accepted = submit.situations["accepted"]
    body = contract.schemas.at(accepted.example_at)
    responses = iter(status_responses)

    def respond(request: httpx.Request) -> httpx.Response:
        if request.method == submit.method and submit.pattern.fullmatch(request.url.path):
            return httpx.Response(accepted.status, json=body)
        following: httpx.Response = next(responses)
        return following

    return httpx.MockTransport(respond)


def test_a_job_that_cannot_be_polled_is_given_up_after_five_failures(contract: Contract) -> None:
    transport = accepting(contract, repeat(httpx.Response(503, json={})))
    session = session_on(contract, contract.models[0], transport, budget=BUDGET)
    with pytest.raises(Skipped, match="the last status was 503"):
        session.follow("job-1", "job")
    assert len(session.endpoint.exchanges) == MOST_FAILED_POLLS


def test_a_retry_after_is_waited_for_up_to_a_bound(contract: Contract) -> None:
    waits = [httpx.Response(429, json={}, headers={"retry-after": after}) for after in ("7", "soon", "9000")]
    session = session_on(
        contract, contract.models[0], accepting(contract, [*waits, *repeat(httpx.Response(503, json={}), 2)])
    )
    paused: list[float] = []
    session.endpoint.until += 10_000
    session.sleep = paused.append
    session.clock = lambda: 0.0
    with pytest.raises(Skipped):
        session.follow("job-1", "job")
    least = contract.polling.least_interval
    assert [seconds for seconds in paused if seconds != least] == [7.0, LONGEST_PAUSE]


def test_two_polls_of_one_job_are_the_least_interval_apart_unless_they_overlap_on_purpose(contract: Contract) -> None:
    transport = accepting(contract, repeat(httpx.Response(404, json={})))
    session = session_on(contract, contract.models[0], transport)
    time = session.clock
    assert isinstance(time, Time)
    time.now = 1000.0
    session.poll("job-1", "job")
    session.poll("job-1", "job")
    assert time.now == 1000.0 + contract.polling.least_interval
    session.poll("job-1", "job", wait=False)
    session.poll("job-2", "job")
    assert time.now == 1000.0 + contract.polling.least_interval


def test_the_paid_job_is_submitted_once_and_a_refusal_is_not_repeated(contract: Contract) -> None:
    refusing = httpx.MockTransport(lambda request: httpx.Response(402, json={}))
    session = session_on(contract, contract.models[0], refusing, budget=BUDGET)
    with pytest.raises(Skipped, match="got 402 and no job id"):
        session.paid()
    with pytest.raises(Skipped, match="was not accepted"):
        session.paid()
    assert len(session.endpoint.exchanges) == 1
    accepted = session_on(contract, contract.models[0], accepting(contract, ()), budget=BUDGET)
    assert accepted.paid() is accepted.paid()
    assert len(accepted.endpoint.exchanges) == 1
    assert accepted.accepted == [accepted.paid().id]


def test_an_operation_that_does_not_respond_is_not_called_a_third_time(contract: Contract) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if contract.operations["status"].pattern.fullmatch(request.url.path):
            raise httpx.ReadTimeout("no response")
        return httpx.Response(404, json={})

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond), budget=BUDGET)
    session.submit_order("job", session.order)
    for _ in range(MOST_UNANSWERED):
        session.call("status", probe="job", path={"job": "job-1"})
    with pytest.raises(Skipped, match="status does not respond"):
        session.call("status", probe="job", path={"job": "job-1"})


def test_an_endpoint_that_never_responds_is_unreachable(contract: Contract) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond))
    session.call("status", probe="job", path={"job": "job-1"})
    with pytest.raises(EndpointUnreachable):
        session.call("status", probe="job", path={"job": "job-1"})


def test_once_an_invalid_submission_was_accepted_the_paid_jobs_price_is_reserved(contract: Contract) -> None:
    model = contract.models[0]
    price = session_on(contract, model, httpx.MockTransport(never_called)).price
    session = session_on(contract, model, accepting(contract, ()), budget=price * Decimal("2.5"))
    session.submit_expecting_refusal("negative:a", "invalid_request", price, body=session.order)
    assert session.lenient
    with pytest.raises(Skipped, match="reserved for the paid job"):
        session.submit_expecting_refusal("negative:b", "invalid_request", price, body=session.order)
    assert session.paid().id


@pytest.mark.parametrize(("status", "lenient"), [(399, True), (400, False), (499, False), (500, True)])
def test_only_a_refusal_is_sure_to_have_bought_nothing(contract: Contract, status: int, lenient: bool) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(lambda request: httpx.Response(status)))
    session.submit_expecting_refusal("negative:a", "invalid_request", Decimal(0), body=session.order)
    assert session.lenient is lenient


def test_without_a_budget_a_skipped_submission_names_the_option(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called))
    with pytest.raises(Skipped, match="--budget"):
        session.submit_order("job", session.order)


@pytest.mark.parametrize(
    ("url", "internal"),
    [
        ("http://127.0.0.1/x", True),
        ("http://[::1]/x", True),
        ("http://10.1.2.3/x", True),
        ("http://169.254.169.254/latest", True),
        ("http://localhost:80", True),
        ("http://db.internal", True),
        ("http://printer.local", True),
        ("https://8.8.8.8", False),
        ("https://cdn.example.com/a.mp4", False),
        ("https://localhost.example.com", False),
    ],
)
def test_an_internal_address_is_recognised_by_its_text(url: str, internal: bool) -> None:
    assert is_internal(url) is internal


def paid_with_video(session: Session, url: str | None) -> PaidJob:
    step = session.call("status", probe="job", path={"job": "job-1"})
    values = {} if url is None else {"video_url": url, "expires_at": 17}
    return PaidJob("job-1", step, replace(step, reading=replace(step.reading, values=values)))


def test_a_video_inside_this_network_is_not_fetched_for_an_endpoint_outside(contract: Contract) -> None:
    responding = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
    session = session_on(contract, contract.models[0], responding)
    inside = paid_with_video(session, "http://169.254.169.254/latest/meta-data")
    with pytest.raises(Skipped, match="inside this network"):
        session.link(inside)
    with pytest.raises(Skipped, match="has no video"):
        session.link(paid_with_video(session, None))
    outside = paid_with_video(session, "https://cdn.example.com/a.mp4")
    assert session.link(outside) == "https://cdn.example.com/a.mp4"
    assert outside.expires == 17.0
    session.endpoint.base_url = "http://127.0.0.1:8000"
    assert session.link(inside) == "http://169.254.169.254/latest/meta-data"


def test_concurrent_calls_all_run_and_the_first_error_is_raised(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called))
    done: list[int] = []

    def fails() -> None:
        raise Skipped("first")

    with pytest.raises(Skipped, match="first"):
        session.concurrently([fails, lambda: done.append(1), lambda: done.append(2)])
    assert sorted(done) == [1, 2]


def response(status: int, body: bytes, **more: Any) -> Exchange:
    role = more.pop("role", "status")
    return Exchange(arrived=0.0, role=role, method="GET", url="http://x", status=status, answer=body, **more)


def test_only_complete_json_that_is_no_redirect_speaks_for_the_endpoint() -> None:
    assert is_json_response(response(404, b"{}"))
    assert not is_json_response(response(200, b"<html>"))
    assert not is_json_response(response(302, b"{}"))
    assert not is_json_response(response(0, b""))
    assert not is_json_response(response(200, b"{}", whole=False))
    assert not is_json_response(response(200, b"{}", role="media"))


def test_a_server_that_knows_no_path_is_not_judged(contract: Contract) -> None:
    not_found = httpx.MockTransport(lambda request: httpx.Response(404, json={}))
    session = session_on(contract, contract.models[0], not_found)
    session.call("status", probe="identity:unknown", path={"job": "job-1"})
    assert session.judgeable
    session.call("status", probe="auth:none", path={"job": "job-1"}, key=None)
    assert session.has_no_operations
    assert not session.judgeable


@pytest.mark.parametrize("budget", [None, Decimal(1)])
def test_a_server_on_which_every_job_is_unknown_is_judged_by_an_order(
    contract: Contract, budget: Decimal | None
) -> None:
    """It may be one that shows jobs to everybody."""
    unknown = contract.operations["status"].situations["unknown_job"]
    body = contract.schemas.at(unknown.example_at)
    respond = httpx.MockTransport(lambda request: httpx.Response(404, json=body))
    session = session_on(contract, contract.models[0], respond, budget=budget)
    session.call("status", probe="identity:unknown", path={"job": "job-1"})
    session.call("status", probe="auth:none", path={"job": "job-1"}, key=None)
    # A contract with another status for unknown jobs has no such doubt.
    assert session.judgeable is (budget is not None and unknown.status == 404)
    session.call("submit", probe="job", body={})
    assert not session.judgeable


def test_a_refused_key_alone_is_not_evidence(contract: Contract) -> None:
    refusing = httpx.MockTransport(lambda request: httpx.Response(401, json={}))
    session = session_on(contract, contract.models[0], refusing)
    session.call("status", probe="job", path={"job": "job-1"})
    assert session.key_refused(session.endpoint.exchanges[0])
    assert not session.judgeable
    session.call("status", probe="auth:wrong", path={"job": "job-1"}, key="another")
    assert not session.key_refused(session.endpoint.exchanges[1])


def test_the_trace_has_neither_key(contract: Contract) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, json={"key": request.headers.get("authorization")}, headers={"x-key": OTHER})

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond))
    session.other_key = OTHER
    session.call("status", probe="job", path={"job": "job-1"})
    session.call("status", probe="identity:foreign", path={"job": "job-1"}, key=OTHER)
    text = repr(session.trace())
    assert KEY not in text
    assert OTHER not in text
    assert text.count(OTHER_KEY) >= 3


def test_an_unknown_job_has_the_documented_form_and_is_new_each_time(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called))
    one, other = session.unknown_job(), session.unknown_job()
    assert one != other
    assert one.startswith(contract.job_id_prefix)
    keys = [session.fresh_key() for _ in range(2)]
    assert keys[0] != keys[1]
    if contract.key == "hiapi":
        assert [len(key) for key in keys] == [255, 255]


@contracts_that(lambda contract: contract.callbacks is not None)
def test_a_submission_with_a_callback_url_has_it_where_the_contract_binds_it(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called))
    body = with_callback(session.submit, session.order, "https://me.example/hook")
    places = [place for place in session.submit.bindings["callback_url"].request if place.part == "body"]
    assert resolve(body, places[0].pointer) == "https://me.example/hook"
    assert body != session.order
    bindings = {name: one for name, one in session.submit.bindings.items() if name != "callback_url"}
    assert with_callback(replace(session.submit, bindings=bindings), session.order, "https://x") is MISSING


def test_a_callback_that_is_not_json_or_of_a_contract_without_callbacks_is_about_no_job(contract: Contract) -> None:
    assert callback_job_reader(contract)((), b"no JSON") is None
    assert callback_job_reader(replace(contract, callbacks=None))((), b"{}") is None


@contracts_that(lambda contract: len(contract.models) > 1)
def test_each_model_has_its_own_order_and_paid_job(contract: Contract) -> None:
    first, second = contract.models[:2]
    session = session_on(contract, first, httpx.MockTransport(never_called))
    order = session.order
    session._paid = "the first one was not accepted"
    session.lenient = True
    session.turn_to(second)
    other = session.order
    assert session.model == second
    assert not session._paid
    assert not session.lenient
    assert other != order
    session.turn_to(first)
    assert (session.order, session._paid, session.lenient) == (order, "the first one was not accepted", True)
    session.turn_to(second)
    assert session.order == other


@models
def test_only_a_model_with_pictures_has_an_order_with_one_that_cannot_be_had(
    contract: Contract, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = session_on(contract, model, httpx.MockTransport(never_called)).unobtainable()
    assert NO_PICTURE in orjson.dumps(body).decode()
    places = {name: at for name, at in model.parameters.items() if name not in ("first_frame", "references")}
    session = session_on(contract, model, httpx.MockTransport(never_called))
    session.model = replace(model, parameters=places)
    monkeypatch.setattr(Session, "marked", lambda session, mark: dict(body))
    with pytest.raises(Skipped, match="takes no picture"):
        session.unobtainable()


def test_only_a_url_on_the_same_host_port_and_scheme_is_the_endpoints_own(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called))
    assert session.is_own("http://endpoint.test/v1/x")
    for url in ("https://endpoint.test/v1/x", "http://endpoint.test:81/", "http://other.test/v1/x", "/v1/x", ""):
        assert not session.is_own(url)


def test_the_time_of_the_paid_job_is_known_after_its_end(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called))
    assert session.paid_seconds is None
    told = Teller(contract).submit().wait(5).status("accepted")
    accepted, end = AnnotatedTrace(contract, told.trace()).steps
    session._paid = PaidJob("job", accepted)
    assert session.paid_seconds is None
    session._paid = PaidJob("job", accepted, end)
    assert session.paid_seconds == pytest.approx(5, abs=0.1)
