"""Callbacks: scheduled for the end of a job, signed as the contract says, retried until acknowledged.

The life of a callback:

* Scheduled. `schedule` runs for every accepted submission with a callback URL, and draws the message id, which stays
  the same over all attempts. If the job's timeline has an end, the first attempt is planned for that moment on the
  clock. The timeline of a stuck job has no end; when that timeline changes, `reschedule` plans the attempt.
* Due. An attempt may come due when it must not be sent: the job was reset, is stuck again, or its end was moved. If
  the job is held for its images, the attempt is repeated `HELD_SECONDS` later. The first attempt that finds its job
  ended marks the callback as started; any other first attempts planned for the job then do nothing. Without that
  mark, a job whose end moved twice would send its first callback twice.
* Attempted. Each attempt writes the message of the job as it is then, and signs it with a new timestamp. A callback
  fault of the job's scenario replaces the first attempt only; retries are sent as documented.
* Acknowledged by a 2xx response. Nothing follows, and the job counts as collected, as if a poll had shown its end.
* Retried after any other response, a failed connection or a missed deadline. The delay before the next attempt is the
  contract's; redirects are not followed.
* Given up when the delays of the contract are used up. Nothing records that but the list of attempts.

A false delivery (badly signed, too old, or of an unknown job) is never retried and acknowledges nothing, whatever the
receiver responds: the receiver must refuse it. `redeliver` sends one attempt by hand; it has the number 0 and no
retries.

An attempt that is due waits for its turn (`callback_sending`), and is written and signed when it has one. It is sent
when everything that it reports is kept. If the server dies before the attempt is recorded, the next server makes it
again: so a callback arrives at least once.

All moments are on the world's clock. The deadline for the response is in real time. If the world's clients read a
virtual clock, it is on that clock instead, because a receiver that sleeps in virtual time would never miss a deadline
in real time.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import httpx

from hobbyhorse.clock.quiescence import together
from hobbyhorse.contract.forms.ids import ID_FORMS
from hobbyhorse.contract.forms.signatures import sign
from hobbyhorse.contract.values import Callbacks, Situation
from hobbyhorse.scenarios.effects import (
    AfterNext,
    CallbackEffect,
    Copies,
    FalseFirst,
    Postponed,
    Rewritten,
    Unsent,
    in_case,
)
from hobbyhorse.scenarios.fault import CALLBACK
from hobbyhorse.scenarios.registry import faults_at
from hobbyhorse.scenarios.scenario import Move
from hobbyhorse.server.callback_sending import CallbackSender, in_two_parts
from hobbyhorse.server.metrics.counters import Counters
from hobbyhorse.server.request import nothing_to_keep
from hobbyhorse.state.errors import NotKept
from hobbyhorse.state.records import DueRecord
from hobbyhorse.worlds.job_table import JobTable
from hobbyhorse.worlds.jobs import CallbackPlan, Job, JobView, MediaLinks
from hobbyhorse.worlds.journal import MOST_JOURNAL_BYTES
from hobbyhorse.worlds.signed_links import LinkSigner
from hobbyhorse.worlds.world import World

# Of each world, as many as it keeps exchanges: a long run must not fill the memory.
MOST_ATTEMPTS_KEPT = 1_000
# Bytes of their bodies, also as many as of exchanges.
MOST_ATTEMPT_BYTES = MOST_JOURNAL_BYTES
# Of each world: clients fetch the file of a callback soon, or never.
MOST_STRANGERS = 8
# Retries count from 1, so that 0 marks an attempt outside the schedule: redelivered by hand, or a duplicate.
UNSCHEDULED = 0
GENUINE, NOT_SENT = "genuine", "not sent"
ATTEMPT, SENDING = "attempt", "sending"
"""The kinds of dues: an attempt, if its job has ended; and a callback that a fault has put off."""
# Short beside a fetch, which ends the hold, and long enough not to spin the clock.
HELD_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class CallbackAttempt:
    """One attempt to deliver a callback, and its outcome.

    `moment` and `answered` are on the clock: when it was sent, and when the response arrived (None without one).
    `number` counts from 1, `UNSCHEDULED` is outside the schedule. `note` names the fault that changed it. `kind` is
    `genuine`, or the fault because of which the receiver must not act on it, such as `forged`; `job` is then the job
    that it imitates. `world` is the handle of the job's world.
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
        """Whether the receiver must not act on it."""
        return self.kind != GENUINE

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver responded 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def outcome(self) -> str:
        """The outcome in a word: acknowledged, refused, unsent, or failed if no response came."""
        if self.status is None:
            return "unsent" if self.error == NOT_SENT else "failed"
        return "acknowledged" if self.acknowledged else "refused"


@dataclass(frozen=True, slots=True)
class QueuedCallback:
    """A callback to deliver; `message_id` is the same for all attempts. `jobs` had the job when it was scheduled."""

    world: World
    job: Job
    jobs: JobTable
    base: str
    media: MediaLinks
    message_id: str

    @property
    def current(self) -> QueuedCallback | None:
        """The same callback with its job as it is now, or None if the job was forgotten."""
        # An ended job is packed, and unpacked anew; after a reset, another job may have its id.
        job = self.world.jobs.get(self.job.id) if self.world.jobs is self.jobs else None
        return None if job is None else self if job is self.job else replace(self, job=job)


class CallbackDispatcher:
    """Delivers callbacks, signed with `secret`; None leaves them unsigned. `signer` signs the links in them."""

    def __init__(self, secret: str | None, signer: LinkSigner, counters: Counters | None = None) -> None:
        self.secret, self._signer = secret, signer
        self._counters = counters or Counters()
        self._kept: Callable[[World], Awaitable[None]] = nothing_to_keep
        self._earlier: Callable[[World], Iterable[CallbackAttempt]] = lambda world: ()
        self._waiting: list[tuple[QueuedCallback, str]] = []
        # By world, so that the attempts of one key push out no others, and to forget one looks at no others.
        self._attempts: dict[str, deque[CallbackAttempt]] = {}
        self._sender = CallbackSender()

    def keep_with(
        self, kept: Callable[[World], Awaitable[None]], earlier: Callable[[World], Iterable[CallbackAttempt]]
    ) -> None:
        """Keep what is reported before it is sent.

        `kept` waits until the changes of a world are kept, and `earlier` returns the attempts of an earlier process.
        """
        self._kept, self._earlier = kept, earlier

    @property
    def attempts(self) -> tuple[CallbackAttempt, ...]:
        """The kept attempts of all worlds, in the order of their moments."""
        every = (attempt for attempts in self._attempts.values() for attempt in attempts)
        return tuple(sorted(every, key=lambda attempt: attempt.moment))

    @property
    def waiting(self) -> int:
        """The attempts that are under way or await their turn."""
        return self._sender.waiting

    def schedule(self, world: World, job: Job, base: str, media: MediaLinks) -> None:
        """Schedule the job's callback. Does nothing if the order has no callback URL."""
        if job.contract.callbacks is None or "callback_url" not in job.order.echoed:
            return
        message_id = world.new_id("uuid4", world.clock.now())
        job.callback = CallbackPlan(message_id, base, media.origin)
        world.changed(job)
        if job.ends:
            self._plan(QueuedCallback(world, job, world.jobs, base, media, message_id), job.finished, 1)

    def _delivery(self, world: World, job: Job) -> QueuedCallback | None:
        """Return the callback of a job, or None if it has none."""
        if job.callback is None:
            return None
        message_id, base, origin = job.callback
        media = MediaLinks(origin, world.handle, self._signer)
        return QueuedCallback(world, job, world.jobs, base, media, message_id)

    def reschedule(self, world: World, job: Job) -> None:
        """Plan the callback again after the timeline has changed, unless its first attempt has started."""
        delivery = self._delivery(world, job)
        if delivery is not None and job.ends and not job.notified:
            self._plan(delivery, job.finished, 1)

    def resume(self, world: World, due: DueRecord) -> None:
        """Schedule an attempt again that an earlier process has not made, or not recorded."""
        job = world.jobs.get(due.job)
        delivery = None if job is None else self._delivery(world, job)
        if job is None or delivery is None:
            world.forget_due(due.number)
        elif due.kind == ATTEMPT:
            # If it had begun, nobody knows how it ended.
            job.notified = job.notified and due.values["attempt"] != 1
            world.resume(due.moment, partial(self._attempt, delivery, due.values["attempt"]), due.number)
        else:
            world.resume(due.moment, partial(self._deliver, delivery, 1, note=due.values["note"]), due.number)

    def redeliver(self, world: World, job: Job) -> None:
        """Deliver a job's callback once more, now. Raises LookupError if the job has no callback or has not ended."""
        delivery = self._delivery(world, job)
        if delivery is None:
            raise LookupError(f"the job {job.id!r} was submitted without a callback URL")
        if not job.stage(world.clock.now()).terminal:
            raise LookupError(f"the job {job.id!r} has not ended; its callback is sent when it does")
        job.notified = True
        self._plan(delivery, world.clock.now(), UNSCHEDULED)

    def of(self, world: World) -> list[CallbackAttempt]:
        """Return the attempts for the jobs of a world."""
        return [attempt for attempt in self.of_world(world) if attempt.job in world.jobs]

    def of_world(self, world: World) -> deque[CallbackAttempt]:
        """Return the kept attempts of a world, also for jobs that it has no more; later ones are added to them."""
        found = self._attempts.get(world.handle)
        if found is None:
            found = self._attempts[world.handle] = deque(self._earlier(world), MOST_ATTEMPTS_KEPT)
            _drop_oldest(found)
        return found

    def forget(self, world: World) -> None:
        """Forget a world's attempts and its queued callbacks."""
        self._attempts.pop(world.handle, None)
        self._waiting = [one for one in self._waiting if one[0].world is not world]

    def _record(self, world: World, attempt: CallbackAttempt, provider: str) -> None:
        self._counters.callbacks[provider, attempt.outcome] += 1
        kept = self.of_world(world)
        kept.append(attempt)
        _drop_oldest(kept)
        if world.unkept is not None:
            world.unkept.attempt(attempt)

    def _plan(self, delivery: QueuedCallback, moment: float, number: int) -> None:
        delivery.world.schedule(
            moment, partial(self._attempt, delivery, number), ATTEMPT, delivery.job, {"attempt": number}
        )

    async def _attempt(self, delivery: QueuedCallback, number: int) -> None:
        """Deliver a callback that is due, if its job has ended; see the states above."""
        # A reset removes jobs, but attempts that are already planned on the clock still come due.
        found = delivery.current
        if found is None or not found.job.ends:
            return
        delivery, job, now = found, found.job, found.world.clock.now()
        if not job.stage(now).terminal:
            self._plan(delivery, max(job.finished, now + HELD_SECONDS), number)
        elif number != 1:
            await self._deliver(delivery, number)
        elif not job.notified:
            job.notified = True
            delivery.world.changed(job, urgent=False)
            await self._first(delivery)

    async def _first(self, delivery: QueuedCallback) -> None:
        """Make the first attempt, under the callback fault of the job's scenario if it has one."""
        scenario = delivery.job.active_scenario
        moves = scenario.together(CALLBACK) if scenario is not None else ()
        if scenario is None or not moves:
            await self._deliver(delivery, 1)
        else:
            for index, _ in moves:
                scenario.use(CALLBACK, index)
            delivery.world.met(scenario)
            await self._faulted(delivery, [move for _, move in moves])
        # This delivery is the one that the callbacks out of order have waited for.
        waiting, self._waiting = self._waiting, []
        for other, note in waiting:
            if other is delivery or other.world is not delivery.world:
                self._waiting.append((other, note))
            else:
                await self._deliver(other, 1, note=note)

    async def _deliver(self, delivery: QueuedCallback, number: int, **how: Any) -> None:
        """Post a callback in its turn, record the attempt, and plan the next one if it was not acknowledged."""
        async with self._sender.turn(delivery.world, str(delivery.job.order.echoed["callback_url"])):
            # A reset may have removed the job during the wait.
            if (current := delivery.current) is not None:
                await self._deliver_now(current, number, **how)

    async def _deliver_now(self, delivery: QueuedCallback, number: int, **how: Any) -> None:
        callbacks, now = delivery.job.contract.callbacks, delivery.world.clock.now()
        # A false callback may report another stage than that of the job.
        stage = (how.get("instead") or delivery).job.stage(now)
        messages = callbacks.situations.values() if callbacks else ()
        situation = next((situation for situation in messages if stage.name in situation.stages), None)
        # Some providers send no callback for some ends, such as a cancellation.
        if callbacks is None or situation is None:
            return
        try:
            await self._kept(delivery.world)
        except NotKept:
            # Another process serves the world now, or will: it makes the attempt.
            return
        attempt = await self._post(callbacks, situation, delivery, number, now, **how)
        self._record(delivery.world, attempt, delivery.job.contract.key)
        if attempt.false:
            return
        if attempt.acknowledged:
            delivery.world.show((delivery.current or delivery).job, stage)
        elif UNSCHEDULED < number <= len(callbacks.retries):
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
        change: Callable[[bytes], bytes] | None = None,
        names: str = "",
        in_parts: bool = False,
        instead: QueuedCallback | None = None,
    ) -> CallbackAttempt:
        job, shown = delivery.job, instead or delivery
        view = JobView(shown.job, now, shown.job.stage(now), shown.base, shown.media)
        body = situation.template.write(view.lookup)
        if change is not None:
            body = change(body)
        headers = {"content-type": situation.media_type}
        secret = secret or self.secret
        if callbacks.signature is not None and secret and signed:
            stamp = int(now - older)
            headers |= sign(callbacks.signature, secret, body, timestamp=stamp, message_id=shown.message_id)
        headers = {in_case(name, names): value for name, value in headers.items()}
        url = str(job.order.echoed["callback_url"])
        status, error, answered = None, None, None
        try:
            content = in_two_parts(body) if in_parts else body
            status = await self._sender.post(delivery.world, url, content, headers, callbacks.deadline)
            answered = delivery.world.clock.now()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return CallbackAttempt(
            now, job.id, number, url, headers, body, status, error, note, kind, answered, delivery.world.handle
        )

    async def _faulted(self, delivery: QueuedCallback, moves: Sequence[Move]) -> None:
        """Make the first attempt under a fault, or under variations."""
        fault = faults_at(CALLBACK)[moves[0].kind]
        effect = _effect(moves, delivery.job.contract.callbacks)
        match effect:
            case Unsent():
                self._note_unsent(delivery, fault.name)
            case Copies(count):
                duplicates = [self._deliver(delivery, UNSCHEDULED, note=fault.name) for _ in range(count - 1)]
                await together(self._deliver(delivery, 1), *duplicates)
            case Postponed(seconds):
                self._after(delivery, seconds, fault.name)
            case AfterNext(seconds, note):
                self._after_next(delivery, seconds, note)
            case FalseFirst():
                await self._deliver_false(delivery, effect, fault.name)
                if effect.apart:
                    self._after(delivery, effect.apart, fault.name)
                else:
                    await self._deliver(delivery, 1)
            case Rewritten(change, names, older, in_parts):
                # It is genuine: the job has ended as it says. Retries, if it is not acknowledged, are not changed.
                await self._deliver(
                    delivery, 1, note=fault.name, change=change, names=names, older=older, in_parts=in_parts
                )

    def _note_unsent(self, delivery: QueuedCallback, note: str) -> None:
        """Send nothing, and record that."""
        url = str(delivery.job.order.echoed["callback_url"])
        moment, job, world = delivery.world.clock.now(), delivery.job.id, delivery.world.handle
        unsent = CallbackAttempt(moment, job, 1, url, {}, b"", None, NOT_SENT, note, world=world)
        self._record(delivery.world, unsent, delivery.job.contract.key)

    def _after_next(self, delivery: QueuedCallback, seconds: float, note: str) -> None:
        """Deliver after the next callback of the same world, or after some seconds."""
        self._waiting.append((delivery, note))

        async def action() -> None:
            if (delivery, note) in self._waiting:
                self._waiting.remove((delivery, note))
                await self._deliver(delivery, 1, note=note)

        moment = delivery.world.clock.now() + seconds
        delivery.world.schedule(moment, action, SENDING, delivery.job, {"note": note})

    async def _deliver_false(self, delivery: QueuedCallback, effect: FalseFirst, name: str) -> None:
        """Deliver a callback on which the receiver must not act."""
        instead = self._stranger(delivery, effect.failure) if effect.stranger else None
        signing = {"secret": effect.secret, "signed": effect.signed, "older": effect.older}
        await self._deliver(delivery, 1, **signing, note=name, kind=name, instead=instead)

    def _stranger(self, delivery: QueuedCallback, failure: bool) -> QueuedCallback:
        """Return the callback of a job that was never submitted, and that perhaps has failed.

        A client that takes it for its own gets another video.
        """
        job, world = delivery.job, delivery.world
        # The scenario's generator: a fault must not change the ids of the jobs that follow.
        random = job.active_scenario.random if job.active_scenario is not None else world.random
        contract = job.contract
        unknown = replace(
            job,
            id=contract.job_id_prefix + ID_FORMS[contract.job_id_form](random, job.created),
            seed=job.seed + 1,
            active_scenario=None,
        )
        failed = contract.graph.ending("failure") if failure else None
        if failed is not None:
            unknown = replace(unknown, timeline=(*job.timeline[:-1], (job.finished, failed.name)))
        message_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        kept = list(world.strangers.items())[1 - MOST_STRANGERS :]
        world.strangers = {**dict(kept), unknown.id: unknown}
        return replace(delivery, job=unknown, message_id=message_id)

    def _after(self, delivery: QueuedCallback, seconds: float, note: str) -> None:
        moment = delivery.world.clock.now() + seconds
        action = partial(self._deliver, delivery, 1, note=note)
        delivery.world.schedule(moment, action, SENDING, delivery.job, {"note": note})

    async def close(self) -> None:
        """Close the connections to all receivers."""
        await self._sender.close()


def _drop_oldest(kept: deque[CallbackAttempt]) -> None:
    """Drop the oldest attempts while the bodies have more bytes than are kept."""
    surplus = sum(len(attempt.body) for attempt in kept) - MOST_ATTEMPT_BYTES
    while surplus > 0:
        surplus -= len(kept.popleft().body)


def _effect(moves: Sequence[Move], callbacks: Callbacks | None) -> CallbackEffect:
    """Return the effect of a fault on the first attempt, or of variations together."""
    found = [(faults_at(CALLBACK)[move.kind], move.options) for move in moves]
    effects: list[CallbackEffect] = [fault.effect(callbacks, fault.complete(options)) for fault, options in found]
    whole = effects[0]
    for effect in effects[1:]:
        if isinstance(effect, Rewritten) and isinstance(whole, Rewritten):
            whole = effect.over(whole)
    return whole
