"""Submissions with pictures: how they reach the endpoint, what follows a refusal, and what is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from decimal import Decimal
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, PASSED, judge
from hobbyhorse.conformance.server.ends import read_to_the_ends
from hobbyhorse.conformance.server.pictures.orders import (
    NO_HOST,
    OWN,
    _begins_with,
    _documents,
    order_at_limits,
    order_beyond_limits,
    orders_at_limits,
    orders_in_requests,
)
from hobbyhorse.conformance.server.pictures.samples import ALONE, AT, BEYOND, BYTES, FORMAT, IN_REQUEST, INLINE
from hobbyhorse.conformance.server.probes import _job
from hobbyhorse.conformance.server.receiver import Receiver
from hobbyhorse.conformance.server.rules.media import ALIKE
from hobbyhorse.conformance.server.session import REPLACED_AFTER, Session
from hobbyhorse.conformance.server.video_check import START
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.worlds.world import Ending
from tests.broken_servers.bending import KEY, Bend, Request, Response, plain
from tests.conftest import CONTRACTS, contracts_that
from tests.judging import family, named
from tests.server_mutation.mutant import Source
from tests.server_mutation.serving import Served, on_server

MODELS = [(one, n) for one in CONTRACTS for n, model in enumerate(one.models) if model.images is not None]
each_model = pytest.mark.parametrize(("contract", "number"), MODELS, ids=[f"{c.key}-{n}" for c, n in MODELS])
ADDRESS = "data:image/png;base64,"


def names_data_uris(contract: Contract) -> bool:
    return any("data:" in str(contract.schemas.document(model.schema_file)) for model in contract.models)


inline = contracts_that(names_data_uris)
hosted = contracts_that(lambda contract: not names_data_uris(contract))


@contextmanager
def served(contract: Contract, number: int = 0, *, hosting: bool = True, bend: Any = None) -> Iterator[Session]:
    """Yield a session on the fake, with a host for pictures or without one."""
    adapted = Source.of(contract.key).contract
    found = Served(adapted, model=number) if bend is None else Served(adapted, bend, model=number)
    with on_server(adapted, found) as (_, session), Receiver() if hosting else nullcontext() as receiver:
        session.receiver = receiver
        yield session


def submissions(session: Session, kind: str = "pictures:") -> list[str]:
    """Return the names of the submissions with pictures."""
    probes = [one.probe or "" for one in session.endpoint.exchanges if one.role == "submit"]
    return [probe for probe in probes if probe.startswith(kind)]


@each_model
def test_every_picture_at_a_limit_makes_a_video_and_none_beyond_one_does(contract: Contract, number: int) -> None:
    with served(contract, number) as session:
        order_at_limits(session)
        order_beyond_limits(session)
        verdicts = judge(contract, [session.trace()], family("PIC"))
    assert session.notes == []
    assert [one.verdict for one in verdicts] == [PASSED, PASSED]
    assert len(submissions(session, AT)) == len(orders_at_limits(session.model)) + len(orders_in_requests(session))
    assert submissions(session, ALONE) == []
    assert len(submissions(session, BEYOND)) >= 3


@inline
def test_a_picture_goes_into_the_request_if_the_contract_names_data_uris(contract: Contract) -> None:
    with served(contract, hosting=False) as session:
        assert _documents(session, ADDRESS)
        order_at_limits(session)
        bodies = [one.body for one in session.endpoint.exchanges if one.role == "submit"]
    assert bodies
    assert all(b"data:image/" in body for body in bodies)
    assert (f"{AT}{BYTES}", NO_HOST) in {(note.probe, note.why) for note in session.notes}
    assert not [name for name in submissions(session) if BYTES in name]


@inline
def test_one_picture_in_a_request_is_almost_as_large_as_documented(contract: Contract) -> None:
    limits, sizes = contract.models[0].images, list[int]()

    def request(request: Request) -> Request:
        sizes.append(len(request.body))
        return request

    with served(contract, hosting=False, bend=lambda contract: Bend(request=request)) as session:
        order_at_limits(session)
        (large,) = [one for one in submissions(session, AT) if INLINE in one.split(",")]
    assert FORMAT in large
    assert limits is not None
    # Base64 makes four characters of three bytes.
    assert max(sizes) > 0.9 * (limits.most_bytes or 0) * 4 / 3


@inline
def test_each_format_is_in_a_request_once(contract: Contract) -> None:
    with served(contract) as session:
        order_at_limits(session)
        bodies = b" ".join(one.body for one in session.endpoint.exchanges if one.role == "submit")
    limits = contract.models[0].images
    assert limits is not None
    found = re.findall(rb"data:image/(\w+);base64,", bodies)
    assert set(found) == {name.encode() for name in limits.formats}
    # The last picture at the limits may be small enough to be in its request as well.
    assert len(found) <= len(limits.formats) + 1


@each_model
def test_the_urls_of_pictures_have_each_form(contract: Contract, number: int) -> None:
    with served(contract, number) as session:
        order_at_limits(session)
        bodies = b" ".join(one.body for one in session.endpoint.exchanges if one.role == "submit")
    assert re.search(rb"/pictures/\d+-\d+x\d+\?X-Amz-Date=", bodies), "signed, and without an extension"
    assert re.search(rb"/pictures/\d+-\d+x\d+%20caf%C3%A9%20%281%29\.[A-Z]+\"", bodies), "encoded, in capital letters"


@hosted
def test_without_a_host_the_pictures_are_left_out_with_the_reason(contract: Contract) -> None:
    with served(contract, hosting=False) as session:
        assert not _documents(session, ADDRESS)
        order_at_limits(session)
        order_beyond_limits(session)
    assert submissions(session) == []
    assert {note.why for note in session.notes} == {NO_HOST}
    assert {note.probe.split(":")[1] for note in session.notes} == {"at", "beyond"}


@hosted
def test_a_public_url_that_does_not_lead_here_is_no_host(contract: Contract) -> None:
    with served(contract, hosting=False) as session, Receiver(public_url="https://public.example/hook") as receiver:
        session.receiver = receiver
        order_at_limits(session)
        assert receiver.picture("/trial.png") is None
    assert submissions(session) == []


def refusing(text: bytes) -> Any:
    """Return a bend that refuses the submissions whose bodies have a text."""

    def request(request: Request) -> Request | Response:
        bad = request.role == "submit" and text in request.body
        return plain(422, {"message": "invalid request"}) if bad else request

    return lambda contract: Bend(request=request)


@inline
def test_after_a_refusal_each_limit_follows_alone_until_one_is_refused(contract: Contract) -> None:
    with served(contract, hosting=False, bend=refusing(b"image/webp")) as session:
        order_at_limits(session)
    assert submissions(session, ALONE) == [f"{ALONE}{FORMAT}webp", f"{ALONE}{IN_REQUEST}webp"]
    assert [entry.billed for entry in session.ledger if "webp" in entry.probe] == [False] * 4


@inline
def test_a_picture_that_is_refused_once_only_is_no_finding(contract: Contract) -> None:
    left = [1]

    def request(request: Request) -> Request | Response:
        bad = request.role == "submit" and b"image/webp" in request.body and left and left.pop()
        return plain(422, {"message": "invalid request"}) if bad else request

    with served(contract, hosting=False, bend=lambda contract: Bend(request=request)) as session:
        order_at_limits(session)
        verdicts = judge(contract, [session.trace()], family("PIC"))
    twice = [name for name in submissions(session, AT) if f"{FORMAT}webp" in name]
    assert len(twice) == 2
    assert submissions(session, ALONE)
    assert verdicts[0].verdict == PASSED


@inline
def test_what_the_budget_leaves_out_is_noted(contract: Contract) -> None:
    with served(contract, hosting=False) as session:
        session.endpoint.budget.limit = session.price
        order_at_limits(session)
    assert len(submissions(session)) == 1
    assert session.endpoint.budget.left == Decimal(0)
    assert len([note for note in session.notes if "left in the budget" in note.why]) >= 2


@each_model
def test_the_shape_of_a_video_is_compared_only_if_documents_promise_it(contract: Contract, number: int) -> None:
    model = contract.models[number]
    promised = "aspect" in str(contract.schemas.document(model.schema_file).get("description"))
    with served(contract, number) as session:
        order_at_limits(session)
    shapes = [video.facts["asked_aspect"] for video in session.videos if "asked_aspect" in video.facts]
    assert (len(shapes) > 0) == (promised and "first_frame" in model.parameters)
    if shapes:
        assert model.images is not None
        assert model.images.aspect is not None
        assert {*model.images.aspect} < {*shapes}, "both documented limits, beside an upright picture"
    differences = [video.facts.get(START) for video in session.videos]
    assert all(one is not None and one < ALIKE for one in differences), "each video begins with its own picture"
    whole = [
        one for (one, *_) in (*orders_at_limits(model), *orders_in_requests(session)) if _begins_with(session, one)
    ]
    assert len(differences) == len(whole)


@contracts_that(lambda contract: any("first_frame" not in model.parameters for model in contract.models))
def test_one_submission_takes_all_references(contract: Contract) -> None:
    number = next(n for n, model in enumerate(contract.models) if "first_frame" not in model.parameters)
    with served(contract, number) as session:
        order_at_limits(session)
        (body,) = [orjson.loads(one.body) for one in session.endpoint.exchanges if one.role == "submit"]
    assert len({value for value in body.values() if str(value).startswith("http://127.0.0.1:")}) == 3


@each_model
def test_no_picture_is_served_any_more_after_the_probe(contract: Contract, number: int) -> None:
    with served(contract, number) as session:
        order_beyond_limits(session)
        assert session.receiver is not None
        assert [session.receiver.picture(f"/{n}-640x360.gif") for n in range(5)] == [None] * 5


@contextmanager
def offline(contract: Contract, number: int = 0, *, hosting: bool = True, waits: bool = False) -> Iterator[Session]:
    """Yield a session that sends the documented picture, on a fake that cannot have it.

    The first job fails, or waits for the picture without end.
    """
    adapted = Source.of(contract.key).contract
    failure = adapted.graph.ending("failure")
    assert failure is not None
    with (
        on_server(adapted, Served(adapted, model=number)) as (fake, session),
        Receiver() if hosting else nullcontext() as receiver,
    ):
        session.receiver, session.picture = receiver, None
        session.order = session.marked("first")
        world = fake.worlds.of(KEY)
        assert world is not None
        if waits:
            world.scenarios.arm(read_scenario({"timeline": {"move": "stuck"}}), [adapted])
        else:
            world.endings.append(Ending(failure.name))
        yield session


@each_model
def test_an_endpoint_that_cannot_have_the_documented_picture_gets_one_of_the_suites_own(
    contract: Contract, number: int
) -> None:
    with offline(contract, number) as session:
        _job(session)
        order_at_limits(session)
        assert session.finished().video
        later = orjson.dumps(session.marked("later"))
        found = re.search(rb"http://[^/]+(/pictures/[^\"]+)", later)
        assert found is not None, "all further orders have this picture"
        assert session.receiver is not None
        assert session.receiver.picture(found[1].decode()) is not None, "the others are withdrawn"
    assert {note.probe for note in session.notes} == {OWN}


@inline
def test_without_a_receiver_the_suites_own_picture_is_in_the_request(contract: Contract) -> None:
    with offline(contract, hosting=False) as session:
        _job(session)
        assert session.finished().video
        assert b"data:image/" in orjson.dumps(session.marked("later"))


@hosted
def test_without_a_way_to_have_a_picture_the_failed_job_is_the_one_that_is_judged(contract: Contract) -> None:
    with offline(contract, hosting=False) as session:
        _job(session)
        assert session.finished().failed
    assert [note.why for note in session.notes] == [NO_HOST]
    assert [entry.probe for entry in session.ledger] == ["job"]


@each_model
def test_a_second_first_job_is_not_ordered_beyond_the_budget(contract: Contract, number: int) -> None:
    with offline(contract, number) as session:
        session.endpoint.budget.limit = session.price
        _job(session)
        assert session.finished().failed
    assert session.notes == []


@each_model
def test_an_endpoint_that_waits_for_the_documented_picture_gets_one_too_and_its_job_is_reported(
    contract: Contract, number: int
) -> None:
    """A job that never ends is not silence: the suite learns how long a job takes, and reports a job without an end."""
    with offline(contract, number, waits=True) as session:
        _job(session)
        first, second = [one.arrived for one in session.endpoint.exchanges if one.role == "submit"]
        assert REPLACED_AFTER <= second - first < REPLACED_AFTER + 10, "not only after the longest documented wait"
        assert session.finished().video
        session.sleep(session.patience)
        read_to_the_ends(session)
        (found,) = judge(contract, [session.trace()], [named(family("LIF"), "LIF-09")])
    assert found.verdict == BROKEN
    assert "every job that made a video ended within" in found.breaches[0].message
