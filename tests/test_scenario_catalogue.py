"""Every scenario of the catalogue, on every provider to which it applies, as seen on a bare socket."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse import MockServer
from hobbyhorse.contract.folder import load
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET, verify
from hobbyhorse.contract.reading import Reading, message_of, read_answer, read_callback
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import CALLBACK, MEDIA
from hobbyhorse.scenarios.fields import Field, Urls, payload_places
from hobbyhorse.scenarios.scenario import (
    Move,
    Scenario,
    Trouble,
    load_catalogue,
    misfits,
    read_scenario,
)
from hobbyhorse.worlds.jobs import Job
from tests import specimen
from tests.conftest import CONTRACTS
from tests.known_faults import CALLBACK_FAULTS, MEDIA_FAULTS, OPERATION_FAULTS, TIMELINE_FAULTS, unjudged
from tests.raw_client import PATIENCE, RawClient, Seen, ask
from tests.world import documented

CATALOGUE = load_catalogue()
SMALL = load(specimen.FOLDER)
"""A made-up provider with the minimum of situations."""
PROVIDERS = [*CONTRACTS, *([] if any(contract.key == SMALL.key for contract in CONTRACTS) else [SMALL])]
PAIRS = [
    (scenario, contract) for scenario in CATALOGUE.values() for contract in PROVIDERS if not misfits(scenario, contract)
]
ONCE = {scenario.name: (scenario, contract) for scenario, contract in reversed(PAIRS) if contract in CONTRACTS}
"""Each scenario by name with the first provider of the project to which it applies."""


def parametrised(pairs: Iterable[tuple[Scenario, Contract]]) -> pytest.MarkDecorator:
    """Run a test for each pair."""
    params = [pytest.param(*pair, id=f"{pair[0].name}-{pair[1].key}") for pair in pairs]
    return pytest.mark.parametrize(("scenario", "contract"), params)


ORDER = ("health", "models", "model", "categories", "list", "submit", "run", "status", "result", MEDIA, "cancel")
"""The order in which a client calls the operations."""
SITUATION = "a situation"
REDIRECTS = {"redirect": "http://foreign.invalid", "redirect_port": "http://127.0.0.1:9"}
"""The redirects, with the origins to which they lead by default."""
INSTEAD = {"timeout", "reset_peer", "empty", "html_page", "empty_body", "error_envelope", *REDIRECTS, SITUATION}
INSTEAD |= {"redirect_here", "redirect_nowhere"}
"""The faults that prevent the effect of the operation unless they are `accepted`."""
# How often a test meets a fault that applies to every request.
ALWAYS = 3
# Real seconds in which nothing may arrive: a byte sent by mistake arrives sooner on loopback.
BRIEF = 0.01
# Real seconds in which a closed connection must be noticed, on a busy machine.
CLOSED_SOON = 5.0
# Seconds of the clock after which a job of pace `fast` (at most 0.3 s in each stage) has ended.
ENOUGH = 10.0
SEED = 7
Delivery = tuple[dict[str, str], bytes]
"""The headers (lower case) and the bytes of a callback."""


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(PROVIDERS, clock="manual", pace="fast") as server:
        yield server


@pytest.fixture(scope="module")
def receiver() -> Iterator[HTTPServer]:
    """A receiver of callbacks that acknowledges everything."""
    with HTTPServer() as receiver:
        receiver.expect_request(re.compile(".*")).respond_with_data("")
        yield receiver


class Session:
    """A client in a world of its own, whose manual clock it advances; a scenario may be armed there."""

    def __init__(self, server: MockServer, receiver: HTTPServer, contract: Contract, scenario: Scenario) -> None:
        self.server, self.receiver, self.contract, self.scenario = server, receiver, contract, scenario
        mock = server.world()
        self.key, self.world = mock.api_key, mock._world
        self.job: Job | None = None
        self._waiting = 0

    # ---- the server

    def advance(self, seconds: float) -> None:
        """Advance the clock; everything that falls due on the way has happened when this returns."""
        self.server.wait_for(self.world.clock.advance(seconds))

    def jobs(self) -> list[Job]:
        """Return the jobs of the world, with one seed, so that they make the same video."""

        def seeded() -> list[Job]:
            for job in self.world.jobs.values():
                job.seed = SEED
            return list(self.world.jobs.values())

        return self.server.run(seeded)

    def held(self, client: RawClient) -> bool:
        """Whether the server delays its response on the clock; False as soon as a byte arrives."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if client.readable():
                return False
            if self.server.run(lambda: self.world.clock.waiting) > self._waiting:
                return True
        raise AssertionError("the server neither responds nor waits")

    # ---- the client

    @contextmanager
    def open(self, role: str) -> Iterator[RawClient]:
        """Send a request of a role."""
        method, url, body = self._request(role)
        headers = {"Authorization": f"Bearer {self.key}"} if role != MEDIA else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._waiting = self.server.run(lambda: self.world.clock.waiting)
        with RawClient(method, url, headers, body) as client:
            if role == "run" and self.held(client) and self.jobs():
                self.advance(ENOUGH)
            yield client

    def ask(self, role: str) -> Seen:
        """Send a request of a role, and read the response."""
        with self.open(role) as client:
            return client.read()

    def read_late(self, role: str) -> Reading:
        """Send a request whose response must be usable, however late, and read it."""
        with self.open(role) as client:
            while self.held(client):
                self.advance(ENOUGH)
            seen = client.read()
        return self.read_good(role, seen)

    def usual(self, role: str) -> Seen:
        """Return the response to the same request without a scenario."""
        if role in ("submit", "run"):
            # A second job is made; under the id of the first, its response must be the same.
            first = self.jobs()[-1].id
            seen = self.ask(role)
            seen.body = seen.body.replace(self.jobs()[-1].id.encode(), first.encode())
            return seen
        job, active = self.job, self.job.active_scenario if self.job else None
        if job is not None:
            self.server.run(lambda: setattr(job, "active_scenario", None))
        seen = self.ask(role)
        if job is not None:
            self.server.run(lambda: setattr(job, "active_scenario", active))
        assert (seen.status or 0) < 300, seen
        return seen

    def read(self, role: str, seen: Seen) -> Reading:
        """Read a response by the contract."""
        message = message_of(seen.headers.items(), seen.json)
        return read_answer(self.contract.schemas, self.contract.operations[role], seen.status or 0, message)

    def read_good(self, role: str, seen: Seen) -> Reading:
        """Read a response that must be whole, documented and successful."""
        assert seen.end == "whole"
        assert 200 <= (seen.status or 0) < 300, seen
        reading = self.read(role, seen)
        assert reading.situations, seen
        return reading

    def submit(self) -> Job:
        """Submit a job without faults."""
        reading = self.read_good("submit", self.ask("submit"))
        job = self.jobs()[-1]
        assert reading.values["job"] == job.id
        return job

    def stage(self) -> str:
        """Return the stage of the current job; all responses about it must agree."""
        readings = [self.read_late(role).stages for role in ("status", "result") if role in self.contract.operations]
        (stage,) = frozenset.intersection(*readings)
        return stage

    def kind(self) -> str:
        """Return the class of that stage."""
        return self.contract.graph[self.stage()].kind

    def deliveries(self) -> list[Delivery]:
        """Return every callback received."""
        requests = [request for request, _ in self.receiver.log if request.path == f"/{self.key}"]
        return [
            ({name.lower(): value for name, value in request.headers.items()}, request.get_data())
            for request in requests
        ]

    def signed(self, delivery: Delivery, *, fresh: bool = True) -> bool:
        """Whether the signature of a callback is valid."""
        callbacks = self.contract.callbacks
        assert callbacks is not None
        assert callbacks.signature is not None
        headers, body = delivery
        now = self.world.clock.now() if fresh else None
        return verify(callbacks.signature, DEFAULT_SECRET, body, headers, now=now)

    def read_callback(self, delivery: Delivery) -> Reading:
        """Read a callback by the contract."""
        assert self.contract.callbacks is not None
        message = message_of([], orjson.loads(delivery[1]))
        return read_callback(self.contract.schemas, self.contract.callbacks, message)

    def _request(self, role: str) -> tuple[str, str, bytes | None]:
        """Return the method, URL and body of a request."""
        if role == MEDIA:
            return "GET", self.video, None
        operation = self.contract.operations[role]
        ids = {"job": self.job.id if self.job else ""}
        body = None
        if role in ("submit", "run"):
            _, model, value = documented(self.contract, role=role)
            ids["model"] = model.id
            for pointer in model.parameters.get("seed", ()):
                value = replaced(value, pointer, SEED)
            if CALLBACK in self.scenario.moves:
                (place,) = operation.bindings["callback_url"].request
                value = replaced(value, place.pointer, self.receiver.url_for(f"/{self.key}"))
            body = orjson.dumps(value)
        path = operation.path
        for name, value in ids.items():
            for place in operation.bindings[name].request if name in operation.bindings else ():
                path = path.replace("{" + place.name + "}", value) if place.part == "path" else path
        return operation.method, f"{self.server.url}/{self.contract.key}{path}", body

    @property
    def video(self) -> str:
        """The URL of the job's video."""
        role = "result" if "result" in self.contract.operations else "status"
        return str(self.read(role, self.usual(role)).values["video_url"])


# ---- the walk through a scenario


def walk(session: Session) -> None:
    """Meet every fault of a scenario as often as it occurs, and check each one."""
    scenario = session.scenario
    for role in ORDER:
        moves = scenario.moves.get(role, ())
        if session.job is None and ORDER.index(role) > ORDER.index("run"):
            made = [job for job in session.jobs() if job.active_scenario is not None]
            session.job = made[0] if made else None if always(scenario, "submit") else session.submit()
        for move in moves:
            for _ in range(move.times or ALWAYS):
                meet(session, role, move)
        if moves and moves[-1].times is not None and role != "submit":
            check_usual_response(session, role)
    if scenario.timeline is not None:
        TIMELINE_CHECKS[scenario.timeline.kind](session, scenario.timeline)
    for move in scenario.moves.get(CALLBACK, ()):
        CALLBACK_CHECKS[move.kind](session, move)


def always(scenario: Scenario, role: str) -> bool:
    """Whether a role has a fault for every request."""
    return any(move.times is None for move in scenario.moves.get(role, ()))


def meet(session: Session, role: str, move: Move) -> None:
    """Bring the job to where a fault can be met, meet it, and check whether the operation took effect."""
    kind = move.kind if role == MEDIA or move.kind in OPERATION_FAULTS else SITUATION
    if role not in ("submit", "run") and needs_the_end(role, move):
        session.advance(ENOUGH)
    before = session.jobs()
    (MEDIA_CHECKS if role == MEDIA else OPERATION_CHECKS)[kind](session, role, move)
    takes_effect = move.accepted or kind not in INSTEAD
    after = session.jobs()
    if role in ("submit", "run"):
        made = [job for job in after if job not in before and job.active_scenario is not None]
        assert len(made) == takes_effect
    else:
        assert before == after
    if role == "cancel" and session.job is not None:
        now = session.world.clock.now()
        assert (session.job.stage(now).kind == "cancelled") == takes_effect


def needs_the_end(role: str, move: Move) -> bool:
    """Whether a fault can only be met when the job has ended."""
    if role == MEDIA or move.kind == "regress":
        return True
    if move.kind == "private_links":
        return True
    fault = OPERATION_FAULTS.get(move.kind)
    return fault is not None and isinstance(fault.needs, Field) and field_of(role, move) == "video_url"


def check_usual_response(session: Session, role: str) -> None:
    """Check that an operation responds as usual after its last fault."""
    if role == MEDIA:
        assert session.job is not None
        expires = session.job.expires
        seen = session.ask(MEDIA)
        assert seen.end == "whole"
        assert seen.status == (403 if expires is not None and session.world.clock.now() > expires else 200)
    else:
        session.read_late(role)


def check_next_job(session: Session) -> None:
    """Check that a job submitted after the one of the scenario has no faults."""
    job = session.job = session.submit()
    assert job.active_scenario is None
    assert session.stage() == session.contract.graph.initial
    session.advance(ENOUGH)
    assert session.kind() == "success"


@parametrised(PAIRS)
def test_each_scenario_shows_its_faults_to_a_client(
    scenario: Scenario, contract: Contract, server: MockServer, receiver: HTTPServer
) -> None:
    session = Session(server, receiver, contract, scenario)
    armed = server.run(lambda: session.world.scenarios.arm(scenario, PROVIDERS, provider=contract.key))
    assert armed.unmet()
    walk(session)
    assert armed.unmet() == []
    assert armed.begun == 1
    if always(scenario, "submit"):
        server.run(lambda: session.world.scenarios.disarm(armed.id))
    check_next_job(session)


@parametrised(ONCE.values())
def test_a_server_without_faults_fails_the_check_of_each_scenario(
    scenario: Scenario, contract: Contract, server: MockServer, receiver: HTTPServer
) -> None:
    with pytest.raises(AssertionError):
        walk(Session(server, receiver, contract, scenario))


def test_each_kind_of_fault_has_a_check_and_a_scenario() -> None:
    # The variations that a rule judges have their own tests, in tests/server/test_variations.py.
    operation, media, callback = unjudged(OPERATION_FAULTS), unjudged(MEDIA_FAULTS), unjudged(CALLBACK_FAULTS)
    timelines = unjudged(TIMELINE_FAULTS)
    assert OPERATION_CHECKS.keys() == operation | {SITUATION}
    assert MEDIA_CHECKS.keys() == media
    assert CALLBACK_CHECKS.keys() == callback
    assert TIMELINE_CHECKS.keys() == timelines
    used = [scenario for scenario, _ in ONCE.values()]
    kinds = {(role, move.kind) for scenario in used for role, moves in scenario.moves.items() for move in moves}
    assert {kind for role, kind in kinds if role == MEDIA} == media
    assert {kind for role, kind in kinds if role == CALLBACK} == callback
    assert {kind for role, kind in kinds if role not in (MEDIA, CALLBACK)} >= operation
    possible = {kind for kind in timelines if any(not misfits(_timeline(kind), contract) for contract in CONTRACTS)}
    assert {scenario.timeline.kind for scenario in used if scenario.timeline is not None} == possible
    assert possible == timelines - {"expire"}, "a provider has jobs that expire: add a scenario for it"


def _timeline(kind: str) -> Scenario:
    return read_scenario({"timeline": {"move": kind}})


def test_each_scenario_applies_to_a_provider() -> None:
    assert ONCE.keys() == CATALOGUE.keys()


def test_an_error_envelope_needs_an_error_of_its_operation() -> None:
    scenario = read_scenario({"moves": {"status": [{"move": "error_envelope"}]}})
    assert [reason.partition(";")[0] for reason in misfits(scenario, SMALL)] == [
        "acme status has no situation 'server_error'"
    ]


# ---- the check of each fault: on an operation


def field_of(role: str, move: Move) -> str:
    """Return the bound name of the field that a field fault changes."""
    default = {"submit": "job", "status": "stage", "result": "video_url"}.get(role, "")
    return "stage" if move.kind == "unknown_status" else str(move.options.get("value", default))


def pointers(contract: Contract, role: str, move: Move) -> list[Pointer]:
    """Return the pointers to the field of a field fault."""
    bound = contract.operations[role].bindings[field_of(role, move)].response
    return [place.pointer for place in bound if place.part == "body"]


def _late(session: Session, role: str, move: Move) -> None:
    seconds = move.options.get("seconds", 5.0)
    with session.open(role) as client:
        assert session.held(client)
        session.advance(seconds - 0.5)
        assert not client.readable(BRIEF)
        session.advance(1.0)
        seen = client.read()
    assert seen.end == "whole"
    assert seen.status == 200 if role == MEDIA else session.read_good(role, seen)


def _silent(session: Session, role: str, move: Move) -> None:
    seconds = move.options.get("seconds", 3_600.0)
    with session.open(role) as client:
        assert session.held(client)
        assert not client.readable(BRIEF)
        session.advance(seconds - 0.5)
        assert not client.readable(BRIEF)
        session.advance(1.0)
        seen = client.read()
    assert (seen.end, seen.nothing) == ("eof", True)


def _reset(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.end, seen.nothing) == ("reset", True)


def _closed(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.end, seen.nothing) == ("eof", True)


def _cut_off(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert seen.end == "eof"
    usual = session.usual(role)
    assert seen.status == usual.status
    assert seen.length == len(usual.body)
    assert len(seen.body) == int(seen.length * move.options.get("keep", 0.5)) < seen.length
    assert usual.body.startswith(seen.body)


def _drips(session: Session, role: str, move: Move) -> None:
    pieces, seconds = move.options.get("pieces", 10), move.options.get("seconds", 5.0)
    usual = session.usual(role).body if role not in ("submit", "run") else None
    with session.open(role) as client:
        length = client.read_body(1).length
        size = -(-length // pieces)
        for sent in range(size, length, size):
            assert len(client.read_body(sent).body) == sent
            assert session.held(client)
            assert not client.readable(BRIEF if sent == size else 0.0)
            session.advance(seconds / pieces)
        seen = client.read()
    assert seen.end == "whole"
    assert session.read_good(role, seen) if usual is None else seen.body == usual


def _answers(session: Session, role: str, move: Move) -> None:
    situation = session.contract.operations[role].situations[move.kind]
    begun = time.time()
    seen = session.ask(role)
    assert seen.end == "whole"
    assert seen.status == situation.status
    assert session.contract.schemas.violations(situation.schema, seen.json) == []
    assert move.kind in session.read(role, seen).situations
    if (seconds := move.options.get("retry_after")) is not None:
        assert seen.headers["retry-after"] == str(seconds)
    if (seconds := move.options.get("retry_after_date")) is not None:
        moment = parsedate_to_datetime(seen.headers["retry-after"]).timestamp()
        assert begun + seconds - 1 <= moment <= time.time() + seconds


def _broken_json(session: Session, role: str, move: Move) -> None:
    seen, usual = session.ask(role), session.usual(role)
    assert (seen.end, seen.status) == ("whole", usual.status)
    assert seen.headers["content-type"] == usual.headers["content-type"]
    assert usual.body.startswith(seen.body)
    with pytest.raises(orjson.JSONDecodeError):
        assert not seen.json


def _page(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.end, seen.status) == ("whole", move.options.get("status", 200))
    assert seen.headers["content-type"].startswith("text/html")
    assert seen.body.startswith(b"<!DOCTYPE html>")


def _no_body(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.end, seen.status) == ("whole", move.options.get("status", 200))
    assert seen.body == b""
    assert "retry-after" not in seen.headers, "an empty response must not keep headers of a refusal"


def _envelope(session: Session, role: str, move: Move) -> None:
    situation = session.contract.operations[role].situations[move.options.get("situation", "server_error")]
    seen = session.ask(role)
    assert (seen.end, seen.status) == ("whole", 200)
    assert session.contract.schemas.violations(situation.schema, seen.json) == []
    assert seen.json == situation.template.example


def _unknown_word(session: Session, role: str, move: Move) -> None:
    word = move.options.get("word", "reticulating")
    assert not any(word.encode() in orjson.dumps(one.template.example) for one in situations(session, role))
    _changes(session, role, move, lambda here: word)


def _first_again(session: Session, role: str, move: Move) -> None:
    assert session.read(role, session.usual(role)).stages != {session.contract.graph.initial}
    assert session.read_good(role, session.ask(role)).stages == {session.contract.graph.initial}


def _changes(session: Session, role: str, move: Move, change: Callable[[Any], Any]) -> None:
    """Check that the response differs from the usual one in every place of one value, and nowhere else."""
    seen, usual = session.ask(role), session.usual(role)
    assert (seen.end, seen.status) == ("whole", usual.status)
    expected = usual.json
    for pointer in pointers(session.contract, role, move):
        here = resolve(expected, pointer)
        if here is not MISSING:
            expected = changed(expected, pointer, change(here))
    assert expected != usual.json
    assert seen.json == expected


def changed(document: Any, pointer: Pointer, value: Any) -> Any:
    """Return a document with a value changed; MISSING removes it, from a list too."""
    holder = resolve(document, pointer[:-1])
    if value is MISSING and isinstance(holder, list):
        at = int(pointer[-1])
        return replaced(document, pointer[:-1], holder[:at] + holder[at + 1 :])
    return replaced(document, pointer, value)


def _field(change: Callable[[Any], Any]) -> Callable[[Session, str, Move], None]:
    return lambda session, role, move: _changes(session, role, move, change)


def _other_type(session: Session, role: str, move: Move) -> None:
    """Check that a value has another JSON type and everything else is as usual."""
    seen, usual = session.ask(role), session.usual(role)
    assert (seen.end, seen.status) == ("whole", usual.status)
    expected = usual.json
    (pointer, *_) = [one for one in pointers(session.contract, role, move) if resolve(expected, one) is not MISSING]
    assert type(resolve(seen.json, pointer)) is not type(resolve(expected, pointer))
    for one in pointers(session.contract, role, move):
        if resolve(expected, one) is not MISSING:
            expected = changed(expected, one, resolve(seen.json, one))
    assert seen.json == expected


def _more_fields(session: Session, role: str, move: Move) -> None:
    seen, usual = session.ask(role), session.usual(role)

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: bare(item) for name, item in value.items() if name != "x_unexpected"}
        return [bare(item) for item in value] if isinstance(value, list) else value

    assert seen.status == usual.status
    assert bare(seen.json) == usual.json
    assert seen.body.count(b'"x_unexpected"') == len(objects(usual.json)) > 0


def _turned_round(session: Session, role: str, move: Move) -> None:
    seen, usual = session.ask(role), session.usual(role)
    assert seen.status == usual.status
    assert seen.json == usual.json
    turned = [list(reversed(one)) for one in objects(usual.json)]
    assert sorted(map(list, objects(seen.json))) == sorted(turned)
    assert next(iter(seen.json)) == list(usual.json)[-1]


def _moved(session: Session, role: str, move: Move, change: Callable[[str, str], Any]) -> list[str]:
    """Check that URLs are changed as `change(old, new)` allows and everything else is as usual; return the new URLs."""
    seen, usual = session.ask(role), session.usual(role)
    assert (seen.end, seen.status) == ("whole", usual.status)
    bindings = session.contract.operations[role].bindings
    needs = OPERATION_FAULTS[move.kind].needs
    assert isinstance(needs, Urls)
    names = [name for name in needs.bound if name in bindings]
    places = [place.pointer for name in names for place in bindings[name].response]
    expected, found = usual.json, []
    for pointer in places:
        if (here := resolve(expected, pointer)) is not MISSING:
            found.append(resolve(seen.json, pointer))
            assert change(here, found[-1]), (here, found[-1])
            expected = changed(expected, pointer, found[-1])
    assert found
    assert seen.json == expected
    return found


def _ticketed(session: Session, role: str, move: Move) -> None:
    def has_ticket(old: str, new: str) -> bool:
        return re.fullmatch(re.escape(old) + r"\?ticket=[0-9a-f]{16}", new) is not None

    found = _moved(session, role, move, has_ticket)
    assert len({url.partition("?")[2] for url in found}) == len(found)
    key = {"Authorization": f"Bearer {session.key}"}
    for url in found[:1]:  # the status URL, if the response has it, can be requested at any time
        assert ask("GET", url, key).status == ask("GET", url.partition("?")[0], key).status == 200


def _foreign(session: Session, role: str, move: Move) -> None:
    elsewhere = {"foreign_links": "http://foreign.invalid", "port_links": "http://127.0.0.1:9"}[move.kind]
    _moved(session, role, move, lambda old, new: new == old.replace(session.server.url, elsewhere))


def _redirected(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.end, seen.status, seen.body, seen.length) == ("whole", 307, b"", 0)
    _, url, _ = session._request(role)
    assert seen.headers["location"] == url.replace(session.server.url, REDIRECTS[move.kind])
    assert "content-type" not in seen.headers


def _circle(session: Session, role: str, move: Move) -> None:
    seen, (_, url, _) = session.ask(role), session._request(role)
    assert (seen.end, seen.status, seen.body) == ("whole", 307, b"")
    assert seen.headers["location"] == f"{url}{'&' if '?' in url else '?'}hop=1"


def _nowhere(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.end, seen.status, seen.body) == ("whole", 302, b"")
    assert "location" not in seen.headers


def _led_inside(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.status, seen.headers.get("location")) == (302, "http://169.254.169.254/latest/meta-data")


def _private(session: Session, role: str, move: Move) -> None:
    _moved(session, role, move, lambda old, new: new == "http://169.254.169.254/latest/meta-data")


def _closed_when_idle(session: Session, role: str, move: Move) -> None:
    with session.open(role) as client:
        seen = client.read()
        assert (seen.end, seen.nothing) == ("whole", False)
        assert not client.readable()
        session.advance(float(move.options.get("seconds", 5.0)))
        # The step of the clock has ended, so the connection is closed already.
        assert client.readable(CLOSED_SOON)
        assert client._socket.recv(1) == b""


def objects(value: Any) -> list[dict[str, Any]]:
    """Return every object in a JSON value, outer objects first."""
    if isinstance(value, list):
        return [one for item in value for one in objects(item)]
    return [value, *objects(list(value.values()))] if isinstance(value, dict) else []


def situations(session: Session, role: str) -> list[Any]:
    return list(session.contract.operations[role].situations.values())


Check = Callable[[Session, str, Move], None]
TRANSPORT_CHECKS: Mapping[str, Check] = {
    "latency": _late,
    "timeout": _silent,
    "reset_peer": _reset,
    "empty": _closed,
    "truncate": _cut_off,
    "slow_body": _drips,
    "idle_close": _closed_when_idle,
}
OPERATION_CHECKS: Mapping[str, Check] = {
    **TRANSPORT_CHECKS,
    SITUATION: _answers,
    "accept_then_drop": _closed,
    "malformed_json": _broken_json,
    "html_page": _page,
    "empty_body": _no_body,
    "error_envelope": _envelope,
    "unknown_status": _unknown_word,
    "regress": _first_again,
    "missing_field": _field(lambda here: MISSING),
    "null_field": _field(lambda here: None),
    "empty_field": _field(lambda here: ""),
    "wrong_type": _other_type,
    "extra_field": _more_fields,
    "reordered": _turned_round,
    "opaque_links": _ticketed,
    "foreign_links": _foreign,
    "port_links": _foreign,
    "private_links": _private,
    "redirect": _redirected,
    "redirect_port": _redirected,
    "redirect_here": _circle,
    "redirect_nowhere": _nowhere,
}

# ---- on the media host


def _as_type(session: Session, role: str, move: Move) -> None:
    seen, usual = session.ask(role), session.usual(role)
    assert (seen.status, seen.end) == (200, "whole")
    assert seen.headers["content-type"] == move.options.get("type", "application/octet-stream")
    assert seen.headers["content-type"] != usual.headers["content-type"]
    assert seen.body == usual.body


def _no_bytes(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.status, seen.end, seen.length) == (200, "whole", 0)
    assert seen.headers["content-type"] == "video/mp4"


def _all_zeros(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.status, seen.end, seen.headers["content-type"]) == (200, "whole", "video/mp4")
    assert seen.body
    assert not any(seen.body)


def _a_picture(session: Session, role: str, move: Move) -> None:
    seen = session.ask(role)
    assert (seen.status, seen.end, seen.headers["content-type"]) == (200, "whole", "video/mp4")
    assert seen.body.startswith(b"\x89PNG")


def _refused(status: int) -> Check:
    def check(session: Session, role: str, move: Move) -> None:
        seen = session.ask(role)
        assert (seen.status, seen.end) == (status, "whole")
        assert seen.headers["content-type"] == "application/xml"
        if (seconds := move.options.get("retry_after")) is not None:
            assert seen.headers["retry-after"] == str(seconds)

    return check


MEDIA_CHECKS: Mapping[str, Check] = {
    **TRANSPORT_CHECKS,
    "redirect": _redirected,
    "redirect_private": _led_inside,
    "redirect_here": _circle,
    "redirect_nowhere": _nowhere,
    "truncated": _cut_off,
    "wrong_type": _as_type,
    "zero_bytes": _no_bytes,
    "html_page": _page,
    "not_video": _a_picture,
    "all_zeros": _all_zeros,
    "expired": _refused(403),
    "not_found": _refused(404),
    "unavailable": _refused(503),
}

# ---- on callbacks


def _lost(session: Session, move: Move) -> None:
    session.server.wait_for(session.world.clock.run_until_idle())
    assert session.kind() == "success"
    assert session.deliveries() == []


def _many(session: Session, move: Move) -> None:
    session.server.wait_for(session.world.clock.run_until_idle())
    found = session.deliveries()
    assert len(found) == move.options.get("count", 2)
    assert all(session.signed(one) and one[1] == found[0][1] for one in found)


def _after_all(session: Session, move: Move) -> None:
    seconds = move.options.get("seconds", 60.0)
    assert session.job is not None
    session.advance(session.job.finished - session.world.clock.now())
    assert session.kind() == "success"
    session.advance(seconds - 0.5)
    assert session.deliveries() == []
    session.advance(1.0)
    assert [session.signed(one) for one in session.deliveries()] == [True]


def _overtaken(session: Session, move: Move) -> None:
    first = session.job
    assert first is not None
    session.advance(first.finished - session.world.clock.now() - 0.05)
    second = session.submit()
    session.advance(ENOUGH)
    bodies = [body for _, body in session.deliveries()]
    assert [one.id for body in bodies for one in (first, second) if one.id.encode() in body] == [second.id, first.id]


def _false_one_first(is_false: Callable[[Session, Delivery], bool]) -> Callable[..., None]:
    def check(session: Session, move: Move) -> None:
        session.advance(ENOUGH)
        found = session.deliveries()
        assert len(found) == 2
        assert not session.signed(found[0])
        assert is_false(session, found[0])
        assert session.signed(found[1])

    return check


def _has_no_signature(session: Session, delivery: Delivery) -> bool:
    callbacks = session.contract.callbacks
    assert callbacks is not None
    assert callbacks.signature is not None
    return not {name.lower() for name in callbacks.signature.headers} & delivery[0].keys()


def _unknown_job_first(session: Session, move: Move) -> None:
    """Check that both callbacks are signed and alike, except that the job of the first was never submitted."""
    session.advance(ENOUGH)
    found = session.deliveries()
    assert [session.signed(one) for one in found] == [True, True]
    unknown, true = (session.read_callback(one) for one in found)
    assert session.job is not None
    assert true.values["job"] == session.job.id
    assert unknown.values["job"] not in {job.id for job in session.jobs()}
    assert len(unknown.values["job"]) == len(session.job.id)
    assert unknown.stages == true.stages
    assert session.job.id.encode() not in found[0][1]
    assert {key for key in found[0][0] if found[0][0][key] == found[1][0][key]} >= {"content-type", "host"}


def _without_payload(session: Session, move: Move) -> None:
    """Check that there is one signed callback, with the job, the stage and the event, and nothing else."""
    session.server.wait_for(session.world.clock.run_until_idle())
    (found,) = session.deliveries()
    assert session.signed(found)
    reading, callbacks = session.read_callback(found), session.contract.callbacks
    assert session.job is not None
    assert callbacks is not None
    assert reading.values.keys() == {"job", "stage", "event"} & callbacks.bindings.keys()
    assert (reading.values["job"], reading.stages) == (session.job.id, frozenset({session.stage()}))
    for pointer in payload_places(callbacks):
        assert resolve(orjson.loads(found[1]), pointer) in (None, MISSING)


CALLBACK_CHECKS: Mapping[str, Callable[[Session, Move], None]] = {
    "lost": _lost,
    "duplicate": _many,
    "late": _after_all,
    "out_of_order": _overtaken,
    "forged": _false_one_first(lambda session, one: not session.signed(one, fresh=False)),
    "stale": _false_one_first(lambda session, one: session.signed(one, fresh=False)),
    "unsigned": _false_one_first(_has_no_signature),
    "unknown_job": _unknown_job_first,
    "null_payload": _without_payload,
}

# ---- on the timeline


def _ends(kind: str) -> Callable[[Session, Trouble], None]:
    def check(session: Session, trouble: Trouble) -> None:
        seconds = trouble.options.get("seconds", ENOUGH)
        if seconds > ENOUGH:
            session.advance(seconds - ENOUGH)
            assert session.kind() in ("pending", "running")
            seconds = ENOUGH
        session.advance(seconds)
        assert session.kind() == kind
        for role in ("status", "result"):
            operation = session.contract.operations.get(role)
            shown = session.read_late(role).values if operation else {}
            for name in ("code", "message"):
                if operation is not None and f"error_{name}" in operation.bindings and name in trouble.options:
                    assert shown[f"error_{name}"] == trouble.options[name]

    return check


def _stuck(session: Session, trouble: Trouble) -> None:
    graph = session.contract.graph
    path = [graph[name] for name in graph.path(graph.initial)]
    wanted = [stage.name for stage in path if stage.kind == trouble.options.get("stage", path[0].kind)]
    for seconds in (ENOUGH, 100 * session.contract.polling.longest_wait):
        session.advance(seconds)
        assert session.stage() == wanted[-1 if trouble.options.get("last") else 0]


def _succeeds_after(share: float) -> Callable[[Session, Trouble], None]:
    def check(session: Session, trouble: Trouble) -> None:
        longest = session.contract.polling.longest_wait
        seconds = trouble.options.get("seconds", share * longest)
        if seconds:
            session.advance(seconds - 0.5)
            assert session.kind() in ("pending", "running")
            session.advance(0.5)
        assert session.kind() == "success"

    return check


TIMELINE_CHECKS: Mapping[str, Callable[[Session, Trouble], None]] = {
    "succeed_in": _ends("success"),
    "fail": _ends("failure"),
    "expire": _ends("expired"),
    "cancel": _ends("cancelled"),
    "stuck": _stuck,
    "late_success": _succeeds_after(1.5),
    "slow": _succeeds_after(0.9),
}

# ---- requests that use up no fault


def test_a_head_request_for_a_file_uses_up_no_fault(
    contract: Contract, server: MockServer, receiver: HTTPServer
) -> None:
    session = Session(server, receiver, contract, CATALOGUE["media_reset_peer"])
    server.run(lambda: session.world.scenarios.arm(session.scenario, CONTRACTS, provider=contract.key))
    session.job = session.submit()
    session.advance(ENOUGH)
    for _ in range(2):
        seen = ask("HEAD", session.video)
        assert (seen.status, seen.end, seen.body) == (200, "whole", b"")
        assert seen.length > 0
    assert session.ask(MEDIA).end == "reset"
    assert session.ask(MEDIA).end == "whole"


def test_a_scenario_for_all_jobs_is_met_by_each(contract: Contract, server: MockServer, receiver: HTTPServer) -> None:
    session = Session(server, receiver, contract, CATALOGUE["submit_accept_then_drop"])
    armed = server.run(lambda: session.world.scenarios.arm(session.scenario, CONTRACTS, jobs=None))
    assert [session.ask("submit").end for _ in range(3)] == ["eof"] * 3
    assert len(session.jobs()) == armed.begun == 3
    assert server.run(session.world.scenarios.disarm) == 1
    session.submit()
