"""The images of a submission: checked before the response if available, else fetched while the job is held.

An inline image or a fixture needs no network, so a bad one is a refusal of the submission. An image that must be
fetched may take seconds, and the response does not wait: the job is accepted and held, and a bad image fails the job.
An image on another machine is fetched only if its host is allowed; otherwise a placeholder stands in, and the journal
notes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hobbyhorse.contract.request import Order, Refusal, ValidRequest
from hobbyhorse.server.files.image_sources import Source, classify
from hobbyhorse.server.request import RENDERER_MODULE, OperationRequest, Services, load
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.world import World

if TYPE_CHECKING:
    from hobbyhorse.media.picture import PictureError
    from hobbyhorse.state.records import DueRecord

IMMEDIATE_SOURCES = frozenset({Source.INLINE, Source.FIXTURE})
DEFERRED_SOURCES = frozenset({Source.FETCH})
FETCHING = "fetching"
"""The kind of the due that fetches a job's images."""


@dataclass(frozen=True, slots=True)
class CheckedOrder:
    """An order whose immediate images are stored. `invalid_url` is the first URL that cannot be used at all."""

    order: Order
    to_fetch: bool
    invalid_url: str | None
    notes: tuple[str, ...]

    @property
    def pending(self) -> bool:
        """Whether the job must be held, to fetch an image or to fail."""
        return self.to_fetch or self.invalid_url is not None


async def check_images(call: OperationRequest, valid: ValidRequest) -> CheckedOrder | Refusal:
    """Store the immediate images of a submission, and note the images that will not be fetched."""
    order, notes = valid.order, list(valid.notes)
    urls = [url for url in (order.first_frame, *order.references) if url]
    sources = {url: classify(url, call.services.policy, call.origin) for url in urls}
    for url, source in sources.items():
        if source is Source.ELSEWHERE:
            notes.append(f"not fetched, a placeholder stands in: {url[:200]}")
    if IMMEDIATE_SOURCES & set(sources.values()):
        stored = await _store(call, order, IMMEDIATE_SOURCES)
        if not isinstance(stored, Order):
            return Refusal("invalid_request", str(stored), location(valid))
        order = stored
    invalid_url = next((url for url, source in sources.items() if source is Source.INVALID), None)
    return CheckedOrder(order, Source.FETCH in sources.values(), invalid_url, tuple(notes))


def location(valid: ValidRequest) -> tuple[str | int, ...]:
    """Return the location of the images in the documented form of a request."""
    model = valid.order.model
    places = model.parameters.get("first_frame") or model.parameters.get("references") or ((),)
    return ("body", *places[0])


@dataclass(frozen=True, slots=True)
class PictureFetch:
    """The fetch of a job's images, beside the job: its world, and the origin of the server as its client sees it."""

    services: Services
    world: World
    origin: str
    invalid_url: str | None

    @classmethod
    def of(cls, call: OperationRequest, checked: CheckedOrder) -> PictureFetch:
        """Return the fetch that a submission needs."""
        return cls(call.services, call.world, call.origin, checked.invalid_url)


def hold_until_fetched(call: OperationRequest, job: Job, checked: CheckedOrder) -> None:
    """Hold a job and schedule the fetching of its images."""
    job.held = True
    action = partial(fetch_images, PictureFetch.of(call, checked), job)
    # On the clock, not as a bare task, so that virtual time counts the fetch as work in progress.
    values = {"origin": call.origin, "invalid_url": checked.invalid_url}
    call.world.schedule(call.world.clock.now(), action, FETCHING, job, values)


def resume_fetch(services: Services, world: World, due: DueRecord) -> None:
    """Schedule the fetch of a job's images again that an earlier process has not completed."""
    job = world.jobs.get(due.job)
    if job is None or not job.held:
        world.forget_due(due.number)
    else:
        fetch = PictureFetch(services, world, due.values["origin"], due.values["invalid_url"])
        world.resume(due.moment, partial(fetch_images, fetch, job), due.number)


async def fetch_images(fetch: PictureFetch, job: Job) -> None:
    """Fetch a job's images and end its hold. The job fails if an image is not usable."""
    world = fetch.world
    if fetch.invalid_url is not None:
        message: str | None = f"{fetch.invalid_url[:120]!r} is neither an http(s) URL nor a data URI"
    else:
        await load(RENDERER_MODULE)
        store = fetch.services.renderer().image_store
        stored = await store.try_take(job.order, fetch.origin, DEFERRED_SOURCES, world.handle)
        message = None if isinstance(stored, Order) else str(stored)
        if isinstance(stored, Order):
            job.order = stored
    job.release(world.clock.now(), message)
    world.changed(job)


async def render_video(call: OperationRequest, job: Job) -> bool:
    """Render a job's video before anyone requests the file; return whether that succeeded."""
    await load(RENDERER_MODULE)
    return isinstance(await call.services.renderer().try_video(job, call.world.handle), Path)


async def _store(call: OperationRequest, order: Order, sources: frozenset[Source]) -> Order | PictureError:
    """Return the order with its images from the given sources stored, or the error of the first unusable image."""
    await load(RENDERER_MODULE)
    return await call.services.renderer().image_store.try_take(
        order, call.origin, sources, call.world.handle, spooled=call.spooled
    )
