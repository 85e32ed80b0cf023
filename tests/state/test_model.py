"""Every store, against the store in memory: random calls, and many at once."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hobbyhorse.state.memory import MemoryStore
from hobbyhorse.state.records import KINDS, AttemptRecord, DueRecord, ExchangeRecord, Head, JobRecord, KeyRecord
from hobbyhorse.state.store import Changes, Store
from tests.state.conftest import STORES, Wall

NIGHT = bool(os.environ.get("HOBBYHORSE_NIGHT"))
OPERATIONS = 100_000 if NIGHT else 3_000
WORKERS = 40
# A share of the operations, so that submissions and moves go on to the end.
KEYS = max(60, OPERATIONS // 200)
Found = TypeVar("Found")

worlds = st.sampled_from(["world-a", "world-b"])
small = st.integers(0, 3)
versions = st.integers(1, 3)
texts = st.sampled_from(["", "ein Pferd – 馬", '"quoted"\\\n'])
values = st.dictionaries(
    texts, st.one_of(st.none(), st.integers(-5, 5), texts, st.lists(small, max_size=2)), max_size=2
)
providers, keys = st.sampled_from(["acme", "other"]), st.sampled_from(["k", "l"])
moments = st.floats(0, 100, allow_nan=False)
heads = st.builds(
    Head, versions, small, st.just(""), moments, moments, st.sampled_from([0.0, 1.0, 10.0]), small, small, values
)
# A number stands for one job forever, as in a server: its id and its provider follow from it.
jobs = st.builds(
    lambda number, version, ended, more: JobRecord(
        number, f"job-{number}", "acme", version, *(("done", "success") if ended else ("", "")), "ab", more
    ),
    small,
    versions,
    st.booleans(),
    values,
)
names = st.builds("job-{}".format, small)
changes = st.fixed_dictionaries(
    {
        "head": st.none() | heads,
        "jobs": st.lists(jobs, max_size=3, unique_by=lambda one: one.number),
        "keys": st.lists(st.builds(KeyRecord, providers, keys, texts, names, moments), max_size=2),
        "dues": st.lists(st.builds(DueRecord, small, moments, texts, names, values), max_size=2),
        "exchanges": st.lists(st.builds(ExchangeRecord, small, values), max_size=2),
        "attempts": st.lists(st.builds(AttemptRecord, small, values), max_size=2),
        "done": st.lists(small, max_size=2),
        "released": st.lists(st.tuples(providers, keys), max_size=1),
        "forgotten": st.lists(small, max_size=1),
        "erased": st.frozensets(st.sampled_from([*KINDS, "head"]), max_size=2),
        "checked": st.booleans(),
    }
)


class StoreMachine(RuleBasedStateMachine):
    """Makes the same calls to a store and to the model; every result must be equal."""

    kind = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.wall = Wall(50.0)
        self.model: Store = MemoryStore(self.wall)
        self.store = self.run(STORES[self.kind](Path(self.folder.name), self.wall))

    def run(self, call: Awaitable[Found]) -> Found:
        async def awaited() -> Found:
            return await call

        return self.loop.run_until_complete(awaited())

    def both(self, name: str, *given: Any, **how: Any) -> None:
        expected, found = (self.run(getattr(one, name)(*given, **how)) for one in (self.model, self.store))
        assert found == expected, (name, given, how)

    @rule(world=worlds, parts=changes)
    def keep(self, world: str, parts: dict[str, Any]) -> None:
        self.both("keep", Changes(world=world, **parts))

    @rule(world=worlds, number=small, ended=st.booleans(), more=values)
    def keep_successor(self, world: str, number: int, ended: bool, more: dict[str, Any]) -> None:
        """Keep what is right to keep: the successors of the head and of a job."""
        look = self.run(self.model.look(world, "acme", f"job-{number}"))
        head = replace(look.head, version=look.head.version + 1) if look.head is not None else Head()
        version = 1 if look.job is None else look.job.version + 1
        end = ("done", "success") if ended else ("", "")
        job = JobRecord(number, f"job-{number}", "acme", version, *end, "ab", more)
        self.both("keep", Changes(world=world, head=head, jobs=[job]))

    @rule(world=worlds, number=small, more=values)
    def note(self, world: str, number: int, more: dict[str, Any]) -> None:
        for store in (self.model, self.store):
            store.note(world, ExchangeRecord(number, more))

    @rule(world=worlds, provider=providers, key=st.none() | keys)
    def begin(self, world: str, provider: str, key: str | None) -> None:
        self.both("begin", world, provider, key)

    @rule(count=small)
    def take(self, count: int) -> None:
        self.both("take", count)

    @rule(seconds=st.sampled_from([0.5, 7.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.wall.now += seconds

    @rule(world=worlds, provider=providers, job=names)
    def look(self, world: str, provider: str, job: str) -> None:
        self.both("look", world, provider, job)

    @rule(
        world=worlds,
        kind=st.sampled_from([*KINDS]),
        before=st.none() | small,
        count=small,
        provider=st.none() | providers,
    )
    def page(self, world: str, kind: str, before: int | None, count: int, provider: str | None) -> None:
        if kind in ("job", "key"):
            self.both("page", world, kind, before=before, count=max(count, 1), provider=provider)
        else:
            self.both("page", world, kind, before=before, count=max(count, 1))

    @invariant()
    def everything_is_equal(self) -> None:
        self.both("worlds")
        for world in ("world-a", "world-b"):
            self.both("look", world)
            for kind in KINDS:
                self.both("page", world, kind, count=100)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()
        self.folder.cleanup()


@pytest.mark.parametrize("kind", [kind for kind in STORES if kind not in ("memory", "redis")])
def test_a_store_does_what_the_model_does(kind: str) -> None:
    if kind == "valkey" and not NIGHT:
        pytest.skip("takes minutes over a socket; runs by night")
    machine = type("Machine", (StoreMachine,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=400 if NIGHT else 15,
            stateful_step_count=30,
            deadline=None,
            derandomize=not NIGHT,
            suppress_health_check=[*HealthCheck],
        ),
    )


# ---- many at once

STAGES = ("queued", "running", "done")


@dataclass
class Told:
    """What the callers of a store were told: their jobs by key, and the stages that they were shown."""

    jobs: dict[str, set[int]]
    numbers: Counter[int]
    moved: Counter[tuple[int, int]]


async def work(store: Store, world: str, told: Told, draw: Random, operations: int) -> None:
    """Submit with idempotency keys, move jobs from stage to stage, and look at them, as a server would."""
    for _ in range(operations):
        action = draw.random()
        if action < 0.4:
            await submit(store, world, told, f"key-{draw.randrange(KEYS)}")
        elif action < 0.8 and told.numbers:
            await advance(store, world, told, draw.choice(list(told.numbers)))
        else:
            await store.look(world, "acme", f"job-{draw.randrange(1 + len(told.numbers))}")


async def submit(store: Store, world: str, told: Told, key: str) -> None:
    begun = await store.begin(world, "acme", key)
    if begun.key is not None:
        if begun.key.job:
            told.jobs.setdefault(key, set()).add(int(begun.key.job.partition("-")[2]))
        return
    number = begun.number
    job = JobRecord(number, f"job-{number}", "acme", values={"stage": 0})
    used = KeyRecord("acme", key, "ff", job.id, until=1e12)
    # The head counts the jobs, so concurrent submissions collide there.
    while True:
        head = (await store.look(world)).head
        count = 0 if head is None else head.values["count"]
        version = 1 if head is None else head.version + 1
        after = Head(version, at=0.0, begun=number + 1, values={"count": count + 1})
        if await store.keep(Changes(world=world, head=after, jobs=[job], keys=[used])):
            break
    told.numbers[number] += 1
    told.jobs.setdefault(key, set()).add(number)


async def advance(store: Store, world: str, told: Told, number: int) -> None:
    job = (await store.look(world, "acme", f"job-{number}")).job
    assert job is not None, "a job that was told of is lost"
    stage = job.values["stage"]
    if stage == len(STAGES) - 1:
        return
    last = stage + 1 == len(STAGES) - 1
    end, kind = ("done", "success") if last else ("", "")
    moved = replace(job, version=job.version + 1, values={"stage": stage + 1}, end=end, kind=kind)
    if await store.keep(Changes(world=world, jobs=[moved])):
        told.moved[number, stage + 1] += 1


@pytest.mark.anyio
async def test_nothing_is_lost_doubled_or_skipped_under_concurrent_operations(store: Store) -> None:
    world, told = "world-a", Told({}, Counter(), Counter())
    each = OPERATIONS // WORKERS
    await asyncio.gather(*(work(store, world, told, Random(worker), each) for worker in range(WORKERS)))
    assert told.numbers
    assert max(told.numbers.values()) == 1, "a number was given twice"
    assert all(len(numbers) == 1 for numbers in told.jobs.values()), "a key made two jobs"
    assert max(told.moved.values()) == 1, "one stage was entered twice"
    for number, stage in told.moved:
        assert stage == 1 or (number, stage - 1) in told.moved, "a stage was skipped"
    head = (await store.look(world)).head
    assert head is not None
    assert head.values["count"] == len(told.numbers) == len(told.jobs)
    found = (await store.page(world, "job", count=OPERATIONS)).records
    assert {job.number for job in found} == set(told.numbers)
    for job in found:
        assert job.values["stage"] == max([stage for number, stage in told.moved if number == job.number], default=0)
        assert bool(job.end) == (job.values["stage"] == len(STAGES) - 1)
