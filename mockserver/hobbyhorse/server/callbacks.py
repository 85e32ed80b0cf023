"""Callbacks: told when a job has ended, signed as the contract says, tried again until acknowledged."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson

from hobbyhorse.clock.quiescence import awaiting_response, together, unheld
from hobbyhorse.clock.race import first_of
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.forms.ids import ID_FORMS
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET, sign
from hobbyhorse.contract.values import Callbacks, Situation
from hobbyhorse.scenarios.moves import CALLBACK
from hobbyhorse.scenarios.scenario import payload_places
from hobbyhorse.worlds.jobs import Job, JobView, MediaLinks
from hobbyhorse.worlds.world import World

MOST_ATTEMPTS_KEPT = 1_000
AGAIN = 0
"""The number of a delivery that was asked for by hand."""
OUT_OF_ORDER_SECONDS = 60.0
"""How long a callback waits for another one to come first, at most."""
LATE_SECONDS, OLDER_SECONDS, COUNT = 60.0, 60.0, 2
WRONG_SECRET = "whsec_d3Jvbmc="
GENUINE = "genuine"
LEAST_REAL_SECONDS = 60.0
"""How long, in real time, an answer is waited for at least where the deadline is on a world's clock."""
HELD_SECONDS = 0.05
"""How soon to look again at a job that should have ended but is held."""


@dataclass(frozen=True, slots=True)
class CallbackAttempt:
    """One delivery: when (clock), of which job, where to, what was sent, and the answer's status or the error.

    `note` says what a scenario has made of it. `kind` is `genuine`, or why its receiver must not act on it: `forged`,
    `stale`, `unsigned`, `unknown_job`; of which job it is then says in whose stead it came. `answered` is the moment
    (clock) when the receiver's answer was there, None if none came. `world` is the handle of the job's world.
    """

    moment: float
    job: str
    number: int
    url: str
    headers: dict[str, str]
    body: bytes
    status: int | None
    error: str | None
    note: str = ""
    kind: str = GENUINE
    answered: float | None = None
    world: str = ""

    @property
    def false(self) -> bool:
        """Whether its receiver is not to believe it."""
        return self.kind != GENUINE

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class QueuedCallback:
    """A message that is on its way: its id stays the same over all attempts."""

    world: World
    job: Job
    base: str
    media: MediaLinks
    message_id: str


class CallbackDispatcher:
    """Delivers callbacks; `secret` signs them, None leaves them unsigned where the contract allows that."""

    def __init__(self, secret: str | None = DEFAULT_SECRET) -> None:
        self.secret = secret
        self._told: set[tuple[str, str]] = set()
        self._waiting: list[QueuedCallback] = []
        self._deliveries: dict[tuple[str, str], QueuedCallback] = {}
        self.attempts: deque[CallbackAttempt] = deque(maxlen=MOST_ATTEMPTS_KEPT)
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False)

    def schedule(self, world: World, job: Job, base: str, media: MediaLinks) -> None:
        """Have the end of a job told when it comes; nothing where nobody asked for it."""
        if job.contract.callbacks is None or "callback_url" not in job.order.echoed:
            return
        message_id = str(uuid.UUID(int=world.random.getrandbits(128), version=4))
        self._deliveries[world.handle, job.id] = delivery = QueuedCallback(world, job, base, media, message_id)
        if job.ends:
            self._plan(delivery, job.finished, 1)

    def told_of(self, world: World, job: Job) -> None:
        """Plan the callback of a job whose timeline was changed, if anybody asked for it."""
        key = (world.handle, job.id)
        delivery = self._deliveries.get(key)
        if delivery is not None and job.ends and key not in self._told:
            self._plan(delivery, job.finished, 1)

    def redeliver(self, world: World, job: Job) -> None:
        """Deliver a job's callback once more, now. Raises LookupError if there is none to deliver."""
        delivery = self._deliveries.get((world.handle, job.id))
        if delivery is None:
            raise LookupError(f"the job {job.id!r} asked for no callback")
        if not job.stage(world.clock.now()).terminal:
            raise LookupError(f"the job {job.id!r} has not ended; its callback is sent when it has")
        self._told.add((world.handle, job.id))
        self._plan(delivery, world.clock.now(), AGAIN)

    def of(self, world: World) -> list[CallbackAttempt]:
        """Return every delivery that was tried for a job that a world has."""
        return [attempt for attempt in self.attempts if attempt.world == world.handle and attempt.job in world.jobs]

    def forget(self, world: World) -> None:
        """Forget what was and what is to be delivered for a world's jobs."""
        for key in [key for key in self._deliveries if key[0] == world.handle]:
            del self._deliveries[key]
        self._told = {key for key in self._told if key[0] != world.handle}
        self._waiting = [delivery for delivery in self._waiting if delivery.world is not world]
        if any(attempt.world == world.handle for attempt in self.attempts):
            kept = [attempt for attempt in self.attempts if attempt.world != world.handle]
            self.attempts = deque(kept, maxlen=MOST_ATTEMPTS_KEPT)

    def _plan(self, delivery: QueuedCallback, moment: float, number: int) -> None:
        async def action() -> None:
            await self._attempt(delivery, number)

        delivery.world.clock.at(moment, action)

    async def _attempt(self, delivery: QueuedCallback, number: int) -> None:
        """Deliver a callback, unless its job has not ended or was told of already."""
        job, world = delivery.job, delivery.world
        now = world.clock.now()
        if world.jobs.get(job.id) is not job or not job.ends:
            return
        if not job.stage(now).terminal:
            self._plan(delivery, max(job.finished, now + HELD_SECONDS), number)
        elif number != 1:
            await self._deliver(delivery, number)
        elif (key := (world.handle, job.id)) not in self._told:
            self._told.add(key)
            await self._first(delivery)

    async def _first(self, delivery: QueuedCallback) -> None:
        """Deliver a callback for the first time, as the job's scenario has it."""
        move = delivery.job.active_scenario.take(CALLBACK) if delivery.job.active_scenario is not None else None
        if move is None:
            await self._deliver(delivery, 1)
        else:
            await _MOVES[move.kind](self, delivery, move.options)
        waiting, self._waiting = self._waiting, []
        for other in waiting:
            if other is delivery or other.world is not delivery.world:
                self._waiting.append(other)
            else:
                await self._deliver(other, 1, note="out of order")

    async def _deliver(self, delivery: QueuedCallback, number: int, **how: Any) -> None:
        """Post a callback, note it, and plan the next try if it was not acknowledged."""
        callbacks, now = delivery.job.contract.callbacks, delivery.world.clock.now()
        stage = delivery.job.stage(now)
        told = callbacks.situations.values() if callbacks else ()
        situation = next((situation for situation in told if stage.name in situation.stages), None)
        if callbacks is None or situation is None:
            return
        attempt = await self._post(callbacks, situation, delivery, number, now, **how)
        self.attempts.append(attempt)
        if attempt.false:
            return
        if attempt.acknowledged:
            delivery.job.show(stage)
        elif AGAIN < number <= len(callbacks.retries):
            self._plan(delivery, now + callbacks.retries[number - 1], number + 1)

    async def _post(
        self,
        callbacks: Callbacks,
        situation: Situation,
        delivery: QueuedCallback,
        number: int,
        now: float,
        *,
        secret: str | None = None,
        signed: bool = True,
        older: float = 0.0,
        note: str = "",
        kind: str = GENUINE,
        payload: bool = True,
        instead: QueuedCallback | None = None,
    ) -> CallbackAttempt:
        job, told = delivery.job, instead or delivery
        view = JobView(told.job, now, told.job.stage(now), told.base, told.media)
        body = situation.template.write(view.lookup)
        if not payload:
            body = _without_payload(callbacks, body)
        headers = {"content-type": "application/json"}
        secret = secret or self.secret
        if callbacks.signature is not None and secret and signed:
            stamp = int(now - older)
            headers |= sign(callbacks.signature, secret, body, timestamp=stamp, message_id=told.message_id)
        url = str(job.order.echoed["callback_url"])
        status, error, answered = None, None, None
        try:
            status = await self._answer(delivery.world, url, body, headers, callbacks.deadline)
            answered = delivery.world.clock.now()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return CallbackAttempt(
            now, job.id, number, url, headers, body, status, error, note, kind, answered, delivery.world.handle
        )

    async def _answer(self, world: World, url: str, body: bytes, headers: Mapping[str, str], deadline: float) -> int:
        """Post, and return the answer's status. Raises what httpx raises, and TimeoutError.

        The deadline is in real time, or on the clock of a world whose clients read that.
        """
        clock, found = world.clock, []
        until = clock.now() + deadline

        async def post() -> None:
            bound = max(deadline, LEAST_REAL_SECONDS) if world.virtual else deadline
            more = {"trace": awaiting_response()}
            answer = await self._client.post(url, content=body, headers=headers, timeout=bound, extensions=more)
            found.append(answer.status_code)

        async def passes() -> None:
            with unheld():
                await clock.sleep_until(until)

        await (first_of(post(), passes()) if world.virtual else post())
        if not found:
            raise TimeoutError(f"no answer within {deadline:g} s")
        return found[0]

    async def _lost(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Send nothing, and say so."""
        url = str(delivery.job.order.echoed["callback_url"])
        moment = delivery.world.clock.now()
        self.attempts.append(
            CallbackAttempt(
                moment, delivery.job.id, 1, url, {}, b"", None, "not sent", "lost", world=delivery.world.handle
            )
        )

    async def _duplicate(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Deliver the same message several times at once."""
        more = [self._deliver(delivery, AGAIN, note="duplicate") for _ in range(options.get("count", COUNT) - 1)]
        await together(self._deliver(delivery, 1), *more)

    async def _late(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Deliver later."""
        self._after(delivery, options.get("seconds", LATE_SECONDS), "late")

    async def _out_of_order(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Deliver behind the next callback of the same world, or after a minute."""
        self._waiting.append(delivery)

        async def action() -> None:
            if delivery in self._waiting:
                self._waiting.remove(delivery)
                await self._deliver(delivery, 1, note="out of order")

        clock = delivery.world.clock
        clock.at(clock.now() + OUT_OF_ORDER_SECONDS, action)

    async def _forged(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Deliver with a wrong signature, then as it should be."""
        await self._deliver(delivery, 1, secret=WRONG_SECRET, note="forged", kind="forged")
        await self._deliver(delivery, 1)

    async def _stale(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Deliver with a signature that was right long ago, then as it should be."""
        signature = delivery.job.contract.callbacks and delivery.job.contract.callbacks.signature
        older = ((signature and signature.tolerance) or 0.0) + OLDER_SECONDS
        await self._deliver(delivery, 1, older=older, note="stale", kind="stale")
        await self._deliver(delivery, 1)

    async def _unsigned(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Deliver without a signature, then as it should be."""
        await self._deliver(delivery, 1, signed=False, note="unsigned", kind="unsigned")
        await self._deliver(delivery, 1)

    async def _unknown_job(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Deliver the message of a job that nobody ordered, signed as it should be, then the true one."""
        job, world = delivery.job, delivery.world
        random = job.active_scenario.random if job.active_scenario is not None else world.random
        contract = job.contract
        nobodys = replace(
            job, id=contract.job_id_prefix + ID_FORMS[contract.job_id_form](random, job.created), active_scenario=None
        )
        message_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        other = replace(delivery, job=nobodys, message_id=message_id)
        await self._deliver(delivery, 1, note="unknown_job", kind="unknown_job", instead=other)
        await self._deliver(delivery, 1)

    async def _null_payload(self, delivery: QueuedCallback, options: Mapping[str, Any]) -> None:
        """Deliver a message with null for everything but the job, its stage and the event; if refused, as it should be.

        It is a genuine one: the job has ended as it says. The payload comes with the tries after it, if any.
        """
        await self._deliver(delivery, 1, note="null_payload", payload=False)

    def _after(self, delivery: QueuedCallback, seconds: float, note: str) -> None:
        async def action() -> None:
            await self._deliver(delivery, 1, note=note)

        delivery.world.clock.at(delivery.world.clock.now() + seconds, action)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


_MOVES: Mapping[str, Callable[[CallbackDispatcher, QueuedCallback, Mapping[str, Any]], Awaitable[None]]] = {
    "lost": CallbackDispatcher._lost,
    "duplicate": CallbackDispatcher._duplicate,
    "late": CallbackDispatcher._late,
    "out_of_order": CallbackDispatcher._out_of_order,
    "forged": CallbackDispatcher._forged,
    "stale": CallbackDispatcher._stale,
    "unsigned": CallbackDispatcher._unsigned,
    "unknown_job": CallbackDispatcher._unknown_job,
    "null_payload": CallbackDispatcher._null_payload,
}
"""What each move does to the first delivery of a callback."""


def _without_payload(callbacks: Callbacks, body: bytes) -> bytes:
    """Return a message with null in every field that it has of a payload."""
    value = orjson.loads(body)
    for pointer in payload_places(callbacks):
        if resolve(value, pointer) is not MISSING:
            value = replaced(value, pointer, None)
    return orjson.dumps(value)
