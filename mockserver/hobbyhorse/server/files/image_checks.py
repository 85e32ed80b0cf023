"""Looking at a submission's pictures: what can be told at once is told at once, what must be fetched holds the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hobbyhorse.contract.request import Order, Refusal, ValidRequest
from hobbyhorse.server.files.image_sources import Source, tell
from hobbyhorse.server.request import OperationRequest
from hobbyhorse.worlds.jobs import Job

if TYPE_CHECKING:
    from hobbyhorse.media.picture import PictureError

IMMEDIATE_SOURCES = frozenset({Source.INLINE, Source.OWN})
LATER = frozenset({Source.FETCH})


@dataclass(frozen=True, slots=True)
class CheckedOrder:
    """An order whose pictures were looked at: some may have still to be fetched, one may be no picture at all."""

    order: Order
    to_fetch: bool
    nonsense: str | None
    notes: tuple[str, ...]

    @property
    def pending(self) -> bool:
        """Whether the job must not end yet."""
        return self.to_fetch or self.nonsense is not None


async def look(call: OperationRequest, understood: ValidRequest) -> CheckedOrder | Refusal:
    """Take in the pictures that are at hand, and note those that will not be fetched."""
    order, notes = understood.order, list(understood.notes)
    pictures = [url for url in (order.first_frame, *order.references) if url]
    sources = {url: tell(url, call.policy, call.origin) for url in pictures}
    for url, source in sources.items():
        if source is Source.ELSEWHERE:
            notes.append(f"not fetched, a placeholder stands in: {url[:200]}")
    if IMMEDIATE_SOURCES & set(sources.values()):
        taken = await _take(call, order, IMMEDIATE_SOURCES)
        if not isinstance(taken, Order):
            return Refusal("invalid_request", str(taken), location(understood))
        order = taken
    nonsense = next((url for url, source in sources.items() if source is Source.NONSENSE), None)
    return CheckedOrder(order, Source.FETCH in sources.values(), nonsense, tuple(notes))


def location(understood: ValidRequest) -> tuple[str | int, ...]:
    """Return where the pictures stand in the documented form of a request."""
    model = understood.order.model
    places = model.parameters.get("first_frame") or model.parameters.get("references") or ((),)
    return ("body", *places[0])


def hold(call: OperationRequest, job: Job, looked: CheckedOrder) -> None:
    """Hold a job until its pictures are fetched, which begins now."""
    job.held = True

    async def action() -> None:
        await fetch(call, job, looked)

    call.world.clock.at(call.world.clock.now(), action)


async def fetch(call: OperationRequest, job: Job, looked: CheckedOrder) -> None:
    """Fetch a job's pictures; the job fails if one of them cannot be used."""
    if looked.nonsense is not None:
        job.release(call.world.clock.now(), f"{looked.nonsense[:120]!r} is no http(s) address and no data URI")
        return
    taken = await _take(call, job.order, LATER)
    if isinstance(taken, Order):
        job.order = taken
        job.release(call.world.clock.now())
    else:
        job.release(call.world.clock.now(), str(taken))


async def make_video(call: OperationRequest, job: Job) -> bool:
    """Make a job's video before anybody asks for it; whether that succeeded this time."""
    from hobbyhorse.server.files.renderer import VideoError  # noqa: PLC0415 - the studio is loaded only when it is needed

    try:
        await call.studio().video(job)
    except VideoError:
        return False
    return True


async def _take(call: OperationRequest, order: Order, sources: frozenset[Source]) -> Order | PictureError:
    """Take in an order's pictures from some sources; return what is wrong with the first that cannot be used."""
    from hobbyhorse.media.picture import PictureError  # noqa: PLC0415 - pillow stays off the way to readiness

    try:
        return await call.studio().gallery.take(order, call.origin, sources)
    except PictureError as error:
        return error
