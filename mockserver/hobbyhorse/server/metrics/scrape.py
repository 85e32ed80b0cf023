"""One scrape: reads the figures of this process, adds those of the others, and writes them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hobbyhorse.server.metrics.counters import Counters, read_counters
from hobbyhorse.server.metrics.loop_lag import LoopLag
from hobbyhorse.server.request import load
from hobbyhorse.worlds.world import Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackDispatcher
    from hobbyhorse.server.files.renderer import Renderer
    from hobbyhorse.server.metrics.gauges import Gauges
    from hobbyhorse.server.worker.turns import Turns

EXPOSITION_MODULE = "hobbyhorse.server.metrics.exposition"
GAUGES_MODULE = "hobbyhorse.server.metrics.gauges"


@dataclass(slots=True)
class Metrics:
    """The figures of one server. The lag of its event loop is measured from the first scrape on."""

    counters: Counters
    worlds: Worlds
    uploads: Turns
    dispatcher: Callable[[], CallbackDispatcher | None]
    renderer: Callable[[], Renderer | None]
    others: Callable[[], Awaitable[Sequence[dict[str, Any]]]] = field(default_factory=lambda: _none)
    """Returns the `figures` of the other processes that serve with this one."""
    _lag: LoopLag = field(init=False)

    def __post_init__(self) -> None:
        self._lag = LoopLag(self.counters.lag)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the figures in the format that an Accept header asks for, and its media type."""
        await load(EXPOSITION_MODULE)
        counters, gauges = Counters(), await self._gauges()
        counters.add(self.counters)
        for figures in await self.others():
            counters.add(read_counters(figures["counters"]))
            gauges.add(sys.modules[GAUGES_MODULE].gauges_of(figures["gauges"]))
        found: tuple[bytes, str] = sys.modules[EXPOSITION_MODULE].exposition(counters, gauges, accept)
        return found

    async def figures(self) -> dict[str, Any]:
        """Return the figures of this process as JSON, for the process that is scraped."""
        gauges = await self._gauges()
        return {"counters": self.counters.to_json(), "gauges": gauges.to_json()}

    async def _gauges(self) -> Gauges:
        self._lag.start()
        await load(GAUGES_MODULE)
        found: Gauges = await sys.modules[GAUGES_MODULE].read_gauges(
            self.worlds, self.dispatcher(), self.renderer(), self.uploads
        )
        return found

    def close(self) -> None:
        """Stop the measurement."""
        self._lag.close()


async def _none() -> Sequence[dict[str, Any]]:
    return ()
