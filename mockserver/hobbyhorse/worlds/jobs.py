"""Jobs: an order, a timeline, and the values that answers show of them; knows no HTTP."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.lifecycle import Lasting, Stage, Timeline, reroute, stage_at
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.signed_links import LinkSigner

if TYPE_CHECKING:
    from hobbyhorse.scenarios.armed import ActiveScenario


class SubmittedRequest(NamedTuple):
    """A submission as it came: its address and its body."""

    url: str
    body: bytes


@dataclass(slots=True)
class Job:
    """One job of one world. Times are moments of the world's clock; `error` is (code, message) of a failure.

    A job is `held` while its pictures are still being looked at: it does not end before that is done. It is
    `collected` when its end was shown, in an answer or in a callback that was acknowledged. `play` is the scenario that
    it plays, `asked` its submission, unless that is large. Where workers are few, `begins` is when one takes it up, and
    `ahead` says how many are before it at a moment.
    """

    id: str
    contract: Contract
    order: Order
    timeline: Timeline
    seed: int
    error: tuple[str | None, str | None] = (None, None)
    held: bool = False
    collected: bool = False
    play: ActiveScenario | None = None
    asked: SubmittedRequest | None = None
    begins: float = 0.0
    ahead: Callable[[float], int] | None = None
    _moved: asyncio.Event | None = None

    @property
    def created(self) -> float:
        """When the job was accepted."""
        return self.timeline[0][0]

    @property
    def finished(self) -> float:
        """When the job has ended, or will have."""
        return self.timeline[-1][0]

    @property
    def ends(self) -> bool:
        """Whether the timeline leads to an end; a job that is stuck has none."""
        return self.contract.graph[self.timeline[-1][1]].terminal

    def show(self, stage: Stage) -> None:
        """Note that somebody was shown the job in a stage."""
        if stage.terminal:
            self.collected = True
        if self.play is not None:
            self.play.saw(stage)

    async def moved(self) -> None:
        """Return when the timeline has been changed."""
        if self._moved is None:
            self._moved = asyncio.Event()
        await self._moved.wait()

    def move(self, timeline: Timeline) -> None:
        """Go on along another timeline, and wake who waits for the end."""
        self.timeline = timeline
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    def stage(self, now: float) -> Stage:
        """Return the stage at a moment."""
        stage = self.contract.graph[stage_at(self.timeline, now)]
        waits = self.held and stage.terminal and stage.kind != "cancelled"
        return self.contract.graph[self.timeline[-2][1]] if waits else stage

    def release(self, now: float, message: str | None = None) -> None:
        """End the hold: the job goes on as planned, but not back in time, or fails with a message."""
        self.held = False
        graph = self.contract.graph
        end, failure = graph[self.timeline[-1][1]], graph.ending("failure")
        if end.kind == "cancelled":
            return
        if message is not None and failure is not None:
            self.error, end = (None, message), failure
        self.move(reroute(graph, self.timeline, max(now, self.finished), end.name))

    @property
    def expires(self) -> float | None:
        """When the job's media can no longer be fetched; None is never."""
        life = self.contract.retention.result_url
        return None if life is None else self.finished + life

    @property
    def cost(self) -> Decimal:
        """What the video costs in USD; only a job that succeeds is billed."""
        return self.order.model.cost(self.order.resolution, self.order.seconds)

    @property
    def curl(self) -> str:
        """The line of a shell that submits the same job; the key is taken from the variable API_KEY."""
        url, body = self.asked or ("URL", b"")
        key = next((f"{name}: {before}" for part, name, before in self.contract.security if part == "header"), "")
        content = shlex.quote(body.decode("utf-8", "replace")) if body else "@body.json"
        return (
            f'curl -X POST {shlex.quote(url)} -H {shlex.quote(key)}"$API_KEY" '
            f"-H 'content-type: application/json' --data-binary {content}"
        )


PACES = ("instant", "fast", "realistic")
MOST_KEPT = 8 * 1024
"""The largest submission that is kept with its job, in bytes."""
MOST_CACHED_LINKS = 1024
"""How many signed links are kept, so that a poll need not sign what the one before it signed."""


def pace(name: str, random: Random) -> Lasting:
    """Return how long stages last: not at all, tenths of a second, or as long as the provider's."""

    def lasting(stage: Stage) -> float:
        if name == "instant" or stage.terminal:
            return 0.0
        return random.uniform(0.1, 0.3) if name == "fast" else random.uniform(*stage.lasts)

    if name not in PACES:
        raise ValueError(f"pace {name!r}; allowed are {', '.join(PACES)}")
    return lasting


class MediaLinks(NamedTuple):
    """Makes the addresses of one world's media, as one request sees the server."""

    origin: str
    world: str
    signer: LinkSigner

    def url(self, job: Job, file: str) -> str:
        """Return the signed address of a job's file."""
        return self.origin + _signed(self.signer, f"/media/{self.world}/{job.id}/{file}", job.expires)


@lru_cache(maxsize=MOST_CACHED_LINKS)
def _signed(signer: LinkSigner, path: str, expires: float | None) -> str:
    """Return a path with its signature; a job's next poll asks for the same one."""
    return f"{path}?{signer.query(path, expires)}"


@dataclass(slots=True)
class JobView:
    """A job as one answer shows it: at a moment, under the addresses of the request that asks."""

    job: Job
    now: float
    stage: Stage
    base: str
    media: MediaLinks

    def lookup(self, name: str) -> Any:
        """Return the live value of a name, or MISSING."""
        if (value := VIEW_VALUES.get(name)) is not None:
            return value(self)
        return self.job.order.echoed.get(name, MISSING)


def _link(role: str) -> Callable[[JobView], Any]:
    def url(view: JobView) -> Any:
        operation = view.job.contract.operations.get(role)
        if operation is None or operation.link is None:
            return MISSING
        before, after = operation.link
        return f"{view.base}{before}{view.job.id}{after}"

    return url


def _media(file: str) -> Callable[[JobView], Any]:
    return lambda view: view.media.url(view.job, file) if view.stage.kind == "success" else MISSING


def _progress(view: JobView) -> Any:
    if view.stage.kind == "success":
        return 1.0
    span = view.job.finished - view.job.created
    return round(min(0.99, (view.now - view.job.created) / span), 2) if span > 0 else 0.0


def _queue_position(view: JobView) -> Any:
    """Return how many are ahead: fewer, the nearer the end of the wait."""
    if view.stage.kind != "pending" or len(view.job.timeline) < 2:
        return MISSING
    if view.job.ahead is not None:
        return view.job.ahead(view.now)
    began, ends = view.job.timeline[0][0], view.job.timeline[1][0]
    return int(4 * (ends - view.now) / (ends - began)) if ends > began else 0


def _started(view: JobView) -> Any:
    """Return when the first stage began in which somebody works on the job."""
    graph = view.job.contract.graph
    for moment, name in view.job.timeline:
        if graph[name].kind == "running":
            return moment if moment <= view.now else MISSING
    return MISSING


def _expires(view: JobView) -> Any:
    moment = view.job.expires if view.stage.terminal else None
    return MISSING if moment is None else moment


def _given(index: int) -> Callable[[JobView], Any]:
    return lambda view: MISSING if view.job.error[index] is None else view.job.error[index]


def _model_name(view: JobView) -> Any:
    return view.job.order.model.id


VIEW_VALUES: Mapping[str, Callable[[JobView], Any]] = {
    "job": lambda view: view.job.id,
    "model": _model_name,
    "status_url": _link("status"),
    "result_url": _link("result"),
    "cancel_url": _link("cancel"),
    "queue_position": _queue_position,
    "progress": _progress,
    "video_url": _media("video.mp4"),
    "first_frame_url": _media("first_frame.jpg"),
    "error_code": _given(0),
    "error_message": _given(1),
    "cost": lambda view: view.job.cost if view.stage.kind == "success" else MISSING,
    "created_at": lambda view: view.job.created,
    "started_at": _started,
    "finished_at": lambda view: view.job.finished if view.stage.terminal else MISSING,
    "expires_at": _expires,
    "elapsed": lambda view: view.job.finished - view.job.created if view.stage.terminal else MISSING,
}
"""The names of contracts/README.md that a job has a value for, and how it is found."""
