"""A store in Redis or Valkey, for any number of servers: the state is there, and each server keeps copies by version.

Times are Redis's, so the clocks of the servers need not agree. A change is one script: it compares the versions of what
it replaces, and puts everything or nothing. It has an id that Redis remembers for a minute: if the reply is lost, the
same change is sent again, and counts as kept.

A poll costs one trip of two small commands, because most records have not changed since they were last read: the
versions tell.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from hobbyhorse.state.errors import StateError, StoreFailure
from hobbyhorse.state.records import (
    KEPT_LINES,
    KINDS,
    AttemptRecord,
    DueRecord,
    ExchangeRecord,
    Head,
    JobRecord,
    KeyRecord,
    encode,
    read_record,
)
from hobbyhorse.state.redis_connection import (
    WAIT_SECONDS,
    Part,
    RedisConnection,
    RedisError,
    RedisRefused,
    read_address,
)
from hobbyhorse.state.redis_owners import RedisOwners
from hobbyhorse.state.redis_scripts import BEGIN, KEEP, LOOK, TAKE
from hobbyhorse.state.sqlite_tables import Reading, lenient, merged, strict
from hobbyhorse.state.store import Begun, Changes, Heads, Look, Meta, Page, TakenDue, check_kind, facts_of

# Heads and jobs that are kept by version: some 2 KB each.
MOST_CACHED = 20_000
# Worlds whose times are read at once for a list: other requests go on in between.
WORLDS_AT_ONCE = 200
# Somebody waits for a command that looks into a state; requests of a server may take longer.
READER_WAIT_SECONDS = 1.0
# Bytes of the name of a state, and of a process: no two are ever equal.
NAME_BYTES = 12


class NotOwner(Exception):
    """Another process owns the world now: nothing was kept, and what is known of it here is no more true."""


class RedisStore:
    """The state of several servers. `now` replaces the time of Redis, in tests."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], float] | None = None,
        wait: float = WAIT_SECONDS,
        on_lost: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Prepare a store. `on_lost` is called when the state is gone for good. Raises StateError for a wrong URL."""
        try:
            self.address = read_address(url)
        except ValueError as error:
            raise StateError(str(error)) from None
        self._now, self._wait, self._on_lost = now, wait, on_lost
        self._state: bytes | None = None
        self._read: Reading = strict
        self.name = os.urandom(NAME_BYTES).hex()
        """The name of this process; no other one ever has it."""
        self._ids = map(f"{self.name}:{{}}".format, itertools.count())
        self._heads: dict[str, Head] = {}
        self._jobs: dict[tuple[str, str, str], JobRecord] = {}
        self._redis = self._connection()
        self.owners: RedisOwners | None = None
        """The owners of the worlds, if each is served by one process at a time; only the owner can keep changes."""

    def _connection(self) -> RedisConnection:
        return RedisConnection(
            self.address,
            wait=self._wait,
            # The scripts too: a change that had to be sent again in full would be overtaken by a later one.
            checks=[("GET", "hh:state"), *(("SCRIPT", "LOAD", one.source) for one in (KEEP, LOOK, BEGIN, TAKE))],
            accept=self._accept,
            on_refused=lambda error: self._on_lost(str(error)),
        )

    def _accept(self, replies: Sequence[Any]) -> None:
        """Refuse a Redis that has lost the state, or has another one now."""
        if self._state is not None and replies[0] != self._state:
            raise RedisRefused(f"Redis at {self.address} has lost the state: it came back without it")

    async def open(self) -> int:
        """Connect, and return the number of this run. Raises StateError."""
        try:
            await self._redis.open()
            await self._redis.call("SETNX", "hh:state", os.urandom(NAME_BYTES).hex())
            self._state = await self._redis.call("GET", "hh:state")
            return int(await self._redis.call("INCR", "hh:runs"))
        except StoreFailure as error:
            await self._redis.close()
            raise StateError(f"the state cannot be used: {error}") from None

    async def damage(self) -> Sequence[str]:
        """Return the worlds whose jobs and their indexes disagree."""
        found = []
        for world in await self.worlds():
            names = (("HLEN", f"hh:j:{world}"), ("ZCARD", f"hh:n:{world}"), ("HLEN", f"hh:i:{world}"))
            jobs, numbers, ids = await asyncio.gather(*(self._redis.call(*name) for name in names))
            if not jobs == numbers == ids:
                found.append(f"world {world}: Redis has {jobs} jobs, {numbers} numbers and {ids} ids of them")
        return found

    async def risk(self) -> str | None:
        """Return why a crash of Redis may lose changes that were responded to, or None if it cannot."""
        try:
            found = await self._redis.call("CONFIG", "GET", "append*")
        except RedisError:
            return "Redis does not tell whether it writes each change to its disk"
        settings = dict(zip(found[::2], found[1::2], strict=True))
        if settings.get(b"appendonly") == b"yes" and settings.get(b"appendfsync") == b"always":
            return None
        return "Redis does not write each change to its disk (appendonly yes, appendfsync always)"

    async def join(self, address: str) -> RedisOwners:
        """Begin to own worlds as a process that others reach at an address."""
        self.owners = RedisOwners(self._redis, self.name, address)
        await self.owners.renew()
        return self.owners

    # ---- facts

    async def meta(self) -> Meta | None:
        """Return the facts that were set, or None for an empty store. Raises StateError for a newer format."""
        text = await self._redis.call("GET", "hh:meta")
        if text is None:
            return None
        try:
            found: Mapping[str, Any] = {**orjson.loads(text)}
        except (ValueError, TypeError) as error:
            raise StateError(f"the state is damaged: its hh:meta cannot be read: {error}") from None
        return facts_of(found)

    async def set_meta(self, meta: Meta) -> None:
        """Set the facts."""
        await self._redis.call("SET", "hh:meta", orjson.dumps(meta))

    def write_meta(self, meta: Meta) -> None:
        """Set the facts; not waited for."""
        self._redis.send("SET", "hh:meta", orjson.dumps(meta))

    async def running(self, providers: Sequence[str]) -> Mapping[str, int]:
        """Return the number of running jobs of each provider."""
        counts = await asyncio.gather(*(self._redis.call("SCARD", f"hh:open:{one}") for one in providers))
        return dict(zip(providers, counts, strict=True))

    # ---- worlds

    def _time(self) -> str:
        return "" if self._now is None else repr(self._now())

    async def look(self, world: str, provider: str | None = None, job: str | None = None) -> Look:
        """Return a world's head, and a provider's job by id."""
        head = self._heads.get(world)
        known = None if provider is None or job is None else self._jobs.get((world, provider, job))
        if head is not None and (job is None or known is not None):
            # Each is one future in the same write; Redis replies to both at once.
            time = self._redis.call("TIME") if self._now is None else None
            field = "head" if known is None else known.number
            versions = await self._redis.call("HMGET", f"hh:v:{world}", "head", field)
            unchanged = known is None or versions[1] == b"%d" % known.version
            if unchanged and versions[0] == b"%d" % head.version:
                return Look(await self._real(time), head, known)
        return await self._look(world, provider or "", job or "")

    async def _real(self, time: asyncio.Future[Any] | None) -> float:
        if time is None:
            assert self._now is not None
            return self._now()
        seconds, micros = await time
        return int(seconds) + int(micros) / 1e6

    async def _look(self, world: str, provider: str, job: str) -> Look:
        """Read a head and a job anew."""
        name = f"{provider}\0{job}"
        now, head, found, elsewhere = await self._redis.run(LOOK, (), (self._time(), world, name, provider, job))
        if max(len(self._heads), len(self._jobs)) >= MOST_CACHED:
            self._heads.clear()
            self._jobs.clear()
        look = Look(
            float(now),
            None if head is None else read_record(Head, head, f"world {world}: the head"),
            None if found is None else read_record(JobRecord, found, f"world {world}: the job {job}"),
            bool(elsewhere),
        )
        if look.head is not None:
            self._heads[world] = look.head
        if look.job is not None:
            self._jobs[world, provider, job] = look.job
        return look

    async def begin(self, world: str, provider: str, key: str | None = None) -> Begun:
        """Take the next job number of a world, and claim an idempotency key."""
        name = "" if key is None else f"{provider}\0{key}"
        found = await self._redis.run(BEGIN, (), (self._time(), world, name, next(self._ids)))
        if len(found) == 1 or key is None:
            return Begun(found[0])
        title = f"world {world}: the key {key!r}"
        used = read_record(KeyRecord, found[1], title) if found[1] else KeyRecord(provider, key, lease=float(found[2]))
        return Begun(found[0], used)

    async def keep(self, changes: Changes) -> bool:
        """Keep changes; return False, and keep nothing, if a version in them is not the successor of the stored one."""
        compared = _comparisons(changes) if changes.checked else []
        if compared is None:
            return False
        if not changes.checked:
            # Its versions may be those of the copies, with other contents.
            self._heads.pop(changes.world, None)
            self._jobs = {name: job for name, job in self._jobs.items() if name[0] != changes.world}
        found = await self._keep(changes, compared, [])
        if found < 0:
            raise NotOwner(changes.world)
        return bool(found)

    def append(self, changes: Changes, position: int) -> asyncio.Future[int]:
        """Keep changes of the world's owner, at a position in its log; the result is 1 if they are kept.

        Nothing is kept if another process owns the world now, or if the change at the last position was lost.
        """
        follows: tuple[Part, ...] = ("HSET", f"hh:v:{changes.world}", "log", position + 1)
        return self._keep(changes, ["log", position], [follows])

    def _keep(
        self, changes: Changes, compared: Sequence[Part], more: Sequence[tuple[Part, ...]]
    ) -> asyncio.Future[int]:
        owner = "" if self.owners is None else self.owners.name
        words: list[Part] = [self._time(), changes.world, next(self._ids), owner, len(compared) // 2, *compared]
        for command in (*_commands(changes), *more):
            words.append(len(command))
            words += command
        return self._redis.run(KEEP, (), words)

    def note(self, world: str, exchange: ExchangeRecord) -> None:
        """Keep the journal line of a request that changed nothing; not waited for."""
        kept = self._keep(Changes(world=world, exchanges=(exchange,)), (), ())
        # It may be lost.
        kept.add_done_callback(lambda reply: reply.cancelled() or reply.exception())

    async def page(
        self, world: str, kind: str, *, provider: str | None = None, before: int | None = None, count: int = 100
    ) -> Page:
        """Return the newest records of a kind whose number is less than `before`; keys are not numbered, and all."""
        check_kind(kind)
        if kind == "key":
            return Page(await self._keys(world, provider))
        if kind in ("exchange", "attempt"):
            lines = await (self._lines(world) if kind == "exchange" else self._attempts(world))
            older = [one for one in lines if before is None or one.number < before]
            return Page(older[max(0, len(older) - count) :], len(older) > count)
        last = "+inf" if before is None else f"({before}"
        found = await self._numbered(world, kind, provider, (last, count + 1))
        records = [
            self._read(world, kind, text, number) for number, text in reversed(found[:count]) if text is not None
        ]
        return Page(records, len(found) > count)

    async def _lines(self, world: str) -> Sequence[ExchangeRecord]:
        """Return the newest lines of a journal, in the order of their numbers."""
        rows = [row.partition(b" ") for row in await self._redis.call("LRANGE", f"hh:e:{world}", 0, -1)]
        return merged([self._read(world, "exchange", text, place) for place, (_, _, text) in enumerate(rows)])

    async def _attempts(self, world: str) -> Sequence[AttemptRecord]:
        """Return the newest attempts to deliver callbacks, in the order of their numbers."""
        slots = await self._redis.call("HGETALL", f"hh:a:{world}")
        found = [
            self._read(world, "attempt", text, int(slot)) for slot, text in zip(slots[::2], slots[1::2], strict=True)
        ]
        return sorted(found, key=lambda one: one.number)

    async def _numbered(
        self, world: str, kind: str, provider: str | None, part: tuple[str, int]
    ) -> Sequence[tuple[int, Any]]:
        """Return jobs or dues, the newest first, as numbers and JSON."""
        if kind == "due":
            dues = await self._redis.call("HGETALL", f"hh:d:{world}")
            most = float("inf") if part[0] == "+inf" else int(part[0][1:])
            numbers = sorted((int(one) for one in dues[::2] if int(one) < most), reverse=True)[: part[1]]
            texts = dict(zip(map(int, dues[::2]), dues[1::2], strict=True))
            return [(number, texts[number]) for number in numbers]
        key = f"hh:n:{world}" if provider is None else f"hh:n:{world}:{provider}"
        numbers = await self._redis.call("ZREVRANGEBYSCORE", key, part[0], "-inf", "LIMIT", 0, part[1])
        found: Sequence[Any] = await self._redis.call("HMGET", f"hh:j:{world}", *numbers) if numbers else []
        return [(int(number), text) for number, text in zip(numbers, found, strict=True)]

    async def _keys(self, world: str, provider: str | None) -> list[KeyRecord]:
        used, claimed = await asyncio.gather(
            self._redis.call("HGETALL", f"hh:k:{world}"), self._redis.call("HGETALL", f"hh:c:{world}")
        )
        found = {
            name: self._read(world, "key", text, name.partition(b"\0")[2].decode())
            for name, text in zip(used[::2], used[1::2], strict=True)
        }
        for name, claim in zip(claimed[::2], claimed[1::2], strict=True):
            whose, _, key = name.decode().partition("\0")
            found.setdefault(name, KeyRecord(whose, key, lease=float(claim.split()[0])))
        return [one for _, one in sorted(found.items()) if provider is None or one.provider == provider]

    async def position(self, world: str) -> tuple[Head | None, int]:
        """Return the head of a world, and the position of the next change in its log."""
        head, found = await asyncio.gather(
            self._redis.call("HGET", f"hh:w:{world}", "head"), self._redis.call("HGET", f"hh:v:{world}", "log")
        )
        return None if head is None else read_record(Head, head, f"world {world}: the head"), int(found or 0)

    async def exists(self, world: str) -> bool:
        """Whether a world is kept."""
        return bool(await self._redis.call("SISMEMBER", "hh:worlds", world))

    @property
    def own_host(self) -> str:
        """The address of this machine on the way to Redis."""
        return self._redis.own_host

    async def time(self) -> float:
        """Return the time of Redis."""
        return await self._real(self._redis.call("TIME") if self._now is None else None)

    async def worlds(self) -> Sequence[str]:
        """Return the handles of all worlds, sorted."""
        return sorted(name.decode() for name in await self._redis.call("SMEMBERS", "hh:worlds"))

    async def heads(self, before: int | None, count: int) -> Heads:
        """Return the heads of worlds that were written before a moment, the last ones first."""
        handles, times = await self.worlds(), list[tuple[float, str]]()
        for at in range(0, len(handles), WORLDS_AT_ONCE):
            part = handles[at : at + WORLDS_AT_ONCE]
            found = await asyncio.gather(*(self._redis.call("HGET", f"hh:w:{one}", "at") for one in part))
            times += [(float(one), handle) for one, handle in zip(found, part, strict=True) if one is not None]
        times.sort(reverse=True)
        shown = [one for at, one in times if before is None or Head(at=at).written < before][:count]
        texts = await asyncio.gather(*(self._redis.call("HGET", f"hh:w:{one}", "head") for one in shown))
        # One that was forgotten meanwhile is left out.
        heads = [
            (one, read_record(Head, text, f"world {one}: the head"))
            for one, text in zip(shown, texts, strict=True)
            if text is not None
        ]
        return len(times), heads

    # ---- dues, pictures, news

    async def take(self, count: int) -> Sequence[TakenDue]:
        """Take dues whose moment has come on the clock of their world, each for `LEASE_SECONDS`."""
        found, _, _ = await self._redis.run(TAKE, (), (self._time(), count))
        return [
            TakenDue(world.decode(), read_record(DueRecord, text, f"world {world.decode()}: a due"))
            for world, text in zip(found[::2], found[1::2], strict=True)
        ]

    async def blob(self, name: str, content: bytes | None = None) -> bytes | None:
        """Keep a picture under its name if there is content; return the kept one, or None."""
        if content is not None:
            await self._redis.call("SET", f"hh:b:{name}", content)
            return content
        found: bytes | None = await self._redis.call("GET", f"hh:b:{name}")
        return found

    async def once(self, name: str, content: Callable[[], bytes]) -> bytes:
        """Return what is kept under a name; of several processes that find nothing, one keeps its content."""
        found: bytes | None = await self._redis.call("GET", name)
        if found is None:
            await self._redis.call("SETNX", name, content())
            found = await self._redis.call("GET", name)
        assert found is not None
        return found

    async def close(self) -> None:
        """Let go of the store."""
        await self._redis.close()


async def open_to_read(url: str) -> RedisStore:
    """Open a state without any change in it. Raises StateError if there is none, or it cannot be reached."""
    store = RedisStore(url, wait=READER_WAIT_SECONDS)
    store._read = lenient
    try:
        await store._redis.open()
        kept = await store._redis.call("EXISTS", "hh:state")
    except StoreFailure as error:
        await store.close()
        raise StateError(f"the state cannot be used: {error}") from None
    if not kept:
        await store.close()
        raise StateError(f"Redis at {store.address} has no state")
    return store


def _comparisons(changes: Changes) -> list[Part] | None:
    """Return the fields and versions that Redis must have, or None if the changes cannot be successors."""
    found: list[Part] = []
    if (head := changes.head) is not None:
        if "head" not in changes.erased:
            found += ("head", head.version - 1)
        elif head.version != 1:
            return None
    for job in changes.jobs:
        if not changes.erased & {"head", "job"}:
            found += (job.number, job.version - 1)
        elif job.version != 1:
            return None
    return found


def _commands(changes: Changes) -> list[tuple[Part, ...]]:
    """Return the commands, of Redis and of the script `KEEP`, that put changes."""
    world, head = changes.world, changes.head
    erased = {*changes.erased, *KINDS} if "head" in changes.erased else changes.erased
    found: list[tuple[Part, ...]] = [("@erase", world, kind) for kind in sorted(erased)]
    if "head" in erased and head is None:
        # The world is forgotten, with whatever else the change has.
        return found
    found.append(("SADD", "hh:worlds", world))
    if changes.forgotten:
        found.append(("@forget", world, *changes.forgotten))
    if head is not None:
        clock = ("base", repr(head.base), "at", repr(head.at), "speed", repr(head.speed))
        found.append(("HSET", f"hh:w:{world}", "head", encode(head), *clock))
        found.append(("HSET", f"hh:v:{world}", "head", head.version))
        found.append(("@begun", world, head.begun))
    for job in changes.jobs:
        found.append(("@job", world, job.number, job.id, job.provider, job.end, job.version, encode(job)))
    for key in changes.keys:
        name = f"{key.provider}\0{key.key}"
        found.append(("HSET", f"hh:k:{world}", name, encode(key)))
        found.append(("HDEL", f"hh:c:{world}", name))
    found += [("HDEL", f"hh:c:{world}", f"{provider}\0{key}") for provider, key in changes.released]
    found += [("@due", world, due.number, repr(due.moment), encode(due)) for due in changes.dues]
    found += [("@done", world, number) for number in changes.done]
    if changes.exchanges:
        found.append(("@lines", world, len(changes.exchanges), orjson.dumps(changes.exchanges)))
    slots = [part for one in changes.attempts for part in (one.number % KEPT_LINES, encode(one))]
    # In parts, because a script's function takes some thousand arguments at most.
    found += [("HSET", f"hh:a:{world}", *slots[at : at + 1_000]) for at in range(0, len(slots), 1_000)]
    if head is not None or changes.dues or changes.done or changes.forgotten or erased:
        found.append(("@plan", world))
    return found
