"""Reading one request: its key, its body, its idempotency key, and the refusals of each."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message as Event
from starlette.types import Receive, Scope

from hobbyhorse.contract.request import MOST_BODY_BYTES, Refusal
from hobbyhorse.contract.routes import Routes
from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.server.request import (
    ITEMS_AT_ONCE,
    Caller,
    ClientGone,
    ContractBroken,
    OperationRequest,
    Provider,
    api_key,
    caller_of,
    first_headers,
    header,
    in_steps,
    load,
    read_all,
    refuse,
)
from hobbyhorse.server.socket_faults import TRANSPORT
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES
from tests.conftest import contracts_that
from tests.server.test_app import Bad, submit
from tests.world import KEY, Mock, documented

pytestmark = pytest.mark.anyio


async def test_a_body_over_64_mib_is_refused_whatever_length_it_declares(contract: Contract) -> None:
    mock = Mock([contract])
    reply = await submit(mock, contract, Bad("", body=lambda body: b" " * (MOST_BODY_BYTES + 1)))
    expected = find_situation(contract.operations["submit"], "body_too_large")
    assert expected is not None
    assert reply.status == expected.status
    assert not mock.world.jobs


@pytest.mark.parametrize("declared", ["9" * 5_000, "9" * 18, "\u00b2"])
async def test_a_declared_length_that_no_body_has_never_fails(contract: Contract, declared: str) -> None:
    mock = Mock([contract])
    reply = await submit(mock, contract, Bad("", headers=(("content-length", declared),)))
    assert reply.status < 500
    assert bool(mock.world.jobs) is not declared.isdecimal()


# ---- the parts of one request


def scope_of(query: bytes = b"", **headers: str) -> Scope:
    """Return the scope of a request; `x_acme` is the header `x-acme`."""
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "headers": raw, "query_string": query}


def receiving(*chunks: bytes, ends: bool = True) -> Receive:
    """Return a `receive` that yields the chunks of a body, then disconnects; unless it `ends`, more was to follow."""
    last = len(chunks) - 1
    events: list[Event] = [
        {"type": "http.request", "body": chunk, "more_body": number < last or not ends}
        for number, chunk in enumerate(chunks)
    ]

    async def receive() -> Event:
        return events.pop(0) if events else {"type": "http.disconnect"}

    return receive


def call_of(contract: Contract, receive: Receive, mock: Mock | None = None, **headers: str) -> OperationRequest:
    """Return a submission that is being handled."""
    mock, scope = mock or Mock([contract]), scope_of(b"", **headers)
    call = OperationRequest(
        services=mock.fake._services,
        contract=contract,
        routes=Routes(contract),
        scope=scope,
        receive=receive,
        send=discard,
        headers=first_headers(scope),
        origin="http://mock.test",
        base="http://mock.test",
        below=example_path(contract),
        key=KEY,
        known=mock.world,
        world=mock.world,
        entry=mock.world.arrival(),
    )
    call.route, call.path = call.routes.match("POST", call.below) or pytest.fail("no route")
    return call


async def discard(event: Event) -> None:
    """Send nothing."""


def example_path(contract: Contract) -> str:
    operation, model, _ = documented(contract)
    path = operation.path
    for place in operation.bindings["model"].request:
        path = path.replace("{" + place.name + "}", model.id)
    return path


BEARER, QUERY, HEADER = ("header", "authorization", "bearer "), ("query", "key", ""), ("header", "x-acme", "token ")


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        (scope_of(authorization="Bearer secret"), "secret"),
        (scope_of(authorization="bEARER  secret "), "secret"),
        (scope_of(authorization="Bearer "), None),
        (scope_of(authorization="Basic secret"), None),
        (scope_of(b"key=a%20key"), "a key"),
        (scope_of(b"key=+"), None),
        (scope_of(b"other=secret"), None),
        (scope_of(x_acme="Token secret"), "secret"),
        (scope_of(b"key=second", authorization="Bearer first"), "first"),
        (scope_of(), None),
    ],
)
async def test_a_key_is_found_in_each_place_of_the_security_and_a_blank_one_is_none(
    scope: Scope, key: str | None
) -> None:
    assert api_key((BEARER, QUERY, HEADER), first_headers(scope), scope["query_string"]) == key


async def test_a_header_is_the_first_of_its_name() -> None:
    headers = [(b"a", b"1"), (b"b", b"2"), (b"b", b"\xe5")]
    assert header(headers, b"b") == "2"
    assert header(reversed(headers), b"b") == "å"
    assert header(headers, b"c") is None
    assert first_headers({"headers": headers}) == {b"a": b"1", b"b": b"2"}


async def test_the_caller_of_a_connection_is_read_anew_when_anything_about_it_changes(contract: Contract) -> None:
    services, kept = Mock([contract]).fake._services, {TRANSPORT: None}
    first, second = Provider(contract, Routes(contract)), Provider(contract, Routes(contract))

    def caller(provider: Provider = first, query: bytes = b"", **headers: str) -> Caller:
        scope = {**scope_of(query, **headers), "scheme": "http", "extensions": kept}
        found = caller_of(services, provider, scope)
        assert found.headers == first_headers(scope)
        assert scope["headers"] is found.raw
        return found

    one = caller(host="a", authorization="Bearer x")
    assert (one.key, one.origin) == ("x", "http://a")
    assert caller(host="a", authorization="Bearer x") is one
    assert caller(host="a", authorization="Bearer y").key == "y"
    assert caller(host="b", authorization="Bearer y").origin == "http://b"
    again = caller(host="b", authorization="Bearer y")
    assert caller(host="b", authorization="Bearer y", query=b"q") is not again
    assert caller(second, host="b", authorization="Bearer y", query=b"q").provider is second
    kept.clear()
    assert caller(host="a") is not caller(host="a"), "nothing is kept for another server's connections"
    assert kept == {}


async def test_a_body_is_read_to_its_end_and_kept_as_far_as_the_journal_keeps_it() -> None:
    assert await read_all(receiving(b"ab", b"", b"c")) == b"abc"
    chunk = bytes(MOST_JOURNAL_BODY_BYTES - 1)
    assert await read_all(receiving(chunk, b"xyz", b"more")) == chunk + b"x"


async def test_a_client_that_leaves_inside_its_body_is_gone(contract: Contract) -> None:
    with pytest.raises(ClientGone):
        await read_all(receiving(b"ab", ends=False))
    with pytest.raises(ClientGone):
        await call_of(contract, receiving(b"{", ends=False)).read()


async def test_a_body_is_read_once(contract: Contract) -> None:
    call = call_of(contract, receiving(b'{"a"', b": 1}"), content_type="application/json")
    assert await call.json() == {"a": 1}
    assert await call.read() is None
    assert (call.body, await call.json()) == (b'{"a": 1}', {"a": 1})


@pytest.mark.parametrize("declared", [str(MOST_BODY_BYTES + 1), "9" * 400])
async def test_a_declared_length_over_the_bound_is_refused_unread_and_stays_refused(
    declared: str, contract: Contract
) -> None:
    async def receive() -> Event:
        pytest.fail("the body must not be read")

    call = call_of(contract, receive, content_length=declared)
    for _ in range(2):
        refused = await call.read()
        assert refused is not None
        assert refused.situation == "body_too_large"
        assert str(MOST_BODY_BYTES) in str(refused.message)


@contracts_that(lambda contract: contract.idempotency.key is not None)
async def test_a_claimed_key_refuses_the_next_request_until_it_is_released(contract: Contract) -> None:
    mock = Mock([contract])
    place = contract.idempotency.key
    assert place is not None
    named = {place.name.lower().replace("-", "_"): "a-key"}
    first, second = (call_of(contract, receiving(), mock, **named) for _ in range(2))
    messages = [call.parameters() for call in (first, second)]
    assert not [message for message in messages if isinstance(message, Refusal)]
    assert first.claim(messages[0]) == "a-key"  # type: ignore[arg-type]
    assert first.claim(messages[0]) == "a-key", "the claim of the request itself"  # type: ignore[arg-type]
    assert second.claim(messages[1]) == Refusal("key_in_flight")  # type: ignore[arg-type]
    second.release()
    assert second.claim(messages[1]) == Refusal("key_in_flight"), "only the holder releases"  # type: ignore[arg-type]
    first.release()
    assert second.claim(messages[1]) == "a-key"  # type: ignore[arg-type]


async def test_a_refusal_without_a_situation_in_the_contract_is_the_contracts_fault(contract: Contract) -> None:
    call = call_of(contract, receiving())
    with pytest.raises(ContractBroken, match=r"submit has no situation 'never_documented' and no substitute"):
        refuse(call, Refusal("never_documented"))


async def test_a_refusal_carries_its_message_into_the_response_and_the_notes(contract: Contract) -> None:
    response = refuse(call_of(contract, receiving()), Refusal("invalid_request", "'seed' is a horse", ("body", "seed")))
    assert b"'seed' is a horse" in response.body
    assert response.notes == ("invalid_request: 'seed' is a horse",)
    assert response.job is None


async def test_the_links_of_a_request_are_under_its_own_origin_or_the_media_origin(contract: Contract) -> None:
    call = call_of(contract, receiving())
    assert call.media.origin == "http://mock.test"
    call.services = replace(call.services, media_url="http://files.test")
    assert (call.media.origin, call.media.world) == ("http://files.test", call.world.handle)


async def test_a_module_that_is_being_imported_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is listed before it has been executed, so a second request must not take it for a whole one."""
    begun, goes_on = threading.Event(), threading.Event()
    (tmp_path / "late_module.py").write_text(
        "from builtins import late\nlate[0].set()\nlate[1].wait(10)\nwhole = True\n"
    )
    monkeypatch.setattr("builtins.late", (begun, goes_on), raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    first = asyncio.ensure_future(load("late_module"))
    await asyncio.to_thread(begun.wait, 10)
    second = asyncio.ensure_future(load("late_module"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not second.done()
    goes_on.set()
    await asyncio.gather(first, second)
    assert sys.modules.pop("late_module").whole


# ---- lists


async def turns_during(work: asyncio.Future[Any]) -> int:
    """Return the turns of the event loop until a future is done."""
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_after_some_items_of_a_list_other_requests_go_on() -> None:
    turns = await turns_during(asyncio.ensure_future(in_steps(iter(range(3 * ITEMS_AT_ONCE + 1)))))
    assert turns - await turns_during(asyncio.ensure_future(in_steps(iter(range(1))))) == 3
    assert await in_steps(iter("abc")) == ["a", "b", "c"]


@contracts_that(lambda contract: "list" in contract.operations)
async def test_lists_of_jobs_are_made_in_steps(contract: Contract) -> None:
    mock, turns = Mock([contract], pace="instant"), dict[str, list[int]]()
    for more in (0, 0, 2 * ITEMS_AT_ONCE):
        for _ in range(more):
            await mock.submit(contract)
        requests = {path: mock.send("GET", path, host="localhost") for path in ("/_mock/jobs", "/_mock/ledger")}
        for name, request in requests.items():
            turns.setdefault(name, []).append(await turns_during(asyncio.ensure_future(request)))
    # The first one of each kind may have to load modules.
    for _, without, whole in turns.values():
        assert whole - without == 2


async def test_a_list_during_a_reset_has_the_jobs_that_it_has_reached(contract: Contract) -> None:
    mock = Mock([contract], pace="instant")
    for _ in range(3 * ITEMS_AT_ONCE):
        await mock.submit(contract)
    listed = asyncio.ensure_future(mock.send("GET", "/_mock/jobs", host="localhost"))
    while not listed.done():
        await asyncio.sleep(0)
        mock.world.reset(["jobs"])
    assert (await listed).status == 200
    assert len((await listed).json["jobs"]) <= ITEMS_AT_ONCE
