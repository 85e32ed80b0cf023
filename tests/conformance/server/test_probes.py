"""The probes: their order, their prices, the skipped ones, and their notes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from decimal import Decimal

import httpx
import pytest

from hobbyhorse.conformance.judge import BROKEN, PASSED, judge
from hobbyhorse.conformance.server.budget import longest
from hobbyhorse.conformance.server.probes import (
    CLOSE_READS,
    MALFORMED,
    NO_MODEL,
    _job,
    _redelivered,
    _words,
    each_probe,
    most,
    other_model,
    probes,
    run_probes,
)
from hobbyhorse.conformance.server.receiver import Receiver
from hobbyhorse.conformance.server.rules.identity import PAGES
from hobbyhorse.conformance.server.rules.notifying import GROWTH, REDELIVERED
from hobbyhorse.conformance.server.session import Session, Skipped
from hobbyhorse.conformance.server.suite import opened
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.values import Contract, Model
from tests.broken_servers.bending import Bend, Request, Response, plain
from tests.conformance.server.test_suite import KEY, OTHER, fakes, models, never_called, session_on, suite_options
from tests.conftest import contracts_that
from tests.judging import family
from tests.server_mutation.mutant import Source
from tests.server_mutation.serving import Served, on_server


@models
def test_free_probes_come_first_and_the_plan_has_them_all(contract: Contract, model: Model) -> None:
    session = session_on(contract, model, httpx.MockTransport(never_called), budget=Decimal(5))
    found = probes(session)
    costs = [probe.cost(session) for probe in found]
    first = next(number for number, cost in enumerate(costs) if cost > 0)
    assert first >= 3
    assert most(session) == sum(costs)
    assert len({probe.name for probe in found}) == len(found)
    assert {"identity:unknown", "job", "job:media", "machine", "negative:json"} <= {probe.name for probe in found}


def names(contract: Contract, **more: object) -> list[str]:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called), budget=Decimal(5))
    for name, value in more.items():
        setattr(session, name, value)
    return [probe.name for probe in probes(session)]


def test_another_account_is_probed_only_with_a_second_key(contract: Contract) -> None:
    assert "identity:foreign" not in names(contract)
    assert "identity:foreign" in names(contract, other_key=OTHER)


def test_probes_of_an_operation_that_the_contract_lacks_are_left_out(contract: Contract) -> None:
    found = names(contract)
    assert ("cancel:order" in found) == ("cancel" in contract.operations)
    assert ("identity:list" in found) == ("list" in contract.operations)
    assert ("callback:order" in found) == (contract.callbacks is not None)
    assert ("idempotency" in found) == (contract.idempotency.mode != "none" and contract.idempotency.key is not None)


@contracts_that(lambda contract: contract.idempotency.mode != "none")
def test_the_probe_of_one_key_may_cost_nine_jobs(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called), budget=Decimal(5))
    (found,) = (probe for probe in probes(session) if probe.name == "idempotency")
    assert found.cost(session) == 9 * session.price > 0


def test_no_money_is_spent_on_an_endpoint_about_which_the_free_probes_show_nothing(contract: Contract) -> None:
    html = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>"))
    session = session_on(contract, contract.models[0], html, budget=Decimal(5))
    ran: list[str] = []
    run_probes(session, lambda name, summary: ran.append(name))
    prices = {probe.name: probe.cost(session) for probe in probes(session)}
    assert ran
    assert all(prices[name] == 0 for name in ran)
    assert session.endpoint.budget.spent == 0


def test_when_the_time_is_used_up_each_probe_left_is_noted(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called))
    session.endpoint.until = 0.0
    run_probes(session)
    assert {note.why for note in session.notes} == {"the suite's time limit was reached"}
    assert [note.probe for note in session.notes] == [probe.name for probe in each_probe(session)]


def test_an_unreachable_server_ends_the_run_immediately_and_without_notes(contract: Contract) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond), budget=Decimal(5))
    run_probes(session)
    assert len(session.endpoint.exchanges) == 2
    assert not [note for note in session.notes if note.why.startswith("the time")]


def test_a_skipped_probe_is_noted_with_its_reason_and_the_others_run(contract: Contract) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        known = KEY in "".join(request.headers.values())
        return httpx.Response(404 if known else 401, json={})

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond))
    ran: list[str] = []
    run_probes(session, lambda name, summary: ran.append(name))
    notes = {note.probe: note.why for note in session.notes}
    assert "--budget" in notes["negative:json"]
    assert "was not accepted" in notes["job:after"]
    assert ran == [probe.name for probe in probes(session)]


@pytest.mark.parametrize(("probe_name", "ids"), [("identity:unknown", 1), ("identity:malformed", len(MALFORMED))])
def test_every_operation_about_a_job_is_called_even_if_one_does_not_respond(
    contract: Contract, probe_name: str, ids: int
) -> None:
    called: list[str] = []
    status = contract.operations["status"]

    def respond(request: httpx.Request) -> httpx.Response:
        called.append(request.url.path)
        if request.method == status.method and status.pattern.fullmatch(request.url.path):
            raise httpx.ReadTimeout("no response")
        return httpx.Response(404, json={})

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond))
    session.call("submit", probe="job", content=b"{}")
    probe = next(probe for probe in probes(session) if probe.name == probe_name)
    for _ in range(2):
        probe.run(session)
    roles = [role for role in ("status", "result", "cancel") if role in contract.operations]
    assert len(called) == 1 + 2 + 2 * ids * (len(roles) - 1)
    # One that does not respond twice is not called any more.
    probe.run(session)
    assert len(called) == 1 + 2 + 3 * ids * (len(roles) - 1)
    assert [note.why for note in session.notes] == ["status does not respond"]


def test_an_internal_error_for_a_malformed_id_is_asked_for_again(contract: Contract) -> None:
    asked: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(500 if MALFORMED[1] in request.url.path.split("/") else 404, json={})

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond))
    next(probe for probe in probes(session) if probe.name == "identity:malformed").run(session)
    roles = [role for role in ("status", "result", "cancel") if role in contract.operations]
    assert len(asked) == len(roles) * (len(MALFORMED) + 1)
    verdict = next(one for one in judge(contract, [session.trace()], family("IDN")) if one.rule.id == "IDN-03")
    assert verdict.verdict == BROKEN
    assert all("each time" in breach.message for breach in verdict.breaches)


@models
def test_a_submission_for_another_model_names_a_model_that_does_not_exist(contract: Contract, model: Model) -> None:
    session = session_on(contract, model, httpx.MockTransport(never_called))
    body, path = other_model(session.submit, session.order)
    places = session.submit.bindings["model"].request
    assert [path.get("model") for place in places if place.part == "path"] == [
        NO_MODEL for place in places if place.part == "path"
    ]
    for place in places:
        if place.part == "body":
            assert resolve(body, place.pointer) == NO_MODEL
    assert (body != session.order) or path


def test_names_are_listed_with_an_and() -> None:
    assert [_words(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


@contracts_that(lambda contract: contract.callbacks is not None)
def test_without_an_address_for_callbacks_nothing_is_submitted(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called), budget=Decimal(5))
    probe = next(probe for probe in probes(session) if probe.name == "callback:order")
    with pytest.raises(Exception, match="--callback-url"):
        probe.run(session)


@contracts_that(lambda contract: contract.callbacks is not None)
@pytest.mark.parametrize(("budget", "why"), [(Decimal("0.01"), "may cost"), (Decimal(50), "was not accepted")])
def test_jobs_with_callbacks_that_are_left_out_have_one_reason(contract: Contract, budget: Decimal, why: str) -> None:
    refusing = httpx.MockTransport(lambda request: httpx.Response(422, json={}))
    session = session_on(contract, contract.models[0], refusing, budget=budget)
    with Receiver() as session.receiver, pytest.raises(Skipped, match=why):
        next(probe for probe in probes(session) if probe.name == "callback:order").run(session)
    assert session.notes == []


@contracts_that(lambda contract: "size" in getattr(contract.operations.get("list"), "bindings", {}))
@pytest.mark.parametrize("more", [True, False])
def test_three_pages_are_requested_between_two_long_ones(contract: Contract, more: bool) -> None:
    listing, asked = contract.operations["list"], list[dict[str, str]]()
    names = {name: place.name for name, one in listing.bindings.items() for place in one.request}
    body = contract.schemas.at(listing.situations["listed"].example_at)
    for place in listing.bindings["next_cursor"].response if "next_cursor" in listing.bindings else ():
        body = replaced(body, place.pointer, "more" if more else None)

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return httpx.Response(200, json=body)

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond), budget=Decimal(5))
    session.accepted.append("a-job")
    next(probe for probe in probes(session) if probe.name == PAGES).run(session)
    one = {names["size"]: "1"}
    if "cursor" in names:
        others = [{names["cursor"]: "more"}] * 2 if more else []
    else:
        others = [{names["page"]: "2"}, {names["page"]: "3"}]
    assert asked[1:-1] == [one, *(one | other for other in others), one]
    assert asked[0] == asked[-1]
    assert {name: int(value) >= 100 for name, value in asked[0].items()} == {names["size"]: True}


@contracts_that(lambda contract: len(contract.models) > 1)
def test_with_several_models_the_free_probes_run_once_and_the_others_for_each_model(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called), budget=Decimal(5))
    session.models = contract.models
    found = probes(session)
    names = [probe.name for probe in found]
    assert len(set(names)) == len(names)
    assert names.count("identity:unknown") == 1
    for model in contract.models:
        assert f"job ({model.id})" in names
    # The bounds of the first model come after the jobs of all models, so that they do not use up the budget.
    last_job = max(number for number, name in enumerate(names) if name.startswith("job ("))
    assert last_job < min(number for number, name in enumerate(names) if name.startswith(("bound:", "bounds:")))
    assert most(session) == sum(probe.cost(session) for probe in found)


@contracts_that(lambda contract: "run" in contract.operations)
def test_a_submission_that_waits_is_left_out_if_a_job_takes_most_of_the_time(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        return httpx.Response(422, json={})

    session = session_on(contract, contract.models[0], httpx.MockTransport(respond), budget=Decimal(5))
    probe = next(probe for probe in probes(session) if probe.name == "run:order")
    probe.run(session)
    assert len(calls) == 1
    monkeypatch.setattr(Session, "paid_seconds", property(lambda session: 59.0))
    with pytest.raises(Skipped, match="the first job took 59 s"):
        probe.run(session)
    assert len(calls) == 1


@contracts_that(lambda contract: "run" in contract.operations)
def test_a_submission_that_waits_is_for_the_longest_video_that_the_budget_allows(contract: Contract) -> None:
    ordered: list[bytes] = []

    def respond(request: httpx.Request) -> httpx.Response:
        ordered.append(request.content)
        return httpx.Response(422, json={})

    for budget in (Decimal(1), Decimal(5)):
        session = session_on(contract, contract.models[0], httpx.MockTransport(respond), budget=budget)
        next(probe for probe in probes(session) if probe.name == "run:order").run(session)
    cheap, long = (json.loads(body) for body in ordered)
    assert cheap["duration"] == resolve(session.order, ("input", "duration"))
    assert long["duration"] == longest(contract, contract.models[0]) > cheap["duration"]


@contracts_that(lambda contract: contract.callbacks is not None and contract.callbacks.growing)
def test_further_attempts_are_waited_for_a_little_longer_than_the_last_delay(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called))
    probe = probes(session)[-1]
    assert probe.name == "callback:delays"
    with pytest.raises(Skipped, match="callback URL of its own"):
        probe.run(session)
    moment = [1000.0]
    session.endpoint.now = lambda: moment[0]
    session.sleep = lambda seconds: moment.__setitem__(0, moment[0] + seconds)
    with Receiver(lambda headers, body: "job-1", now=lambda: moment[0]) as receiver:
        session.receiver, session.refused_again = receiver, "job-1"
        probe.run(session)
        assert moment == [1000.0], "without a second attempt there is nothing to wait for"
        for _ in range(2):
            receiver.take((), b"{}")
            moment[0] += 10
        probe.run(session)
    assert 1010 + GROWTH * 10 <= moment[0] <= 1010 + GROWTH * 10 + 2


@contracts_that(lambda contract: "redeliver" in contract.operations)
def test_a_callback_is_requested_once_more_after_it_was_acknowledged(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        with pytest.raises(Skipped, match="acknowledged"):
            _redelivered(session)
        for probe in each_probe(session):
            if probe.name in ("callback:order", REDELIVERED):
                probe.run(session)
        words = {one.rule.id: one.verdict for one in judge(adapted, [session.trace()], family("NTF"))}
    assert words["NTF-09"] == PASSED
    assert BROKEN not in words.values()


@contracts_that(lambda contract: "cancel" in contract.operations)
def test_a_job_is_read_more_than_once_after_its_cancellation(contract: Contract) -> None:
    """A server may first show the job as cancelled, and then finish it all the same."""
    options = {"budget": Decimal(5), "timeout": 60.0}
    with fakes(contract) as url, opened(contract, contract.models[0], suite_options(url, **options)) as session:
        session.sleep = lambda seconds: None
        next(probe for probe in probes(session) if probe.name == "cancel:order").run(session)
        names = [(one.probe, one.role) for one in session.endpoint.exchanges]
    after = [role for name, role in names if name == "cancel:after"]
    assert after.count("status") >= 2
    assert after.count("result") == ("result" in contract.operations)
    assert (("auth:none", "cancel") in names) == contract.operations["cancel"].authenticated


def always(bend: Bend) -> Callable[[Contract], Bend]:
    return lambda contract: bend


def test_the_first_job_is_read_closely_until_a_read_is_refused() -> None:
    """A stage that is shown for a third of a second would be missed by the reads of a client."""
    source = Source.of("runflow").contract
    reads = itertools.count(1)

    def response(request: Request, response: Response) -> Response:
        busy = request.role == "status" and next(reads) == 4
        return plain(429, {"code": "RATE_LIMITED", "message": "slow down"}) if busy else response

    for bend, expected in ((Bend(), CLOSE_READS), (Bend(response=response), 4)):
        with on_server(source, Served(source, always(bend))) as (_, session):
            _job(session)
            close = [one for one in session.endpoint.exchanges if one.probe == "job:close"]
        assert len(close) == expected
        assert all(after.arrived - before.arrived < 0.25 for before, after in itertools.pairwise(close))
