"""What is in a state: counts, JSON lines, and whether its records agree with each other. Works on any store."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import orjson

from hobbyhorse.state.errors import SEE, StateError
from hobbyhorse.state.records import KINDS, Damaged, Head, JobRecord
from hobbyhorse.state.store import Look, Meta, Page

PAGE = 1_000  # records in memory at one time: about a megabyte


class Reader(Protocol):
    """The part of a store that is needed to look into it."""

    async def meta(self) -> Meta | None:
        """Return the facts that were set, or None for an empty store."""

    async def worlds(self) -> Sequence[str]:
        """Return the handles of all worlds, sorted."""

    async def look(self, world: str, provider: str | None = None, job: str | None = None) -> Look:
        """Return a world's head."""

    async def page(
        self, world: str, kind: str, *, provider: str | None = None, before: int | None = None, count: int = 100
    ) -> Page:
        """Return the newest records of a kind whose number is less than `before`; keys are not numbered, and all."""

    async def damage(self) -> Sequence[str]:
        """Return what the store itself finds wrong with its files."""


async def records(reader: Reader, world: str, kind: str) -> AsyncIterator[Any]:
    """Yield all records of a kind of a world, newest first; `Damaged` stands for one that cannot be read."""
    before: int | None = None
    while True:
        page = await reader.page(world, kind, before=before, count=PAGE)
        for record in reversed(page.records):
            yield record
        if not page.more:
            return
        before = page.records[0].number


async def summary(reader: Reader) -> dict[str, Any]:
    """Return the facts of a state and the number of records of each kind, as JSON."""
    meta, counts, running = await reader.meta(), Counter[str](), 0
    for world in await reader.worlds():
        counts["world"] += 1
        for kind in KINDS:
            async for record in records(reader, world, kind):
                counts[kind] += 1
                running += isinstance(record, JobRecord) and not record.end
    return {
        "format": meta.format if meta is not None else None,
        "seed": meta.seed if meta is not None else None,
        "contracts": dict(meta.contracts) if meta is not None else {},
        "worlds": counts["world"],
        "jobs": counts["job"],
        "running": running,
        "keys": counts["key"],
        "dues": counts["due"],
        "exchanges": counts["exchange"],
        "attempts": counts["attempt"],
    }


async def lines(reader: Reader) -> AsyncIterator[bytes]:
    """Yield a state as JSON lines: the facts, then each world's head and its records. Raises StateError for damage."""
    yield orjson.dumps({"kind": "meta", "record": await reader.meta()})
    for world in await reader.worlds():
        yield orjson.dumps({"kind": "head", "world": world, "record": (await reader.look(world)).head})
        for kind in KINDS:
            async for record in records(reader, world, kind):
                if isinstance(record, Damaged):
                    raise StateError(record.why + SEE)
                yield orjson.dumps({"kind": kind, "world": world, "record": record})


async def problems(reader: Reader, members: Mapping[str, Collection[str]] | None = None) -> list[str]:
    """Return what is wrong with a state, each in one line.

    `members` names the values without which a `head` and a `job` cannot be used.
    """
    members = members or {}
    found = [*await reader.damage()]
    owners: dict[tuple[str, str], str] = {}
    for world in await reader.worlds():
        head: Head | None = None
        try:
            head = (await reader.look(world)).head
            if head is None:
                found.append(f"world {world} has no head")
        except StateError as error:
            found.append(str(error).removesuffix(SEE))
        if head is not None:
            found += _of_values(head, members.get("head", ()), f"world {world}: the head")
        jobs = [job async for job in records(reader, world, "job")]
        for job in jobs:
            found += _of_job(job, head, world)
            found += _of_values(job, members.get("job", ()), f"world {world}: the job {job.number}")
            other = owners.setdefault((job.provider, job.id), world) if isinstance(job, JobRecord) else world
            if other != world:
                found.append(f"the job {job.id!r} is in two worlds, {other} and {world}")
        found += _of_counts(jobs, head, world)
        found += await _of_others(reader, world, {job.id for job in jobs if isinstance(job, JobRecord)})
    return found


async def _of_others(reader: Reader, world: str, jobs: Collection[str]) -> list[str]:
    """Return what is wrong with the records of a world that are not jobs."""
    found = []
    for kind in sorted(KINDS.keys() - {"job"}):
        async for record in records(reader, world, kind):
            if isinstance(record, Damaged):
                found.append(record.why)
            # A key without a job is claimed by a request in flight.
            elif kind in ("key", "due") and record.job and record.job not in jobs:
                found.append(f"world {world}: a {kind} belongs to the job {record.job!r}, which is not kept")
    return found


def _of_counts(jobs: Sequence[JobRecord | Damaged], head: Head | None, world: str) -> Iterator[str]:
    """Yield the counts of a head to which jobs are missing."""
    # A damaged job is there; a job of a provider that is not served is not counted.
    counts = {"running": sum(isinstance(job, Damaged) or not job.end for job in jobs), "kept": len(jobs)}
    for name, count in counts.items():
        counted = head.values.get(name) if head is not None else None
        if isinstance(counted, int) and counted > count:
            found = {"running": "running jobs", "kept": "jobs"}[name]
            yield f"world {world}: {counted} {found} were kept, but there are {count}"


def _of_values(record: Head | JobRecord | Damaged, names: Collection[str], title: str) -> Iterator[str]:
    """Yield the values that a record lacks."""
    if not isinstance(record, Damaged) and (lacking := sorted(set(names) - set(record.values))):
        yield f"{title} has no {', '.join(map(repr, lacking))}"


def _of_job(job: JobRecord | Damaged, head: Head | None, world: str) -> list[str]:
    """Return what is wrong with one job."""
    if isinstance(job, Damaged):
        return [job.why]
    found = []
    if bool(job.end) != bool(job.kind):
        found.append(f"world {world}: the job {job.id!r} has half an end")
    if head is not None and "jobs" in head.values:
        first, count = head.values["jobs"][:2]
        if not first <= job.number < first + count:
            found.append(f"world {world}: the job {job.id!r} has the number {job.number}, which was never given")
    return found
