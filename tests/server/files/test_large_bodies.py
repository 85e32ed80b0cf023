"""A large body is read elsewhere, loses its pictures, and is the same order; the rest of it has a bound."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.server.files.large_bodies import (
    LONG_URI,
    MOST_INLINE_BYTES,
    MOST_REST_BYTES,
    MOST_SPOOLED,
    fingerprint_of,
    read_large_body,
    spooled_name,
)
from hobbyhorse.server.request import MOST_LARGE_BODIES_OF_KEY
from tests.conftest import contracts_that
from tests.media_samples import encoded
from tests.server.files.test_image_checks import FIRST, inline, taking
from tests.world import Mock, Reply, documented

pytestmark = pytest.mark.anyio

JSON = "application/json"
with_keys = contracts_that(lambda contract: contract.idempotency.key is not None)


def noise(side: int = 900) -> bytes:
    """Return a PNG that cannot be compressed: more than 2 MiB."""
    return encoded(Image.frombytes("RGB", (side, side), random.Random(side).randbytes(3 * side * side)))


def with_picture(contract: Contract, model: Model, url: str) -> dict[str, Any]:
    """Return the documented order of a model with another picture."""
    operation, _, body = documented(contract, model)
    places = model.parameters.get("first_frame") or model.parameters["references"]
    found: dict[str, Any] = replaced(body, (*operation.model_parameters.pointer, *places[0]), url)
    return found


# ---- the bound


@pytest.mark.parametrize(
    "value",
    [
        {"extra": [[]] * MOST_INLINE_BYTES},
        {f"{number}": 1 for number in range(MOST_INLINE_BYTES)},
        {"prompt": "p" * MOST_REST_BYTES},
        {"texts": ["t" * 100] * 2_700},
        {"p" * MOST_REST_BYTES: 1},
        {"data": "data:" + "x" * MOST_REST_BYTES},
        {"small": ["data:;base64," + "x" * 900] * 300},
        {"many": ["data:;base64," + "x" * LONG_URI] * (MOST_SPOOLED + 256)},
    ],
    ids=["lists", "members", "a text", "many texts", "a name", "no base64", "small URIs", "many URIs"],
)
def test_a_body_without_its_pictures_has_a_bound_whatever_its_bytes_are(value: Any, tmp_path: Path) -> None:
    found = read_large_body(JSON, orjson.dumps(value), tmp_path)
    assert isinstance(found.value, Refusal)
    assert found.value.situation == "body_too_large"
    assert any(f"at most {most};" in (found.value.message or "") for most in (MOST_INLINE_BYTES, MOST_REST_BYTES))
    assert "bound of the mock server" in (found.value.message or "")
    assert len(found.spooled) <= MOST_SPOOLED


def test_a_body_with_millions_of_members_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*how: object) -> None:
        raise AssertionError("the body is parsed")

    monkeypatch.setattr("hobbyhorse.server.files.large_bodies.read_body", fail)
    for body in (b"[" + b"1," * MOST_INLINE_BYTES, b"," * (MOST_INLINE_BYTES + 1), b'"' + b"," * MOST_INLINE_BYTES):
        assert isinstance(read_large_body(JSON, body, tmp_path).value, Refusal)


def assert_refused(mock: Mock, reply: Reply, why: str) -> None:
    """Assert that a submission was refused as too large, with a note that says why, and made no job."""
    assert reply.reading is not None
    assert {"body_too_large", "invalid_request"} & set(reply.reading.situations)
    (noted,) = list(mock.world.journal)
    assert any(why in note for note in noted.notes)
    assert not mock.world.jobs


async def test_a_body_over_the_bound_is_refused_and_nothing_of_it_is_kept(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    body = {**body, "extra": [inline(bytes(LONG_URI)), "x" * MOST_REST_BYTES]}
    reply = await mock.call(contract, operation.role, path={"model": model.id}, body=body)
    assert_refused(mock, reply, "bound of the mock server")
    assert not list(mock.fake.renderer()._image_directory.path.glob("*.uri"))


async def test_an_order_up_to_the_bound_is_kept_and_repeated_as_it_was_sent(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    given = {"texts": ["t" * 1_000] * 60}
    reply = await mock.call(contract, operation.role, path={"model": model.id}, body={**body, "metadata": given})
    assert reply.reading is not None
    if "accepted" in reply.reading.situations:
        (job,) = mock.world.jobs.values()
        assert job.order.echoed.get("metadata", given) == given


async def test_a_prompt_that_is_far_too_long_gets_the_refusal_of_the_provider(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    long = replaced(body, (*operation.model_parameters.pointer, *model.parameters["prompt"][0]), "p" * 100_000)
    reply = await mock.call(contract, operation.role, path={"model": model.id}, body=long)
    assert reply.reading is not None
    assert "body_too_large" not in reply.reading.situations


# ---- pictures


def test_a_long_data_uri_is_written_to_a_file(tmp_path: Path) -> None:
    uri = inline(bytes(LONG_URI))
    value = {"image": uri, "prompt": "p" * LONG_URI, "other": ["x", 1, None], "data": "data:" + "x" * LONG_URI}
    found = read_large_body(JSON, orjson.dumps(value), tmp_path)
    assert found.fingerprint == fingerprint_of(value)
    name = spooled_name(found.value["image"])
    assert name is not None
    assert found.spooled == {name: tmp_path / f"{name}.uri"}
    assert found.spooled[name].read_text() == uri
    assert found.value["image"] == f"data:image/png;base64,spooled+{name}"
    assert len(base64.b64decode(found.value["image"].partition(",")[2], validate=True)) == 30
    assert {**found.value, "image": uri} == value
    assert spooled_name(uri) is None


with_metadata = contracts_that(lambda contract: "metadata" in contract.operations["submit"].bindings)


@with_metadata
async def test_a_long_data_uri_that_responses_would_repeat_is_refused(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    body = {**body, "metadata": {"a": inline(bytes(MOST_INLINE_BYTES))}}
    reply = await mock.call(contract, operation.role, path={"model": model.id}, body=body)
    assert_refused(mock, reply, "may only be a picture")


def test_a_large_body_that_is_no_object_is_refused_as_any_other(tmp_path: Path) -> None:
    for content, kind, situation in ((b"[1]", JSON, "malformed_body"), (b"{}", "text/plain", "unsupported_media_type")):
        refused = read_large_body(kind, content, tmp_path).value
        assert isinstance(refused, Refusal)
        assert refused.situation == situation


@taking
async def test_an_order_with_a_large_inline_picture_is_an_order_like_any_other(
    contract: Contract, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*how: object) -> None:
        raise AssertionError("the body is parsed in the server's process")

    monkeypatch.setattr("hobbyhorse.server.request.read_body", fail)
    mock, data = Mock([contract]), noise()
    operation, _, _ = documented(contract, model)
    body = with_picture(contract, model, inline(data))
    reply = await mock.call(contract, operation.role, path={"model": model.id}, body=body)
    assert reply.reading is not None
    assert "accepted" in reply.reading.situations, reply.body
    (job,) = mock.world.jobs.values()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" in (job.order.first_frame, *job.order.references)
    assert len(repr(job.order)) < 100_000
    directory = mock.fake.renderer()._image_directory.path
    assert not list(directory.glob("*.uri"))


@with_keys
async def test_a_repeated_large_order_is_recognized_and_another_one_is_not(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, _ = documented(contract)
    place = contract.idempotency.key
    assert place is not None
    statuses = []
    for picture in (noise(900), noise(900), noise(901)):
        body = with_picture(contract, model, inline(picture))
        headers = {place.name: "one-key"} if place.part == "header" else {}
        body = body if headers else replaced(body, place.pointer, "one-key")
        reply = await mock.call(contract, operation.role, path={"model": model.id}, body=body, headers=headers)
        assert reply.reading is not None
        statuses.append(set(reply.reading.situations))
    assert "accepted" in statuses[0]
    assert len(mock.world.jobs) == 1
    if contract.idempotency.mode != "reject":
        assert "replayed" in statuses[1] or "accepted" in statuses[1]
        assert not statuses[2] & {"replayed", "accepted"}


async def test_the_name_of_another_requests_picture_means_nothing() -> None:
    contract, model = FIRST
    mock = Mock([contract])
    body = with_picture(contract, model, f"data:image/png;base64,spooled+{'0' * 32}")
    operation, _, _ = documented(contract, model)
    reply = await mock.call(contract, operation.role, path={"model": model.id}, body=body)
    assert reply.reading is not None
    assert "invalid_request" in reply.reading.situations


async def test_large_bodies_of_a_key_are_read_in_turns_and_polls_go_on() -> None:
    contract, model = FIRST
    mock = Mock([contract])
    operation, _, _ = documented(contract, model)
    job = await mock.submit(contract, key="other")
    body = orjson.dumps(with_picture(contract, model, inline(noise(1_500))))
    orders = [
        asyncio.ensure_future(mock.call(contract, operation.role, path={"model": model.id}, body=body))
        for _ in range(2 * MOST_LARGE_BODIES_OF_KEY)
    ]
    slowest, polls = 0.0, 0
    while not all(order.done() for order in orders):
        began = time.monotonic()
        await mock.call_plain(contract, "status", path={"job": job}, key="other")
        slowest, polls = max(slowest, time.monotonic() - began), polls + 1
        await asyncio.sleep(0.01)
    assert polls > 10
    assert slowest < 1.0, "no bound of quality: a busy machine stands still for half a second"
    assert len(mock.world.jobs) == len(orders)
    assert len(mock.fake._services.uploads) == 0
