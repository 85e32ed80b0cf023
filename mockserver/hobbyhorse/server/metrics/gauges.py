"""The present state of the server as figures: read at a scrape, so that nothing is counted in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hobbyhorse.worlds.world import Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackDispatcher
    from hobbyhorse.server.files.renderer import Renderer
    from hobbyhorse.server.worker.turns import Turns

# Jobs whose change of stage is accounted for before other requests have a turn: some 5 ms.
MOST_AT_ONCE = 1_000


@dataclass(slots=True)
class Gauges:
    """The state at one moment. `jobs` is by provider and stage, `queues` by name."""

    processes: int = 1
    worlds: int = 0
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    journal_bytes: int = 0
    journal_exchanges: int = 0
    armed: int = 0
    images: int = 0
    image_bytes: int = 0
    queues: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON, for another process."""
        return {**asdict(self), "jobs": [[*key, count] for key, count in self.jobs.items()]}

    def add(self, other: Gauges) -> None:
        """Add the state of another process that shares no worlds with this one."""
        for name in ("processes", "worlds", "journal_bytes", "journal_exchanges", "armed", "images", "image_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.jobs.update(other.jobs)
        for name, length in other.queues.items():
            self.queues[name] = self.queues.get(name, 0) + length


def gauges_of(value: Any) -> Gauges:
    """Return the gauges of `Gauges.to_json`."""
    return Gauges(**{**value, "jobs": Counter({(provider, stage): count for provider, stage, count in value["jobs"]})})


async def read_gauges(
    worlds: Worlds, dispatcher: CallbackDispatcher | None, renderer: Renderer | None, uploads: Turns
) -> Gauges:
    """Return the present state; parts that do not exist yet are None."""
    found = Gauges()
    due = 0
    for world in (worlds.keyless, *worlds):
        table = world.jobs
        if table.running:
            # It waits for nothing: other requests get a turn.
            while table.settle(world.clock.now(), MOST_AT_ONCE):  # noqa: ASYNC110
                await asyncio.sleep(0)
        for key, count in table.stages.items():
            found.jobs[key] += count
        journal = world.journal
        found.journal_bytes += journal.kept_bytes
        found.journal_exchanges += journal.in_memory
        found.armed += len(world.scenarios.armed)
        due += world.clock.waiting
        found.worlds += world is not worlds.keyless
    found.queues = {"clock": due, **_queues(dispatcher, renderer, uploads)}
    if renderer is not None:
        shelf = renderer.image_store.shelf
        found.images, found.image_bytes = len(shelf), shelf.total
    return found


def _queues(dispatcher: CallbackDispatcher | None, renderer: Renderer | None, uploads: Turns) -> dict[str, int]:
    """Return the length of each queue by its name."""
    return {
        "callbacks": 0 if dispatcher is None else dispatcher.waiting,
        "renders": 0 if renderer is None else renderer.waiting,
        "images": 0 if renderer is None else renderer.image_store.waiting,
        "uploads": uploads.users,
    }
