"""From a job to its media: each video is made when it is first asked for, once, off the event loop."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from hobbyhorse.contract.request import Order
from hobbyhorse.jobs import Job
from hobbyhorse.media.video import Shot, digest, film, first_frame_jpeg
from hobbyhorse.pictures import picture


class Studio:
    """Makes the media of jobs; the files live as long as the studio."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="hobbyhorse-")
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="film")
        self._making: dict[str, asyncio.Task[Path]] = {}

    async def video(self, job: Job) -> Path:
        """Return the job's MP4. Raises FilmError if it cannot be made."""
        shot = await self.shot(job)
        return await self._once(f"{digest(shot)}.mp4", partial(film, shot))

    async def first_frame(self, job: Job) -> Path:
        """Return the first frame of the job's video as a JPEG."""
        shot = await self.shot(job)
        return await self._once(f"{digest(shot)}.jpg", partial(_still, shot))

    async def shot(self, job: Job) -> Shot:
        """Return what the job's order asks to be filmed, its pictures at hand."""
        order = job.order
        first, _ = await picture(order.first_frame) if order.first_frame else (None, None)
        references = [(await picture(url))[0] for url in order.references]
        return Shot(
            task=order.model.task,
            first_frame=first,
            references=tuple(references),
            prompt=order.prompt,
            tier=tier(order),
            ratio=ratio(order),
            seconds=order.seconds,
            seed=job.seed,
            watermark=order.watermark,
            comment=job.id,
        )

    async def _once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return a file of the studio, made by whoever asks first while the others wait."""
        path = Path(self._directory.name) / name
        if path.exists():
            return path
        if (task := self._making.get(name)) is None:
            task = asyncio.get_running_loop().create_task(self._make(path, make))
            self._making[name] = task
            task.add_done_callback(lambda _: self._making.pop(name, None))
        return await asyncio.shield(task)

    async def _make(self, path: Path, make: Callable[[Path], object]) -> Path:
        await asyncio.get_running_loop().run_in_executor(self._pool, make, path)
        return path

    def close(self) -> None:
        """Stop what is being made and remove every file."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._directory.cleanup()


def tier(order: Order) -> int:
    """Return the tier of a resolution such as `720p`; 1080 where there is none."""
    digits = re.match(r"\d+", order.resolution or "")
    return int(digits.group()) if digits else 1080


def ratio(order: Order) -> tuple[int, int] | None:
    """Return the sides of a ratio such as `16:9`; None where the first frame decides."""
    sides = re.fullmatch(r"(\d+):(\d+)", order.ratio or "")
    return (int(sides[1]), int(sides[2])) if sides else None


def _still(shot: Shot, path: Path) -> None:
    path.write_bytes(first_frame_jpeg(shot))
