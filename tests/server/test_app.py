"""Every bad request is refused in the provider's own shape, is recorded, and creates no job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.reading import message_of, read_answer
from hobbyhorse.contract.request import MOST_BODY_BYTES
from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.server.request import ContractBroken
from tests.conftest import CONTRACTS
from tests.world import KEY, Mock, Reply, documented

pytestmark = pytest.mark.anyio

BY_KEY = {contract.key: contract for contract in CONTRACTS}


@dataclass(frozen=True)
class Bad:
    """A bad submission: its changes to the documented one, and the expected situation."""

    situation: str
    body: Callable[[Any], Any] = lambda body: body
    headers: tuple[tuple[str, str], ...] = ()
    key: str | None = KEY


BAD_SUBMISSIONS = {
    "no key": Bad("unauthenticated", key=None),
    "a blank key": Bad("unauthenticated", key="  "),
    "another scheme than Bearer": Bad("unauthenticated", headers=(("authorization", "Basic abc"),)),
    "a body that is not JSON": Bad("malformed_body", body=lambda body: b"{nope"),
    "an empty body": Bad("malformed_body", body=lambda body: b""),
    "a body that is a list": Bad("malformed_body", body=lambda body: [body]),
    "a body that is null": Bad("malformed_body", body=lambda body: b"null"),
    "a body that is not UTF-8": Bad("malformed_body", body=lambda body: b'{"a": "\xff"}'),
    "a body nested without end": Bad("malformed_body", body=lambda body: b'{"a":' + b"[" * 50_000),
    "another content type": Bad("unsupported_media_type", headers=(("content-type", "text/plain"),)),
    "a form": Bad("unsupported_media_type", headers=(("content-type", "application/x-www-form-urlencoded"),)),
    "a declared length over 64 MiB": Bad("body_too_large", headers=(("content-length", str(MOST_BODY_BYTES + 1)),)),
    "nothing in the object": Bad("invalid_request", body=lambda body: {}),
}


async def submit(mock: Mock, contract: Contract, bad: Bad) -> Reply:
    _, model, body = documented(contract)
    return await mock.call(
        contract, "submit", path={"model": model.id}, body=bad.body(body), headers=dict(bad.headers), key=bad.key
    )


@pytest.mark.parametrize("name", BAD_SUBMISSIONS)
async def test_a_bad_submission_is_refused_as_documented_recorded_and_creates_no_job(
    name: str, contract: Contract
) -> None:
    bad, mock = BAD_SUBMISSIONS[name], Mock([contract])
    reply = await submit(mock, contract, bad)
    expected = find_situation(contract.operations["submit"], bad.situation)
    assert expected is not None
    assert reply.status == expected.status
    assert reply.reading is not None
    assert expected.name in reply.reading.situations, reply.body
    assert not mock.world.jobs
    journal = list(mock.world.journal) + list(mock.fake.journal)
    assert [exchange.situation for exchange in journal] == [expected.name]
    assert journal[0].status == reply.status


async def test_only_the_named_keys_are_accepted_where_keys_are_named(contract: Contract) -> None:
    mock = Mock([contract], api_keys=frozenset({KEY}))
    refused = await submit(mock, contract, Bad("", key="another"))
    expected = find_situation(contract.operations["submit"], "key_refused")
    assert expected is not None
    assert refused.status == expected.status
    assert (await submit(mock, contract, Bad(""))).status == contract.operations["submit"].situations["accepted"].status


async def test_an_unknown_path_is_refused_in_the_providers_shape(contract: Contract) -> None:
    mock = Mock([contract])
    reply = await mock.send("GET", f"/{contract.key}/no/such/path")
    unrouted = contract.unrouted["unknown_path"]
    assert reply.status == unrouted.status
    assert not contract.schemas.violations(unrouted.schema, reply.json)
    assert [exchange.situation for exchange in mock.world.journal] == ["unknown_path"]


async def test_a_wrong_method_is_refused_with_the_methods_that_the_path_takes(contract: Contract) -> None:
    operation = contract.operations["status"]
    mock = Mock([contract])
    reply = await mock.send("DELETE", f"/{contract.key}{operation.path.replace('{', '').replace('}', '')}")
    unrouted = contract.unrouted.get("wrong_method", contract.unrouted["unknown_path"])
    assert reply.status == unrouted.status
    assert not contract.schemas.violations(unrouted.schema, reply.json)
    assert reply.headers["allow"] == "GET"


async def test_a_provider_is_served_by_host_header_with_links_to_that_host(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    path = operation.path
    for place in operation.bindings["model"].request:
        path = path.replace("{" + place.name + "}", model.id)
    for host in (contract.hosts[0], f"{contract.hosts[0]}:8443"):
        reply = await mock.send(
            "POST", path, body=orjson.dumps(body), headers={"content-type": "application/json"}, host=host
        )
        assert reply.status == operation.situations["accepted"].status
        reading = read_answer(contract.schemas, operation, reply.status, message_of([], reply.json))
        for name in ("status_url", "result_url", "cancel_url"):
            if name in reading.values:
                assert reading.values[name].startswith(f"http://{host}/")


async def test_every_link_in_a_response_leads_back_to_the_server(contract: Contract) -> None:
    mock = Mock([contract], public_url="https://mock.example/base/")
    operation, model, body = documented(contract)
    reply = await mock.call(contract, "submit", path={"model": model.id}, body=body)
    assert reply.reading is not None
    job = reply.reading.values["job"]
    await mock.clock.advance(3600)
    role = "result" if "result" in contract.operations else "status"
    result = await mock.call(contract, role, path={"job": job})
    assert result.reading is not None
    values = {**reply.reading.values, **result.reading.values}
    addresses = [values[name] for name in values if name.endswith("_url") and name != "callback_url"]
    assert "video_url" in values
    assert all(address.startswith("https://mock.example/base/") for address in addresses)


async def test_a_response_that_breaks_its_schema_stops_a_strict_server(contract: Contract) -> None:
    """The validation can fail: with a wrong schema for the response, it does."""
    mock = Mock([contract])
    situation = contract.operations["submit"].situations["accepted"]
    schemas = contract.schemas
    broken = replaced(
        schemas.document("openapi.json"),
        tuple(step.replace("~1", "/") for step in situation.schema.partition("#/")[2].split("/")),
        {"type": "integer"},
    )
    documents = {"openapi.json": broken}
    documents |= {model.schema_file: schemas.document(model.schema_file) for model in contract.models}
    object.__setattr__(contract, "schemas", type(schemas)(documents))
    try:
        with pytest.raises(ContractBroken, match="accepted"):
            await mock.submit(contract)
    finally:
        object.__setattr__(contract, "schemas", schemas)


async def test_the_journal_redacts_secrets_and_cuts_long_bodies(contract: Contract) -> None:
    mock = Mock([contract])
    _, model, body = documented(contract)
    long = {**body, "padding": "x" * 100_000}
    await mock.call(contract, "submit", path={"model": model.id}, body=long)
    exchange = next(iter(mock.world.journal))
    assert len(exchange.body) == 64 * 1024
    assert ("authorization", "[redacted]") in exchange.headers
    assert KEY not in repr(exchange.headers)


async def test_the_journal_forgets_the_oldest(contract: Contract) -> None:
    mock = Mock([contract])
    for _ in range(1_010):
        await mock.send("GET", f"/{contract.key}/nowhere")
    assert len(mock.world.journal) == 1_000
    assert mock.world.journal.total == 1_010


async def test_the_same_seed_and_the_same_calls_give_the_same_run(contract: Contract) -> None:
    bodies = []
    for _ in range(2):
        mock = Mock([contract], seed=7)
        job = await mock.submit(contract)
        seen = [job.encode()]
        for _ in range(8):
            await mock.clock.advance(20)
            seen.append((await mock.call(contract, "status", path={"job": job})).body)
        bodies.append(seen)
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("depth", [150, 255, 600, 1_000, 5_000])
@pytest.mark.anyio
async def test_json_however_deep_is_refused_in_the_providers_shape(contract: Contract, depth: int) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    inside = orjson.dumps(body)[:-1] + b',"deep":' + deep + b"}"
    for content in (deep, inside):
        reply = await mock.call(contract, "submit", path={"model": model.id}, body=content)
        assert reply.status < 500
        assert depth == 150 or reply.status >= 400
    assert len(mock.world.journal) == 2


@pytest.mark.anyio
async def test_a_forgotten_job_and_world_are_unknown(contract: Contract) -> None:
    mock = Mock([contract], keep_worlds=2, keep_jobs=2, pace="instant")
    jobs = [await mock.submit(contract) for _ in range(3)]
    for job, known in zip(jobs, (False, True, True), strict=True):
        reply = await mock.call(contract, "status", path={"job": job})
        assert reply.reading is not None
        assert ("unknown_job" in reply.reading.situations) is not known
    for key in ("another", "a third"):
        await mock.submit(contract, key=key)
    reply = await mock.call(contract, "status", path={"job": jobs[2]})
    assert reply.reading is not None
    assert "unknown_job" in reply.reading.situations
