"""One scrape: reads the figures of this process and writes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from hobbyhorse.server.metrics.counters import Counters
from hobbyhorse.server.metrics.gauges import read_gauges
from hobbyhorse.server.metrics.loop_lag import LoopLag
from hobbyhorse.server.request import load
from hobbyhorse.worlds.world import Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackDispatcher
    from hobbyhorse.server.files.renderer import Renderer
    from hobbyhorse.server.worker.turns import Turns

EXPOSITION_MODULE = "hobbyhorse.server.metrics.exposition"


@dataclass(slots=True)
class Metrics:
    """The figures of one server. The lag of its event loop is measured from the first scrape on."""

    counters: Counters
    worlds: Worlds
    uploads: Turns
    dispatcher: Callable[[], CallbackDispatcher | None]
    renderer: Callable[[], Renderer | None]
    _lag: LoopLag = field(init=False)
    _version: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._lag = LoopLag(self.counters.lag)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the figures in the format that an Accept header asks for, and its media type."""
        self._lag.start()
        await load(EXPOSITION_MODULE)
        # Reading it takes 3 ms, more than all the rest.
        self._version = self._version or version("hobbyhorse")
        gauges = await read_gauges(self.worlds, self.dispatcher(), self.renderer(), self.uploads)
        exposition = sys.modules[EXPOSITION_MODULE].exposition
        found: tuple[bytes, str] = exposition(self.counters, gauges, self._version, accept)
        return found

    def close(self) -> None:
        """Stop the measurement."""
        self._lag.close()
