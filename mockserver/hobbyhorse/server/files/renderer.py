"""Render a job's files: each one once, on first use, off the event loop, and kept in the cache.

With `plain`, the prompt, the seed and the watermark of an order do not affect its video, so that a few renderings serve
any number of orders. The videos of different jobs still differ: a copy of each has the job's id in its last bytes.

A file is identified twice. `_key` identifies the file of a job, before anything is prepared: concurrent requests for
it share one task. The digest of everything that the file is rendered from is its name in the cache: two jobs with
equal orders and seeds share one file, and one rendering. Both are needed, because the digest is only known after the
images have been read.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from hobbyhorse.contract.request import Order
from hobbyhorse.media.scenery import placeholder
from hobbyhorse.media.video import WORK_FOLDER, VideoError, VideoSpec, digest, film, first_frame_jpeg
from hobbyhorse.scenarios.armed import last_boxes
from hobbyhorse.server.files.cache import Cache
from hobbyhorse.server.files.decoding import COMPOSE_SECONDS, compose_still
from hobbyhorse.server.files.image_sources import FetchPolicy
from hobbyhorse.server.files.image_store import ImageStore
from hobbyhorse.server.files.large_bodies import BODY_SECONDS, ReadBody, read_large_body
from hobbyhorse.server.files.scratch import ScratchDirectory
from hobbyhorse.server.metrics.counters import Counters
from hobbyhorse.server.worker.error import WorkerError
from hobbyhorse.server.worker.pool import WorkerPool
from hobbyhorse.server.worker.turns import Turns
from hobbyhorse.worlds.jobs import Job

__all__ = ["Renderer", "VideoError"]

Rendered = TypeVar("Rendered")
FileKey = tuple[str, int, str, str]
"""The identity of a job's file: the job's id and seed, a digest of its order, and the kind of the file."""
Make = Callable[[VideoSpec, Path], object]

# File names that are kept so that a further request for a job's file need not prepare its images again.
MOST_NAMES = 10_000


class Renderer:
    """Renders the files of jobs on at most one thread per core, and stores the input images until it is closed."""

    def __init__(
        self,
        cache: Cache,
        policy: FetchPolicy,
        plain: bool = False,
        counters: Counters | None = None,
        *,
        pictures: Path | None = None,
    ) -> None:
        """Make a renderer. The input images are kept in `pictures`; without it, they end with the renderer.

        They have the same bound as the videos in the cache.
        """
        self._image_directory = ScratchDirectory()
        self._counters = counters or Counters()
        self.workers = WorkerPool()
        directory = pictures or self._image_directory.path
        self.image_store = ImageStore(directory, policy, self.workers, self._counters, most_bytes=cache.most_bytes)
        self._turns = Turns()
        self._cache, self._plain = cache, plain
        # Threads, not processes: ffmpeg does the work in processes of its own, and worker processes decode pictures.
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="film")
        self._rendering: dict[object, asyncio.Task[Path]] = {}
        self._names: dict[FileKey, str] = {}

    @property
    def waiting(self) -> int:
        """The files that are being rendered or await their turn."""
        return self._turns.users

    async def video(self, job: Job, owner: str = "") -> Path:
        """Return the job's MP4, rendering it on first use, in a turn of its owner. Raises VideoError."""
        found = await self._once(job, "mp4", film, owner)
        return await self._run(partial(self._marked, found, job)) if self._is_marked(job) else found

    async def first_frame(self, job: Job, owner: str = "") -> Path:
        """Return the first frame of the job's video as a JPEG, rendering it on first use. Raises VideoError."""
        return await self._once(job, "jpg", _still, owner)

    async def try_video(self, job: Job, owner: str = "") -> Path | VideoError:
        """Do as `video`, but return the error, because a caller that names its class would import Pillow."""
        try:
            return await self.video(job, owner)
        except VideoError as error:
            return error

    async def try_first_frame(self, job: Job, owner: str = "") -> Path | VideoError:
        """Do as `first_frame`, but return the error."""
        try:
            return await self.first_frame(job, owner)
        except VideoError as error:
            return error

    async def read_body(self, owner: str, content_type: str | None, body: bytes) -> ReadBody:
        """Have a worker process read a large body, and keep its pictures with the images. Raises WorkerError."""
        work = (read_large_body, content_type, body, self._image_directory.path)
        found: ReadBody = await self.workers.run(owner, *work, seconds=BODY_SECONDS)
        return found

    def made(self, job: Job) -> Path | None:
        """Return the job's MP4 if it has been rendered and is still cached, or None."""
        name = self._names.get(_key(job, "mp4"))
        found = None if name is None else self._cache.find(name)
        return self._marked(found, job) if found is not None and self._is_marked(job) else found

    def forget(self, jobs: Mapping[str, Job]) -> None:
        """Forget the file names of jobs, given by id; the files stay in the cache."""
        # Over the names, which are bounded, and not over the jobs, of which only those with files are looked up.
        for key in [key for key in self._names if key[0] in jobs and key == _key(jobs[key[0]], key[-1])]:
            del self._names[key]

    async def _once(self, job: Job, kind: str, make: Make, owner: str) -> Path:
        """Return a file of a job. Concurrent calls share one rendering."""
        key = _key(job, kind)
        name = self._names.get(key)
        if name is not None and (path := self._cache.find(name)) is not None:
            return path
        if (task := self._rendering.get(key)) is None:
            task = asyncio.get_running_loop().create_task(self._find_or_render(job, kind, make, owner))
            self._rendering[key] = task
            task.add_done_callback(lambda _: self._rendering.pop(key, None))
        # Shielded: a client that disconnects must not cancel the rendering for the others.
        return await asyncio.shield(task)

    async def _find_or_render(self, job: Job, kind: str, make: Make, owner: str) -> Path:
        try:
            # As many turns as there are threads: another key's video waits for one rendering, not for a hundred.
            async with self._turns.of(owner, os.cpu_count() or 1):
                return await self._find_or_render_now(job, kind, make, owner)
        except OSError as error:
            # A full disk, for one. The message is a line: it ends up in the response.
            where = f"{error.filename}: " if error.filename else ""
            raise VideoError(f"{where}{error.strerror or error}") from error

    async def _find_or_render_now(self, job: Job, kind: str, make: Make, owner: str) -> Path:
        spec, name = await self._run(partial(self._prepare, job, kind))
        if len(self._names) >= MOST_NAMES:
            del self._names[next(iter(self._names))]
        self._names[_key(job, kind)] = name
        # Another job with the same digest may be rendering this very file.
        while (task := self._rendering.get(name)) is not None:
            await asyncio.shield(task)
        if (path := self._cache.find(name)) is not None:
            return path
        work = self._render(spec, name, make, owner if self._is_stored(job.order) else None)
        self._rendering[name] = task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self._rendering.pop(name, None))
        return await task

    async def _render(self, spec: VideoSpec, name: str, make: Make, owner: str | None) -> Path:
        """Render a file; with an owner, its pictures come from a client, and a worker process decodes them."""
        path = self._cache.path(name)
        began, outcome = perf_counter(), "failed"
        try:
            if owner is not None:
                spec = await self._composed(spec, owner)
            await self._run(partial(self._make, make, spec, path))
            outcome = "rendered"
        finally:
            self._counters.render(path.suffix.removeprefix("."), outcome, perf_counter() - began)
        await self._run(self._cache.trim)
        return path

    def _make(self, make: Make, spec: VideoSpec, path: Path) -> None:
        # The context of this thread; work of another server in this program has another one.
        token = WORK_FOLDER.set(self._image_directory.path)
        try:
            make(spec, path)
        finally:
            WORK_FOLDER.reset(token)

    async def _composed(self, spec: VideoSpec, owner: str) -> VideoSpec:
        """Return the specification with its first frame composed. Raises VideoError."""
        try:
            still = await self.workers.run(owner, compose_still, spec, seconds=COMPOSE_SECONDS)
        except WorkerError as error:
            raise VideoError(f"the pictures cannot be decoded: {error}") from None
        if isinstance(still, str):
            raise VideoError(still)
        return replace(spec, first_frame=None, references=(), still=still)

    def _is_stored(self, order: Order) -> bool:
        return any(self.image_store.has(name) for name in (order.first_frame or "", *order.references))

    def _prepare(self, job: Job, kind: str) -> tuple[VideoSpec, str]:
        """Return the specification of a job's video, with its images, and the file name in the cache."""
        order = job.order
        spec = VideoSpec(
            task=order.model.task,
            first_frame=self._image(order.first_frame) if order.first_frame else None,
            references=tuple(self._image(name) for name in order.references),
            prompt=order.prompt,
            tier=tier(order),
            ratio=ratio(order),
            seconds=order.seconds,
            seed=job.seed,
            watermark=order.watermark,
            comment=f"{order.model.id}, {order.resolution}, {order.seconds} s, seed {job.seed}, order {_digest(order)}",
        )
        if self._plain:
            spec = replace(spec, prompt="", seed=0, watermark=False, comment="")
        return spec, f"{digest(spec)}.{kind}"

    def _is_marked(self, job: Job) -> bool:
        return self._plain or bool(last_boxes(job.active_scenario))

    def _marked(self, video: Path, job: Job) -> Path:
        """Return a copy of a video with the job's id in its last box, making it on first use."""
        box = _free(job.id.encode(), last_boxes(job.active_scenario))
        name = f"{hashlib.sha256(box).hexdigest()}-{video.name}"
        if self._plain:
            path = self._image_directory.path / name
            if not path.exists():
                _write(path, video.read_bytes() + box)
        elif (found := self._cache.find(name)) is not None:
            path = found
        else:
            # A server runs for weeks: only the cache has a bound.
            path = self._cache.path(name)
            _write(path, video.read_bytes() + box)
            self._cache.trim()
        return path

    def _image(self, name: str) -> bytes:
        """Return a stored image, or a placeholder drawn from the name if it was not fetched, or had to go."""
        if self.image_store.has(name):
            with suppress(FileNotFoundError):
                return self.image_store.read(name)
        return placeholder(name)

    async def _run(self, work: Callable[[], Rendered]) -> Rendered:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Cancel pending renderings, abandon the work on pictures, and remove the stored images."""
        self.workers.close()
        # Without waiting: a rendering takes seconds, and nothing will read its file.
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._image_directory.cleanup()


def _free(content: bytes, form: str) -> bytes:
    """Return a `free` box, which players ignore (ISO/IEC 14496-12, 8.1.2), in a form that section 4.2 allows."""
    if form == "wide":
        return (1).to_bytes(4, "big") + b"free" + (16 + len(content)).to_bytes(8, "big") + content
    if form == "open":
        return bytes(4) + b"free" + content
    box = (8 + len(content)).to_bytes(4, "big") + b"free" + content
    return box + (8).to_bytes(4, "big") + b"free" if form == "bare" else box


def _key(job: Job, kind: str) -> FileKey:
    """Return the identity of a job's file. The id alone is not enough, because equal seeds give equal ids."""
    return job.id, job.seed, _digest(job.order), kind


def _digest(order: Order) -> str:
    """Return a short digest of an order, which makes the videos of different orders different files."""
    # The frames of an image-to-video job show its picture, not its prompt, so two prompts would give equal bytes.
    return hashlib.sha256(repr(order.identity).encode()).hexdigest()[:12]


def tier(order: Order) -> int:
    """Return the number in a resolution such as `720p`, or 1080 if the order has none."""
    digits = re.match(r"\d+", order.resolution or "")
    return int(digits.group()) if digits else 1080


def ratio(order: Order) -> tuple[int, int] | None:
    """Return the two numbers of a ratio such as `16:9`, or None if the first frame determines it."""
    sides = re.fullmatch(r"(\d+):(\d+)", order.ratio or "")
    return (int(sides[1]), int(sides[2])) if sides else None


def _still(spec: VideoSpec, path: Path) -> None:
    _write(path, first_frame_jpeg(spec))


def _write(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    # The cache is shared by processes and threads; their ids keep the temporary files apart.
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    aside.write_bytes(data)
    aside.replace(path)
