"""A fake in process with a kept state, which can be killed and started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.kept.keeper import Keeper
from hobbyhorse.server.kept.opening import open_state
from tests.conftest import CONTRACTS
from tests.server.control.plane import Plane
from tests.world import Mock


class Kept:
    """The running fake as a `Plane`, over one folder."""

    def __init__(self, folder: Path, contracts: Sequence[Contract] = CONTRACTS, seed: int = 0, **options: Any) -> None:
        self.folder, self.contracts, self.seed = folder, list(contracts), seed
        self.options = {"run": "a-run", **options}
        self.runs = 0
        self.keeper: Keeper | None = None
        self.start()

    @property
    def mock(self) -> Mock:
        return self.plane.mock

    def start(self) -> None:
        """Start a server on the state. Needs an event loop."""
        self.runs += 1
        self.keeper = open_state(str(self.folder), self.seed, self.contracts)
        options = {**self.options, "run": f"{self.options['run']}-{self.runs}"}
        self.plane = Plane(self.contracts, state=self.keeper, seed=self.seed, **options)
        fake = self.mock.fake
        self.keeper.start(fake.worlds, fake._services)
        fake._router = self.keeper.router(fake.worlds, fake._services, fake.forget, fake.metrics.figures)

    async def kill(self) -> None:
        """End the server without any of what a stop writes: only what was put into the store is there."""
        keeper, self.keeper = self.keeper, None
        assert keeper is not None
        self.mock.fake.worlds.close()
        if keeper._ticking is not None:
            keeper._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await keeper._ticking
        await keeper._store.close()
        self.mock.close()

    async def restart(self) -> None:
        """Kill the server, and start another one."""
        await self.kill()
        self.start()

    async def until_written(self) -> None:
        """Wait until everything is written that no response waits for."""
        assert self.keeper is not None
        self.keeper._write_changed()
        await self.keeper._store.until_kept(self.keeper._store.put_last)


@asynccontextmanager
async def kept(folder: Path, *contracts: Contract, **options: Any) -> AsyncIterator[Kept]:
    """Serve with a state in a folder while the context lasts."""
    server = Kept(folder / "state", contracts or CONTRACTS, **options)
    try:
        yield server
    finally:
        if server.keeper is not None:
            await server.kill()
