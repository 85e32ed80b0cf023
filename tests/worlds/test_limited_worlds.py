"""The limits of a key as its client meets them: requests, jobs, workers, rivals and money."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.limits import Limits
from tests.conftest import contracts_that
from tests.world import Mock, Reply, documented

pytestmark = pytest.mark.anyio


async def order(mock: Mock, contract: Contract) -> Reply:
    _, model, body = documented(contract)
    return await mock.call(contract, "submit", path={"model": model.id}, body=body)


def at_work(mock: Mock) -> int:
    """Return the number of running jobs."""
    now = mock.clock.now()
    return sum(job.stage(now).kind == "running" for job in mock.world.jobs.values())


async def test_excess_requests_are_refused_until_their_retry_after(contract: Contract) -> None:
    mock = Mock([contract], limits=Limits(requests_per_second=2.0))
    job = await mock.submit(contract)
    replies = [await mock.call(contract, "status", path={"job": job}) for _ in range(3)]
    refused = contract.operations["status"].situations["rate_limited"].status
    assert [reply.status == refused for reply in replies] == [False, True, True]
    wait = int(replies[-1].headers["retry-after"])
    assert wait == 1
    await mock.clock.advance(wait)
    assert (await mock.call(contract, "status", path={"job": job})).status < 300


async def test_a_key_is_not_limited_by_the_requests_of_another(contract: Contract) -> None:
    mock = Mock([contract], limits=Limits(requests_per_second=1.0))
    for key in ("one", "two"):
        await mock.submit(contract, key=key)


async def test_concurrent_jobs_are_limited(contract: Contract) -> None:
    mock = Mock([contract], limits=Limits(concurrent_jobs=2))
    for _ in range(2):
        assert (await order(mock, contract)).status < 300
    refused = await order(mock, contract)
    assert refused.status == contract.operations["submit"].situations["rate_limited"].status
    assert len(mock.world.jobs) == 2
    await mock.clock.advance(3_600)
    assert (await order(mock, contract)).status < 300


async def test_a_balance_runs_out_and_a_failed_job_is_refunded(contract: Contract) -> None:
    _, model, _ = documented(contract)
    mock = Mock([contract])
    await mock.submit(contract)
    (job,) = mock.world.jobs.values()
    price = job.cost
    mock.world.limit(Limits(balance=price * 2))
    assert (await order(mock, contract)).status < 300
    refused = await order(mock, contract)
    assert refused.reading is not None
    assert "insufficient_balance" in refused.reading.situations
    assert len(mock.world.jobs) == 2
    failure = contract.graph.ending("failure")
    assert failure is not None
    for name in contract.graph.path(contract.graph.initial, failure.name)[1:]:
        mock.world.transition(job, name)
    assert (await order(mock, contract)).status < 300
    await mock.clock.advance(3_600)
    assert mock.world.ledger().usd == price * 2
    assert (await order(mock, contract)).status >= 400


async def test_no_more_jobs_run_than_there_are_workers(contract: Contract) -> None:
    waits = contract.graph[contract.graph.initial].kind == "pending"
    mock = Mock([contract], limits=Limits(workers=2))
    for _ in range(7):
        await mock.submit(contract)
    ends = [job.finished for job in mock.world.jobs.values()]
    seen = set()
    while mock.clock.now() < max(ends):
        seen.add(at_work(mock))
        await mock.clock.advance(1.0)
    assert max(seen) == (2 if waits else 7)
    assert all(job.stage(mock.clock.now()).terminal for job in mock.world.jobs.values())
    free = Mock([contract])
    for _ in range(7):
        await free.submit(contract)
    assert max(ends) > max(job.finished for job in free.world.jobs.values())


@contracts_that(lambda contract: contract.graph[contract.graph.initial].cancellable)
async def test_a_job_behind_a_cancelled_one_starts_earlier(contract: Contract) -> None:
    mock = Mock([contract], limits=Limits(workers=1))
    first, second, third = [await mock.submit(contract) for _ in range(3)]
    before = mock.world.jobs[third].finished
    assert (await mock.call(contract, "cancel", path={"job": second})).status < 300
    after = mock.world.jobs[third].finished
    assert after < before
    await mock.clock.advance(after - mock.clock.now())
    assert mock.world.jobs[third].stage(mock.clock.now()).kind == "success"


@contracts_that(lambda contract: "queue_position" in contract.operations["status"].bindings)
async def test_the_place_in_the_queue_moves_down_and_with_rivals_up_too(contract: Contract) -> None:
    for rivals in (0, 9):
        mock = Mock([contract], limits=Limits(workers=1, rivals=rivals))
        for _ in range(3):
            last = await mock.submit(contract)
        places = []
        while True:
            reply = await mock.call(contract, "status", path={"job": last})
            assert reply.reading is not None
            if contract.graph.initial not in reply.reading.stages:
                break
            places.append(reply.reading.values["queue_position"])
            await mock.clock.advance(1.0)
        assert min(places) >= 0
        assert max(places) >= 2
        assert any(after > before for before, after in pairwise(places)) == bool(rivals)
        assert math.isfinite(mock.world.jobs[last].finished)


async def test_an_order_submitted_twice_is_a_duplicate_in_the_ledger(contract: Contract) -> None:
    mock = Mock([contract])
    first, second = await mock.submit(contract), await mock.submit(contract)
    ledger = mock.world.ledger()
    assert (ledger.billable, ledger.duplicates, ledger.usd) == (2, 1, Decimal(0))
    assert [entry.duplicate_of for entry in ledger.entries] == [None, first]
    await mock.clock.advance(3_600)
    assert mock.world.ledger().usd == sum(job.cost for job in mock.world.jobs.values())
    assert mock.world.ledger().entries[1].job == second
    mock.world.reset({"jobs"})
    assert mock.world.ledger().entries == ()
    with pytest.raises(ValueError, match="cannot reset 'everything'; allowed: jobs"):
        mock.world.reset({"everything"})
