"""The lag of the event loop is observed from the start on, until the end."""

from __future__ import annotations

import asyncio
import time

import pytest

from hobbyhorse.server.metrics import loop_lag
from hobbyhorse.server.metrics.counters import LAG_BOUNDS, Histogram
from hobbyhorse.server.metrics.loop_lag import LoopLag

pytestmark = pytest.mark.anyio


async def test_a_loop_that_is_held_up_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "INTERVAL", 0.01)
    found = Histogram(LAG_BOUNDS)
    lag = LoopLag(found)
    lag.start()
    timer = lag._timer
    lag.start()
    assert lag._timer is timer, "a second start changes nothing"
    time.sleep(0.12)  # noqa: ASYNC251 - it holds the loop up
    await asyncio.sleep(0.05)
    assert found.total >= 0.1
    lag.close()
    lag.close()
    before = found.count
    await asyncio.sleep(0.03)
    assert found.count == before
