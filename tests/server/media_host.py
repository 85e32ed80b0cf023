"""A client of the media host, and a count of renderings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock

import httpx
import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.media.video import VideoError, VideoSpec, film
from hobbyhorse.server.files import renderer
from tests.conftest import CONTRACTS
from tests.world import Mock

CONTRACT = next(contract for contract in CONTRACTS if contract.retention.result_url is not None)


class Host:
    """A mock with an HTTP client for its media."""

    def __init__(self, mock: Mock, client: httpx.AsyncClient) -> None:
        self.mock, self.client = mock, client

    async def video(self, contract: Contract = CONTRACT) -> str:
        """Run a job to its end; return the URL of its video."""
        job = await self.mock.submit(contract)
        await self.mock.clock.advance(3_600)
        role = "result" if "result" in contract.operations else "status"
        reply = await self.mock.call(contract, role, path={"job": job})
        assert reply.reading is not None
        return str(reply.reading.values["video_url"])


def count_renderings(
    monkeypatch: pytest.MonkeyPatch, fail: int = 0, make: Callable[[VideoSpec, Path], None] = film
) -> list[int]:
    """Return a list that gets the number of concurrent renderings at each start; the first `fail` of them fail."""
    lock, state = Lock(), {"now": 0, "failed": 0}
    seen: list[int] = []

    def counted(spec: VideoSpec, out: Path) -> None:
        with lock:
            state["now"] += 1
            seen.append(state["now"])
            if state["failed"] < fail:
                state["failed"] += 1
                state["now"] -= 1
                raise VideoError("ffmpeg was killed")
        try:
            make(spec, out)
        finally:
            with lock:
                state["now"] -= 1

    monkeypatch.setattr(renderer, "film", counted)
    return seen
