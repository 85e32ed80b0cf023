"""Each operation behaves as its contract documents, and sees the jobs of one key only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hobbyhorse.contract.forms.expressions import MISSING, format_pointer, replaced
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, find_situation
from tests.conftest import contracts_that
from tests.world import Mock, documented, order_of

pytestmark = pytest.mark.anyio


def lists_by(contract: Contract, name: str) -> bool:
    """Whether a contract's list has a parameter, such as a page number or a cursor."""
    return "list" in contract.operations and name in contract.operations["list"].bindings


async def test_an_unknown_model_is_refused(contract: Contract) -> None:
    operation, model, body = documented(contract)
    place = operation.bindings["model"].request[0]
    path = {"model": "no/such-model"}
    if place.part == "body":
        body = replaced(body, place.pointer, "no/such-model")
    mock = Mock([contract])
    reply = await mock.call(contract, "submit", path=path, body=body)
    expected = find_situation(operation, "unknown_model")
    assert expected is not None
    assert reply.status == expected.status
    assert b"no/such-model" in reply.body
    assert not mock.world.jobs


@pytest.mark.parametrize("job", ["no-such-job", "x" * 200, "%2e%2e", "0"])
async def test_an_unknown_job_is_refused_by_every_operation_that_takes_one(job: str, contract: Contract) -> None:
    mock = Mock([contract])
    for role in ("status", "result", "cancel"):
        if role in contract.operations:
            reply = await mock.call(contract, role, path={"job": job})
            assert reply.reading is not None
            assert "unknown_job" in reply.reading.situations


async def test_another_keys_job_is_refused_and_stays_as_it_was(contract: Contract) -> None:
    mock = Mock([contract])
    job = await mock.submit(contract)
    before = mock.world.jobs[job].timeline
    for role in ("status", "result", "cancel"):
        operation = contract.operations.get(role)
        if operation is not None:
            reply = await mock.call(contract, role, path={"job": job}, key="another")
            expected = find_situation(operation, "foreign_job")
            assert expected is not None
            assert reply.status == expected.status
            assert job.encode() not in reply.body
    assert mock.world.jobs[job].timeline == before


@contracts_that(lambda contract: "list" in contract.operations)
async def test_another_keys_jobs_are_not_listed(contract: Contract) -> None:
    mock = Mock([contract])
    job = await mock.submit(contract)
    mine = await mock.call(contract, "list")
    other = await mock.call(contract, "list", key="another")
    assert job.encode() in mine.body
    assert job.encode() not in other.body


@contracts_that(lambda contract: lists_by(contract, "page"))
async def test_the_pages_of_a_list_hold_every_job_once_newest_first(contract: Contract) -> None:
    operation = contract.operations["list"]
    assert operation.items is not None
    mock = Mock([contract])
    jobs = [await mock.submit(contract) for _ in range(7)]
    page, size = (operation.bindings[name].request[0].name for name in ("page", "size"))
    seen: list[Any] = []
    for number in (1, 2, 3, 4):
        reply = await mock.call(contract, "list", query=f"?{page}={number}&{size}=3")
        assert reply.reading is not None
        assert reply.reading.values["total"] == 7
        seen += [item["job"] for item in read_items(operation, message_of([], reply.json))]
    assert seen == jobs[::-1]


@contracts_that(lambda contract: lists_by(contract, "cursor"))
async def test_cursors_lead_through_every_job_once_even_while_jobs_are_added(contract: Contract) -> None:
    operation = contract.operations["list"]
    mock = Mock([contract])
    jobs = [await mock.submit(contract) for _ in range(7)]
    size, cursor = (operation.bindings[name].request[0].name for name in ("size", "cursor"))
    seen: list[Any] = []
    query = f"?{size}=3"
    while True:
        reply = await mock.call(contract, "list", query=query)
        assert reply.reading is not None
        seen += [item["job"] for item in read_items(operation, message_of([], reply.json))]
        if (following := reply.reading.values.get("next_cursor")) is None:
            break
        query = f"?{size}=3&{cursor}={following}"
        await mock.submit(contract)
    assert seen == jobs[::-1]
    refused = await mock.call(contract, "list", query=f"?{cursor}=nonsense")
    assert refused.reading is not None
    assert "invalid_request" in refused.reading.situations


@contracts_that(lambda contract: "list" in contract.operations)
async def test_a_list_without_a_size_is_a_page(contract: Contract) -> None:
    mock = Mock([contract])
    for _ in range(120):
        mock.world.submit(contract, order_of(contract))
    reply = await mock.call(contract, "list")
    assert 1 < len(read_items(contract.operations["list"], message_of([], reply.json))) <= 100


@contracts_that(lambda contract: lists_by(contract, "cursor"))
async def test_a_page_of_large_jobs_ends_early_and_its_cursor_goes_on(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.server.request.MOST_PAGE_BYTES", 1)
    operation, mock = contract.operations["list"], Mock([contract])
    jobs = [await mock.submit(contract) for _ in range(4)]
    seen, query, following = list[Any](), "", None
    for _ in jobs:
        reply = await mock.call(contract, "list", query=query)
        assert reply.reading is not None
        seen += [item["job"] for item in read_items(operation, message_of([], reply.json))]
        following = reply.reading.values.get("next_cursor")
        query = f"?{operation.bindings['cursor'].request[0].name}={following}"
    assert (seen, following) == (jobs[::-1], None)


@contracts_that(lambda contract: "list" in contract.operations)
async def test_a_list_is_written_in_turns_with_other_requests(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.server.request.MOST_TURN_BYTES", 1)
    mock = Mock([contract])
    for _ in range(15):
        mock.world.submit(contract, order_of(contract))
    listed = asyncio.ensure_future(mock.call(contract, "list"))
    for _ in range(10):
        assert not listed.done()
        await asyncio.sleep(0)
    # Meanwhile all jobs are forgotten: the list ends.
    mock.world.reset(("jobs",))
    other = await mock.submit(contract)
    reply = await listed
    found = [item["job"] for item in read_items(contract.operations["list"], message_of([], reply.json))]
    assert (reply.status, len(found) < 12, other in found) == (200, True, False)


@contracts_that(lambda contract: lists_by(contract, "page"))
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", ""])
async def test_an_invalid_page_number_is_refused(value: str, contract: Contract) -> None:
    operation = contract.operations["list"]
    page = operation.bindings["page"].request[0].name
    reply = await Mock([contract]).call(contract, "list", query=f"?{page}={value}")
    assert reply.reading is not None
    assert "invalid_request" in reply.reading.situations


async def test_a_job_that_has_ended_keeps_its_stage_forever(contract: Contract) -> None:
    mock = Mock([contract])
    job = await mock.submit(contract)
    await mock.clock.advance(86_400)
    first = await mock.call(contract, "status", path={"job": job})
    await mock.clock.advance(86_400)
    assert (await mock.call(contract, "status", path={"job": job})).body == first.body


async def test_a_missing_required_parameter_is_refused(contract: Contract) -> None:
    """A submission without a required member is refused, and the refusal names the member."""
    operation, model, body = documented(contract)
    schema = contract.schemas.document(model.schema_file)
    for name in schema["required"]:
        if operation.bindings["model"].request[0].pointer[-1:] == (name,):
            continue
        pointer = (*operation.model_parameters.pointer, name)
        mock = Mock([contract])
        reply = await mock.call(contract, "submit", path={"model": model.id}, body=replaced(body, pointer, MISSING))
        assert reply.reading is not None
        assert "invalid_request" in reply.reading.situations, format_pointer(pointer)
        assert name.encode() in reply.body
        assert not mock.world.jobs


@contracts_that(lambda contract: "redeliver" in contract.operations)
async def test_a_callback_that_there_is_not_cannot_be_requested(contract: Contract) -> None:
    mock = Mock([contract])
    job = await mock.submit(contract)
    expected = find_situation(contract.operations["redeliver"], "unknown_job")
    assert expected is not None
    for one in (job, "no-such-job"):
        assert (await mock.call(contract, "redeliver", path={"job": one})).status == expected.status


@contracts_that(lambda contract: "operator_cancel" in contract.operations)
async def test_what_is_for_operators_is_refused_and_changes_nothing(contract: Contract) -> None:
    mock = Mock([contract])
    job = await mock.submit(contract)
    expected = find_situation(contract.operations["operator_cancel"], "forbidden")
    assert expected is not None
    before = mock.world.jobs[job].timeline
    for one in (job, "no-such-job"):
        assert (await mock.call(contract, "operator_cancel", path={"job": one})).status == expected.status
    assert mock.world.jobs[job].timeline == before
