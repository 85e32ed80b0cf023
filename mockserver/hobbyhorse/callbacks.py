"""Callbacks: told when a job has ended, signed as the contract says, tried again until acknowledged."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass

import httpx

from hobbyhorse.contract.values import Callbacks, Situation
from hobbyhorse.jobs import Job, MediaLinks, View
from hobbyhorse.signatures import DEFAULT_SECRET, sign
from hobbyhorse.worlds import World

MOST_ATTEMPTS_KEPT = 1_000
HELD_SECONDS = 0.05
"""How soon to look again at a job that should have ended but is held."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One delivery: when (clock), of which job, where to, what was sent, and the answer's status or the error."""

    moment: float
    job: str
    number: int
    url: str
    headers: dict[str, str]
    body: bytes
    status: int | None
    error: str | None

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that is on its way: its id stays the same over all attempts."""

    world: World
    job: Job
    base: str
    media: MediaLinks
    message_id: str


class Courier:
    """Delivers callbacks; `secret` signs them, None leaves them unsigned where the contract allows that."""

    def __init__(self, secret: str | None = DEFAULT_SECRET) -> None:
        self.secret = secret
        self._told: set[str] = set()
        self.attempts: deque[Attempt] = deque(maxlen=MOST_ATTEMPTS_KEPT)
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False)

    def schedule(self, world: World, job: Job, base: str, media: MediaLinks) -> None:
        """Have the end of a job told when it comes; nothing where nobody asked for it."""
        if job.contract.callbacks is None or "callback_url" not in job.order.said:
            return
        message_id = str(uuid.UUID(int=world.random.getrandbits(128), version=4))
        self._plan(Delivery(world, job, base, media, message_id), job.finished, 1)

    def _plan(self, delivery: Delivery, moment: float, number: int) -> None:
        async def action() -> None:
            await self._attempt(delivery, number)

        delivery.world.clock.at(moment, action)

    async def _attempt(self, delivery: Delivery, number: int) -> None:
        callbacks = delivery.job.contract.callbacks
        now = delivery.world.clock.now()
        stage = delivery.job.stage(now)
        if callbacks is None:
            return None
        if not stage.terminal:
            return self._plan(delivery, max(delivery.job.finished, now + HELD_SECONDS), number)
        if number == 1 and delivery.job.id in self._told:
            return None
        self._told.add(delivery.job.id)
        situation = next((told for told in callbacks.situations.values() if stage.name in told.stages), None)
        if situation is None:
            return None
        attempt = await self._post(callbacks, situation, delivery, number, now)
        self.attempts.append(attempt)
        if not attempt.acknowledged and number <= len(callbacks.retries):
            self._plan(delivery, now + callbacks.retries[number - 1], number + 1)
        return None

    async def _post(
        self, callbacks: Callbacks, situation: Situation, delivery: Delivery, number: int, now: float
    ) -> Attempt:
        job = delivery.job
        view = View(job, now, job.stage(now), delivery.base, delivery.media)
        body = situation.template.write(view.lookup)
        headers = {"content-type": "application/json"}
        if callbacks.signature is not None and self.secret:
            headers |= sign(callbacks.signature, self.secret, body, timestamp=int(now), message_id=delivery.message_id)
        url = str(job.order.said["callback_url"])
        status, error = None, None
        try:
            answer = await self._client.post(url, content=body, headers=headers, timeout=callbacks.deadline)
            status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return Attempt(now, job.id, number, url, headers, body, status, error)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
