"""The live view says that something has changed, once, and ends with the server."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.server.ui import live
from hobbyhorse.server.ui.live import changes, shared, state_of
from tests.world import Mock

pytestmark = pytest.mark.anyio
EVENT = b"event: change\ndata: 0\n\n"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAUSE", 0.001)


@pytest.mark.usefixtures("quick")
async def test_a_change_is_one_event() -> None:
    stopping, states = asyncio.Event(), iter([1, 1, 2, 2, 3, None])
    stream = changes(lambda: next(states), stopping)
    found = [event async for event in stream]
    assert found[0].endswith(EVENT)
    assert found[1:] == [EVENT, EVENT, EVENT], "2, 3, and the end of the world"


@pytest.mark.usefixtures("quick")
async def test_a_quiet_world_shows_that_the_connection_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "QUIET", 0.0)
    stopping = asyncio.Event()
    stream = changes(lambda: 1, stopping)
    await anext(stream)
    assert (await anext(stream)).startswith(b":")
    stopping.set()
    # One more may have been under way.
    assert len([event async for event in stream]) <= 1


def test_many_pages_share_one_reading_of_each_pause() -> None:
    moments, readings = [0.0], list[float]()

    def read() -> Hashable:
        readings.append(moments[0])
        return moments[0]

    found = shared(read, lambda: moments[0])
    for moment in (0.0, 0.1, live.PAUSE, live.PAUSE, 1.9 * live.PAUSE, 2 * live.PAUSE):
        moments[0] = moment
        assert [found(), found()] == [readings[-1]] * 2
    assert readings == [0.0, live.PAUSE, 2 * live.PAUSE]


async def test_the_stop_of_the_server_ends_the_stream_at_once() -> None:
    stopping = asyncio.Event()
    stream = changes(lambda: 1, stopping)
    await anext(stream)
    stopping.set()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(stream), live.PAUSE * 40)


async def test_whatever_a_page_shows_is_in_the_record(contract: Contract) -> None:
    mock = Mock([contract])
    dispatcher = mock.fake.callback_dispatcher()
    world = mock.world

    seen: list[Hashable] = [state_of(world, dispatcher)]

    def has_changed() -> bool:
        seen.append(state_of(world, dispatcher))
        return seen[-1] != seen[-2]

    assert not has_changed()
    await mock.submit(contract)
    assert has_changed()
    await mock.clock.advance(1_000)
    assert has_changed()
    world.scenarios.arm(read_scenario({"moves": {"status": [{"move": "reset_peer"}]}}), [contract])
    assert has_changed()
    world.clock.set_speed(3)
    assert has_changed()
    world.label = "a name"
    assert has_changed()
    world.reset(("jobs",))
    assert has_changed()


async def test_a_job_beyond_the_first_page_is_watched_if_it_is_shown(contract: Contract) -> None:
    mock = Mock([contract])
    first = await mock.submit(contract)
    await mock.clock.advance(0)
    for _ in range(live.NEWEST):
        await mock.submit(contract)
    dispatcher = mock.fake.callback_dispatcher()
    before = [state_of(mock.world, dispatcher, name) for name in (None, first)]
    mock.world.cancel(mock.world.jobs[first])
    job = mock.world.jobs[first]
    if job.stage(mock.clock.now()).kind == "cancelled":
        after = [state_of(mock.world, dispatcher, name) for name in (None, first)]
        assert (before[0] == after[0], before[1] == after[1]) == (True, False)
