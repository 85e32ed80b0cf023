"""The gauges equal the state of every world."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.metrics import gauges
from hobbyhorse.server.metrics.gauges import Gauges, gauges_of, read_gauges
from hobbyhorse.server.worker.turns import Turns
from tests.world import Mock

pytestmark = pytest.mark.anyio


async def test_jobs_are_counted_by_their_present_stage(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "MOST_AT_ONCE", 2)
    mock = Mock([contract])
    for number in range(6):
        await mock.submit(contract, key=f"key-{number % 2}")
    for seconds in (0, 5, 1_000):
        await mock.clock.advance(seconds)
        now = mock.clock.now()
        found = await read_gauges(mock.fake.worlds, None, None, Turns())
        jobs = [job for world in mock.fake.worlds for job in world.jobs.values()]
        assert +found.jobs == Counter((contract.key, job.stage(now).name) for job in jobs)
    assert (found.worlds, found.journal_exchanges) == (2, 6)
    assert found.journal_bytes == sum(world.journal.kept_bytes for world in mock.fake.worlds) > 0


async def test_queues_and_images_are_those_of_the_parts(contract: Contract) -> None:
    mock, uploads = Mock([contract]), Turns()
    await uploads.take("key", 1)
    renderer = mock.fake.renderer()
    renderer.image_store.shelf.add("image", 7, "")
    found = await read_gauges(mock.fake.worlds, mock.fake.callback_dispatcher(), renderer, uploads)
    assert found.queues == {"clock": 0, "callbacks": 0, "renders": 0, "images": 0, "uploads": 1}
    assert (found.images, found.image_bytes) == (1, 7)


def test_gauges_survive_json() -> None:
    one = Gauges(worlds=1, jobs=Counter({("acme", "queued"): 2}), queues={"clock": 1}, image_bytes=3)
    assert gauges_of(json.loads(json.dumps(one.to_json()))) == one


def test_gauges_of_processes_can_be_added() -> None:
    one = Gauges(worlds=1, jobs=Counter({("acme", "queued"): 2}), queues={"clock": 1})
    one.add(Gauges(worlds=2, jobs=Counter({("acme", "queued"): 3}), journal_bytes=5, queues={"clock": 4, "renders": 1}))
    assert (one.worlds, one.jobs["acme", "queued"], one.journal_bytes) == (3, 5, 5)
    assert one.queues == {"clock": 5, "renders": 1}
