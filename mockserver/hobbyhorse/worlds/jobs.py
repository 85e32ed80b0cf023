"""Jobs: an order, a timeline, and the values that responses show of them. No HTTP."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.lifecycle import Lasting, Stage, Timeline, reroute, stage_at
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.signed_links import LinkSigner

if TYPE_CHECKING:
    from hobbyhorse.scenarios.armed import ActiveScenario


class CallbackPlan(NamedTuple):
    """What the callback of a job needs beside the job: its id, and the origins of the links in it."""

    message_id: str
    base: str
    origin: str


class SubmittedRequest(NamedTuple):
    """A submission as received: URL and body."""

    url: str
    body: bytes


@dataclass(slots=True)
class Job:
    """One job of one world. Times are on the world's clock.

    `error` is the (code, message) of a failure. A job is `held` while its pictures are checked: it does not end before
    that. It is `collected` when its end was shown, in a response or in an acknowledged callback. `submission` is None
    if the body is larger than MOST_KEPT. With limited workers, `begins` is the moment at which one takes it, and
    `ahead` returns the number of jobs ahead of it at a moment. `number` counts the jobs of its world from 0. `callback`
    is None if none was scheduled; the job is `notified` when the first attempt to deliver it has begun. `counted` is
    the stage in which its table counts it, `order_hash` what its table compares; empty if it was not computed yet.
    """

    id: str
    contract: Contract
    order: Order
    timeline: Timeline
    seed: int
    error: tuple[str | None, str | None] = (None, None)
    held: bool = False
    collected: bool = False
    active_scenario: ActiveScenario | None = None
    submission: SubmittedRequest | None = None
    begins: float = 0.0
    ahead: Callable[[float], int] | None = None
    number: int = 0
    callback: CallbackPlan | None = None
    notified: bool = False
    counted: str = field(default="", compare=False)
    order_hash: bytes = field(default=b"", compare=False)
    _moved: asyncio.Event | None = None

    @property
    def created(self) -> float:
        """The time of acceptance."""
        return self.timeline[0][0]

    @property
    def finished(self) -> float:
        """The time of the timeline's last entry: the terminal stage, or the last stage of a stuck job."""
        return self.timeline[-1][0]

    @property
    def ends(self) -> bool:
        """Whether the timeline leads to a terminal stage. The timeline of a stuck job does not."""
        return self.contract.graph[self.timeline[-1][1]].terminal

    def show(self, stage: Stage) -> None:
        """Record that a response showed the job in a stage to the client."""
        if stage.terminal:
            self.collected = True
        if self.active_scenario is not None:
            self.active_scenario.record_stage(stage)

    async def moved(self) -> None:
        """Wait until the timeline changes."""
        if self._moved is None:
            self._moved = asyncio.Event()
        await self._moved.wait()

    def move(self, timeline: Timeline) -> None:
        """Replace the timeline, and wake the tasks that wait in `moved`."""
        self.timeline = timeline
        if self._moved is not None:
            self._moved.set()
            # Later waiters need a new event for the next change; current waiters have the old event.
            self._moved = None

    def stage(self, now: float) -> Stage:
        """Return the stage at time `now`."""
        stage = self.contract.graph[stage_at(self.timeline, now)]
        # A cancellation does not wait for the pictures, because the client wants no result.
        waits = self.held and stage.terminal and stage.kind != "cancelled"
        return self.contract.graph[self.timeline[-2][1]] if waits else stage

    def release(self, now: float, message: str | None = None) -> None:
        """End the hold: the job ends as planned, but not before `now`, or fails with a message."""
        self.held = False
        graph = self.contract.graph
        end, failure = graph[self.timeline[-1][1]], graph.ending("failure")
        # If the job was cancelled meanwhile, its pictures no longer matter.
        if end.kind == "cancelled":
            return
        if message is not None and failure is not None:
            self.error, end = (None, message), failure
        self.move(reroute(graph, self.timeline, max(now, self.finished), end.name))

    @property
    def expires(self) -> float | None:
        """The time at which the job's media links expire, or None if they never do."""
        life = self.contract.retention.result_url
        return None if life is None else self.finished + life

    @property
    def cost(self) -> Decimal:
        """The price of the video in USD. Only a successful job is billed."""
        return self.order.model.cost(self.order.resolution, self.order.seconds)

    @property
    def curl(self) -> str:
        """A shell command that submits the same job, with the key in the shell variable API_KEY."""
        url, body = self.submission or ("URL", b"")
        key = next((f"{name}: {before}" for part, name, before in self.contract.security if part == "header"), "")
        # A submission that was not kept is read from a file.
        content = shlex.quote(body.decode("utf-8", "replace")) if body else "@body.json"
        return (
            f'curl -X POST {shlex.quote(url)} -H {shlex.quote(key)}"$API_KEY" '
            f"-H 'content-type: application/json' --data-binary {content}"
        )


PACES = ("instant", "fast", "realistic")
# Bytes of the largest submission kept with its job: only the `curl` command needs it, and inline pictures are
# megabytes.
MOST_KEPT = 8 * 1024
# Signed links kept, so that a poll need not repeat the signature of the last one: two per job that is being polled.
MOST_CACHED_LINKS = 1024


def pace(name: str, random: Random, share: float = 1.0) -> Lasting:
    """Return the function that draws a stage's duration: 0, 0.1 to 0.3 s, or as the contract documents.

    `share` is the part of these durations that stages take.
    """

    def lasting(stage: Stage) -> float:
        if name == "instant" or stage.terminal:
            return 0.0
        return share * (random.uniform(0.1, 0.3) if name == "fast" else random.uniform(*stage.lasts))

    if name not in PACES:
        raise ValueError(f"'pace' is {name!r}; allowed: {', '.join(PACES)}")
    return lasting


class MediaLinks(NamedTuple):
    """Makes the media URLs of one world, under the origin at which a request reached the server."""

    origin: str
    world: str
    signer: LinkSigner

    def url(self, job: Job, file: str) -> str:
        """Return the signed URL of a job's file."""
        return self.origin + _signed(self.signer, f"/media/{self.world}/{job.id}/{file}", job.expires)


@lru_cache(maxsize=MOST_CACHED_LINKS)
def _signed(signer: LinkSigner, path: str, expires: float | None) -> str:
    """Return a path with its signature. Cached, because each poll of a job repeats the signature."""
    # Encoded, because an id may have characters that end a path; the signature covers the decoded path.
    return f"{quote(path)}?{signer.query(path, expires)}"


@dataclass(slots=True)
class JobView:
    """A job as one response shows it: at one time, with URLs under the origin of the request."""

    job: Job
    now: float
    stage: Stage
    base: str
    media: MediaLinks

    def lookup(self, name: str) -> Any:
        """Return the current value of a bound name, or MISSING."""
        if (value := VIEW_VALUES.get(name)) is not None:
            return value(self)
        return self.job.order.echoed.get(name, MISSING)


def _link(role: str) -> Callable[[JobView], Any]:
    def url(view: JobView) -> Any:
        operation = view.job.contract.operations.get(role)
        if operation is None or operation.link is None:
            return MISSING
        before, after = operation.link
        return f"{view.base}{before}{quote(view.job.id, safe='')}{after}"

    return url


def _media(file: str) -> Callable[[JobView], Any]:
    return lambda view: view.media.url(view.job, file) if view.stage.kind == "success" else MISSING


def _progress(view: JobView) -> Any:
    if view.stage.kind == "success":
        return 1.0
    started = _started(view)
    # A job that never ran, such as one that was cancelled while it waited, has made no progress.
    if started is MISSING:
        return 0.0
    span = view.job.finished - started
    # Never 1.0 before success, because a client may interpret 1.0 as the end.
    return round(min(0.99, (view.now - started) / span), 2) if span > 0 else 0.0


def _queue_position(view: JobView) -> Any:
    """Return the number of jobs ahead. Without a queue, it decreases from 4 to 0 during the pending stage."""
    if view.stage.kind != "pending" or len(view.job.timeline) < 2:
        return MISSING
    if view.job.ahead is not None:
        return view.job.ahead(view.now)
    began, ends = view.job.timeline[0][0], view.job.timeline[1][0]
    return int(4 * (ends - view.now) / (ends - began)) if ends > began else 0


def _started(view: JobView) -> Any:
    """Return the time at which the first running stage began, or MISSING."""
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
"""The bound names (contracts/README.md lists them) that have a live value, and the functions that return it."""
