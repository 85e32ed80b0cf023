"""From a job to its media: each video is made when it is first asked for, once, off the event loop, and kept."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from hobbyhorse.contract.request import Order
from hobbyhorse.media.scenery import placeholder
from hobbyhorse.media.video import VideoError, VideoSpec, digest, film, first_frame_jpeg
from hobbyhorse.server.files.cache import Cache
from hobbyhorse.server.files.image_sources import FetchPolicy
from hobbyhorse.server.files.image_store import ImageStore
from hobbyhorse.worlds.jobs import Job

__all__ = ["Renderer", "VideoError"]

Rendered = TypeVar("Rendered")


class Renderer:
    """Makes the media of jobs. Videos are kept in the cache, pictures as long as the studio.

    At most as many makers run at once as there are cores, and whoever asks for a video that is being made waits for it.
    """

    def __init__(self, cache: Cache, policy: FetchPolicy) -> None:
        self._pictures = tempfile.TemporaryDirectory(prefix="hobbyhorse-")
        self.gallery = ImageStore(Path(self._pictures.name), policy)
        self._cache = cache
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="film")
        self._making: dict[object, asyncio.Task[Path]] = {}
        self._names: dict[object, str] = {}

    async def video(self, job: Job) -> Path:
        """Return the job's MP4. Raises VideoError if it cannot be made this time."""
        return await self._once(job, "mp4", film)

    async def first_frame(self, job: Job) -> Path:
        """Return the first frame of the job's video as a JPEG."""
        return await self._once(job, "jpg", _still)

    def made(self, job: Job) -> Path | None:
        """Return the job's MP4 if somebody has asked for it before and it is still kept, or None."""
        name = self._names.get(_key(job, "mp4"))
        return None if name is None else self._cache.find(name)

    def forget(self, jobs: Iterable[Job]) -> None:
        """Forget which files are those of jobs; the files are kept."""
        for job in jobs:
            for kind in ("mp4", "jpg"):
                self._names.pop(_key(job, kind), None)

    async def _once(self, job: Job, kind: str, make: Callable[[VideoSpec, Path], object]) -> Path:
        """Return a file of a job, made by whoever asks first while the others wait."""
        key = _key(job, kind)
        name = self._names.get(key)
        if name is not None and (path := self._cache.find(name)) is not None:
            return path
        if (task := self._making.get(key)) is None:
            task = asyncio.get_running_loop().create_task(self._make(job, kind, make))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(task)

    async def _make(self, job: Job, kind: str, make: Callable[[VideoSpec, Path], object]) -> Path:
        shot, name = await self._run(partial(self._prepare, job, kind))
        self._names[_key(job, kind)] = name
        while (task := self._making.get(name)) is not None:
            await asyncio.shield(task)
        if (path := self._cache.find(name)) is not None:
            return path
        self._making[name] = task = asyncio.get_running_loop().create_task(self._film(shot, name, make))
        task.add_done_callback(lambda _: self._making.pop(name, None))
        return await task

    async def _film(self, shot: VideoSpec, name: str, make: Callable[[VideoSpec, Path], object]) -> Path:
        path = self._cache.path(name)
        await self._run(partial(make, shot, path))
        await self._run(self._cache.trim)
        return path

    def _prepare(self, job: Job, kind: str) -> tuple[VideoSpec, str]:
        """Return what is to be filmed, its pictures at hand, and the name of the file that comes out."""
        order = job.order
        shot = VideoSpec(
            task=order.model.task,
            first_frame=self._picture(order.first_frame) if order.first_frame else None,
            references=tuple(self._picture(name) for name in order.references),
            prompt=order.prompt,
            tier=tier(order),
            ratio=ratio(order),
            seconds=order.seconds,
            seed=job.seed,
            watermark=order.watermark,
            comment=f"{order.model.id}, {order.resolution}, {order.seconds} s, seed {job.seed}",
        )
        return shot, f"{digest(shot)}.{kind}"

    def _picture(self, name: str) -> bytes:
        """Return a picture of the gallery, or one that is drawn from its address."""
        return self.gallery.read(name) if self.gallery.has(name) else placeholder(name)

    async def _run(self, work: Callable[[], Rendered]) -> Rendered:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Stop what is being made and remove the pictures."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pictures.cleanup()


def _key(job: Job, kind: str) -> object:
    """Return what tells a job's file from every other: in worlds with the same seed, ids are the same."""
    return job.id, job.seed, job.order.identity, kind


def tier(order: Order) -> int:
    """Return the tier of a resolution such as `720p`; 1080 where there is none."""
    digits = re.match(r"\d+", order.resolution or "")
    return int(digits.group()) if digits else 1080


def ratio(order: Order) -> tuple[int, int] | None:
    """Return the sides of a ratio such as `16:9`; None where the first frame decides."""
    sides = re.fullmatch(r"(\d+):(\d+)", order.ratio or "")
    return (int(sides[1]), int(sides[2])) if sides else None


def _still(shot: VideoSpec, path: Path) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(first_frame_jpeg(shot))
    aside.replace(path)
