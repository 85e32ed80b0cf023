"""The jobs of one world, in order of their submission, with the tallies that limits, ledger and lists read. No HTTP.

No question about a job or a tally takes longer because the world has more jobs. Three decisions make that so:

* Tallies change when a job begins, reaches a stage, and ends, not when they are read. No task waits for that: `settle`
  accounts for the jobs that have reached another stage by now, and every reader of a tally calls it first. A job that
  is due is checked once for each stage: it has ended, or goes on later, or waits for its pictures, or is stuck.
* A job has a number, its position. A list is a slice of numbers, also that of one provider or of one stage.
* A job that ended is packed into bytes, except the newest ones: it takes less memory, and the garbage collector does
  not visit it. It is unpacked on access.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, ValuesView
from copy import copy
from decimal import Decimal
from heapq import heappop, heappush, nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.ledger import LedgerEntry, Totals
from hobbyhorse.worlds.packing import Packer

if TYPE_CHECKING:  # for servers with a kept state alone
    from hobbyhorse.worlds.unkept import Unkept

# Jobs that ended last stay unpacked: their clients are about to read them.
MOST_UNPACKED = 100
# Jobs of emptied tables that each new job frees: they are gone long before as many new ones have come.
FREED_AT_ONCE = 20
# Bytes of a hash that stands for an order: no two orders of a world will share it.
ORDER_HASH_BYTES = 12


class JobIndex:
    """The tables that have the jobs of all worlds, by provider and job id; frees the tables that were emptied."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, JobTable]] = defaultdict(dict)
        self._emptied: deque[JobTable] = deque()

    def add(self, provider: str, job_id: str, table: JobTable) -> None:
        """Note the table of a job. Frees some jobs of emptied tables, so that a reset need not wait for that."""
        self._tables[provider][job_id] = table
        for _ in range(FREED_AT_ONCE):
            if not self._emptied:
                return
            self._free(self._emptied[0])

    def has(self, provider: str, job_id: str) -> bool:
        """Whether any world in this process has a provider's job."""
        table = self._tables[provider].get(job_id)
        return table is not None and not table.emptied

    def empty(self, table: JobTable) -> None:
        """Forget the jobs of a table, little by little."""
        table.emptied = True
        self._emptied.append(table)

    def _free(self, table: JobTable) -> None:
        job = table.pop()
        if job is None:
            self._emptied.popleft()
        else:
            self.remove(*job, table)

    def remove(self, provider: str, job_id: str, table: JobTable) -> None:
        """Remove a job that its table no longer has."""
        # Worlds with equal seeds have equal ids.
        if self._tables[provider].get(job_id) is table:
            del self._tables[provider][job_id]


class JobTable(Mapping[str, Job]):
    """The jobs of one world by id, oldest first. When `emptied`, it is only waiting to be freed."""

    def __init__(self, index: JobIndex | None = None) -> None:
        self.emptied = False
        self._index = index or JobIndex()
        self.unkept: Unkept | None = None
        """Notes the ends of jobs, if they are kept."""
        self._archive: Callable[[str], Job] | None = None
        # Whether the jobs are known that have ended in an earlier process.
        self._complete = True
        # Packed jobs are bytes; a job in the archive is no bytes.
        self._jobs: dict[str, Job | bytes] = {}
        # The ids by number, from the first number that is kept; None for a job that was forgotten.
        self._ids: list[str | None] = []
        self._first_number = 0
        # The bytes of each order by number, and of all; 0 for a job in the archive.
        self._sizes = array("I")
        self.kept_bytes = 0
        self._by_provider: dict[str | None, list[int]] = defaultdict(list)
        self._by_end: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        self._packer = Packer()
        self._unpacked: deque[int] = deque()
        self._open: dict[int, Job] = {}
        # The next change of each open job, and the jobs whose end has passed while their pictures are checked.
        self._planned: list[tuple[float, int]] = []
        self._held: set[int] = set()
        self._orders: dict[bytes, int | Repeats] = {}
        # The jobs that ended without success, and how many such jobs were forgotten.
        self._lost: set[int] = set()
        self._lost_before = 0
        self._duplicates = 0
        self._spent = self._reserved = Decimal(0)
        # The number of kept jobs by provider and stage.
        self._stages: dict[tuple[str, str], int] = defaultdict(int)

    def add(self, job: Job) -> None:
        """Add a job that was just submitted, and give it its number."""
        number = job.number = self._first_number + len(self._ids)
        self._jobs[job.id] = job
        self._ids.append(job.id)
        self._sizes.append(0)
        self._measure(job)
        for provider in (None, job.contract.key):
            self._by_provider[provider].append(number)
        self._index.add(job.contract.key, job.id, self)
        self._open[number] = job
        self._reserved += job.cost
        job.counted = job.timeline[0][1]
        self._stages[job.contract.key, job.counted] += 1
        heappush(self._planned, (_next_change(job, job.created) or job.finished, number))
        self._duplicates += self._add_order(_hash_of(job), number) > 0

    def _measure(self, job: Job) -> None:
        """Account for the bytes of a job's order and submission, and compute the hash of the order."""
        text = _order_text(job)
        job.order_hash = job.order_hash or _digest(text)
        size = len(text) + (len(job.submission.body) if job.submission is not None else 0)
        self._sizes[job.number - self._first_number] = size
        self.kept_bytes += size

    def empty(self) -> JobTable:
        """Give up this table; return an empty one instead."""
        self._index.empty(self)
        made = JobTable(self._index)
        made.unkept = self.unkept
        return made

    @property
    def kept(self) -> int | None:
        """The number of jobs that are kept, or None before `restore_ended`."""
        return len(self._jobs) if self._complete else None

    def tallies(self) -> list[Any]:
        """Return as JSON what cannot be counted from the kept jobs, for `restore`."""
        return [self._first_number, len(self._ids), self._lost_before, self._duplicates, str(self._spent)]

    def restore(
        self,
        tallies: Sequence[Any],
        running: Iterable[Job],
        archive: Callable[[str], Job],
        called: Iterable[tuple[int, str]] = (),
    ) -> None:
        """Fill an empty table with the running jobs of an earlier process; `restore_ended` has to follow.

        Until then, the table only finds jobs by id: the running ones, and those that have ended and are `called`, by
        number and id. `archive` returns a job that has ended by its id.
        """
        self._archive, self._complete = archive, False
        self._first_number, count, self._lost_before, self._duplicates, spent = tallies
        self._ids, self._spent = [None] * count, Decimal(spent)
        self._sizes = array("I", [0]) * count
        for job in running:
            self._ids[job.number - self._first_number] = job.id
            self._jobs[job.id] = self._open[job.number] = job
            self._measure(job)
            self._reserved += job.cost
            job.counted = job.timeline[0][1]
            self._stages[job.contract.key, job.counted] += 1
            # Its present stage may be a later one.
            heappush(self._planned, (float("-inf"), job.number))
            self._index.add(job.contract.key, job.id, self)
        for number, job_id in called:
            self._ids[number - self._first_number] = job_id
            self._jobs[job_id] = b""

    def restore_ended(self, pages: Iterable[Iterable[KeptEnd]]) -> Iterator[None]:
        """Add the jobs of an earlier process that have ended, in the order of their numbers; yields after each page.

        Until the end, the table finds no more jobs than before, and no job may be added or settled.
        """
        # The mapping lists the oldest job first, so the running jobs have to be added between the others.
        jobs: dict[str, Job | bytes] = {}
        running = deque(self._open[number] for number in sorted(self._open))
        for page in pages:
            for end in page:
                while running and running[0].number < end[0]:
                    self._restore_running(running.popleft(), jobs)
                self._restore_end(end, jobs)
            yield
        for job in running:
            self._restore_running(job, jobs)
        # An ended job that a callback has needed meanwhile is no longer only in the archive.
        jobs.update(self._jobs)
        self._jobs, self._complete = jobs, True

    def _restore_running(self, job: Job, jobs: dict[str, Job | bytes]) -> None:
        """Note a running job in the order of the numbers."""
        jobs[job.id] = job
        for provider in (None, job.contract.key):
            self._by_provider[provider].append(job.number)
        self._add_order(_hash_of(job), job.number)

    def _restore_end(self, end: KeptEnd, jobs: dict[str, Job | bytes]) -> None:
        """Note a job that has ended; it stays in the archive."""
        number, job_id, provider, stage, kind, order = end
        self._ids[number - self._first_number] = job_id
        jobs[job_id] = b""
        for key in (None, provider):
            self._by_provider[key].append(number)
        self._by_end[provider, stage, kind].append(number)
        self._stages[provider, stage] += 1
        self._index.add(provider, job_id, self)
        if kind == "success":
            self._add_order(bytes.fromhex(order), number)
        else:
            self._lost.add(number)

    def _add_order(self, order: bytes, number: int) -> int:
        """Note the order of a job; return how many jobs before it have the same order and are not lost."""
        before = self._orders.get(order)
        if before is None:
            self._orders[order] = number
            return 0
        repeats = self._orders[order] = before if isinstance(before, Repeats) else Repeats(before)
        found = repeats.count
        repeats.add(number)
        return found

    def snapshot(self) -> JobTable:
        """Return a copy that another thread may read. Jobs are shared, and none may be added to the copy."""
        made = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, (dict, list, set, deque)):
                setattr(made, name, copy(value))
        made.unkept = None
        for lists in (made._by_provider, made._by_end):
            lists.update({name: numbers[:] for name, numbers in lists.items()})  # type: ignore[misc]
        return made

    def pop(self) -> tuple[str, str] | None:
        """Remove one job of an emptied table; return its provider and id, or None if there is none left."""
        for provider, numbers in self._by_provider.items():
            if provider is not None and numbers:
                job_id = self._id(numbers.pop())
                del self._jobs[job_id]
                return provider, job_id
        return None

    def forget(self, count: int, size: int = 0) -> list[Job]:
        """Forget the oldest jobs that have ended, until `count` jobs and `size` bytes are gone; return them.

        The totals stay.
        """
        # The newest one stays: it is being submitted.
        ended = (number for number in self._by_provider[None][:-1] if number not in self._open)
        forgotten = [self.at(number) for number in self._oldest(ended, count, size)]
        gone = {job.number for job in forgotten}
        for numbers in (*self._by_provider.values(), *self._by_end.values()):
            numbers[:] = [number for number in numbers if number not in gone]
        for job in forgotten:
            self._index.remove(job.contract.key, job.id, self)
            del self._jobs[job.id]
            self._forget_order(job)
            self._stages[job.contract.key, job.timeline[-1][1]] -= 1
            self._ids[job.number - self._first_number] = None
            self.kept_bytes -= self._sizes[job.number - self._first_number]
        kept = next((at for at, name in enumerate(self._ids) if name is not None), len(self._ids))
        del self._ids[:kept], self._sizes[:kept]
        self._first_number += kept
        self._unpacked = deque(number for number in self._unpacked if number not in gone)
        return forgotten

    def _oldest(self, numbers: Iterable[int], count: int, size: int) -> Iterator[int]:
        """Yield numbers until there are `count` and their orders have `size` bytes."""
        for number in numbers:
            if count <= 0 and size <= 0:
                return
            yield number
            count, size = count - 1, size - self._sizes[number - self._first_number]

    def _forget_order(self, job: Job) -> None:
        """Forget the order of a job, so that a later one is no duplicate of it."""
        if job.number in self._lost:
            self._lost.discard(job.number)
            self._lost_before += 1
            return
        order = _hash_of(job)
        found = self._orders[order]
        if isinstance(found, Repeats) and found.count > 1:
            found.forget(job.number, self._lost)
        else:
            del self._orders[order]

    def _id(self, number: int) -> str:
        """Return the id of a job that is kept."""
        found = self._ids[number - self._first_number]
        assert found is not None
        return found

    def keeps(self, number: int) -> bool:
        """Whether the job with a number is kept: not forgotten, in a table that was not emptied."""
        at = number - self._first_number
        return not self.emptied and 0 <= at < len(self._ids) and self._ids[at] is not None

    def plan(self, job: Job) -> None:
        """Note that the timeline of a job has changed."""
        if job.number in self._open:
            # Due at once: its present stage may be another one, too.
            heappush(self._planned, (float("-inf"), job.number))

    def settle(self, now: float, most: int | None = None) -> bool:
        """Account for the jobs that have reached another stage by now; return whether more than `most` have."""
        for number in [one for one in self._held if not self._open[one].held]:
            self._held.discard(number)
            heappush(self._planned, (self._open[number].finished, number))
        while self._planned and self._planned[0][0] <= now:
            if most is not None:
                most -= 1
                if most < 0:
                    return True
            job = self._open.get(heappop(self._planned)[1])
            if job is not None:
                self._settle(job, now)
        return False

    def _settle(self, job: Job, now: float) -> None:
        """Account for the present stage of a job, and plan its next change."""
        number, stage = job.number, job.stage(now)
        if stage.name != job.counted:
            self._stages[job.contract.key, job.counted] -= 1
            self._stages[job.contract.key, stage.name] += 1
            job.counted = stage.name
        if stage.terminal:
            self._held.discard(number)
            self._end(job, now)
        elif (change := _next_change(job, now)) is not None:
            heappush(self._planned, (change, number))
        elif job.held:
            self._held.add(number)

    def _end(self, job: Job, now: float) -> None:
        """Account for a job that has ended."""
        number, stage = job.number, job.stage(now)
        del self._open[number]
        self._reserved -= job.cost
        if stage.kind == "success":
            self._spent += job.cost
        else:
            self._lose(job)
        insort(self._by_end[job.contract.key, stage.name, stage.kind], number)
        if self.unkept is not None:
            # It follows from the timeline and the clock, so nobody waits until it is kept.
            self.unkept.job(job, urgent=False)
        self._keep_unpacked(number)

    def _lose(self, job: Job) -> None:
        """Note that a job ended without success: repeating its order costs nothing, so it makes no duplicate."""
        self._lost.add(job.number)
        order = _hash_of(job)
        found = self._orders[order]
        if isinstance(found, Repeats):
            self._duplicates -= found.count > 1
            found.remove(self._lost)
        else:
            del self._orders[order]

    def _keep_unpacked(self, number: int) -> None:
        """Keep an ended job unpacked, and pack the job that has been unpacked for longest."""
        self._unpacked.append(number)
        if len(self._unpacked) > MOST_UNPACKED:
            name = self._id(self._unpacked.popleft())
            job = self._jobs[name]
            packed = self._packer.pack(job) if isinstance(job, Job) else None
            if packed is not None:
                self._jobs[name] = packed

    def __getitem__(self, job_id: str) -> Job:
        found = self._jobs[job_id]
        if isinstance(found, bytes):
            # It replaces its bytes, so that a change of it is kept.
            found = self._jobs[job_id] = self._unpacked_job(job_id, found)
            self._keep_unpacked(found.number)
        return found

    def get(self, job_id: str, default: object = None) -> Job | None:  # type: ignore[override]
        """Return a job, or None."""
        # The hot path of a poll: a plain look-up for a job that is not packed.
        found = self._jobs.get(job_id)
        return self[job_id] if isinstance(found, bytes) else found

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._jobs))

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._jobs

    def values(self) -> ValuesView[Job]:
        """Return the jobs, oldest first. A packed job is a copy: its changes are lost."""
        return _Jobs(self)

    def at(self, number: int) -> Job:
        """Return the job with a number. A packed job is a copy: its changes are lost."""
        job_id = self._id(number)
        found = self._jobs[job_id]
        return self._unpacked_job(job_id, found) if isinstance(found, bytes) else found

    def listed(self, numbers: Iterable[int]) -> Iterator[Job]:
        """Yield the jobs with these numbers as `at` does, without the jobs that are gone when their turn comes.

        For readers in steps: between two steps, jobs may be forgotten, or the table emptied.
        """
        yield from map(self.at, filter(self.keeps, numbers))

    def _unpacked_job(self, job_id: str, found: bytes) -> Job:
        """Return a job that is packed, or in the archive."""
        if not found:
            assert self._archive is not None
            return self._archive(job_id)
        return self._packer.unpack(found)

    def numbers(self, provider: str | None = None) -> Sequence[int]:
        """Return the numbers of the jobs of a provider, or of all, ascending."""
        return self._by_provider.get(provider, ())

    def ends(self) -> Iterator[tuple[str, str, str, Sequence[int]]]:
        """Yield provider, stage, class of the stage, and the numbers of the jobs that ended so. Call `settle` first."""
        for (provider, stage, kind), numbers in self._by_end.items():
            yield provider, stage, kind, numbers

    @property
    def stages(self) -> Mapping[tuple[str, str], int]:
        """The number of kept jobs by provider and stage. Call `settle` first."""
        return self._stages

    @property
    def running(self) -> Mapping[int, Job]:
        """The jobs that have not ended, by number. Call `settle` first."""
        return self._open

    @property
    def committed(self) -> Decimal:
        """The cost of the jobs that were billed or may still be, in USD. Call `settle` first."""
        return self._spent + self._reserved

    def totals(self) -> Totals:
        """Return the totals of the ledger. Call `settle` first."""
        submitted = self._first_number + len(self._ids)
        return Totals(submitted - len(self._lost) - self._lost_before, self._duplicates, self._spent)

    def entry(self, job: Job, now: float) -> LedgerEntry:
        """Return the ledger's entry of a job. Call `settle` first."""
        number, stage = job.number, job.stage(now)
        billed, lost = stage.kind == "success", number in self._lost
        first = None if lost else self._first(job)
        return LedgerEntry(
            job.id,
            job.contract.key,
            job.order.model.id,
            job.created,
            stage.name,
            job.cost if billed else Decimal(0),
            billed,
            not lost,
            None if first is None or first == number else self._id(first),
        )

    def duplicates(self, most: int) -> list[int]:
        """Return the numbers of the newest jobs that repeat an earlier billable order, newest first."""
        if not self._duplicates:
            return []
        repeated = (one for one in self._orders.values() if isinstance(one, Repeats) and one.count > 1)
        return nlargest(most, (number for one in repeated for number in one.after_first(self._lost)))

    def _first(self, job: Job) -> int:
        """Return the number of the first job of an order that is not lost."""
        found = self._orders[_hash_of(job)]
        return found if isinstance(found, int) else found.first


class _Jobs(ValuesView[Job]):
    """The jobs of a table, none of which is kept unpacked because it was listed."""

    _mapping: JobTable

    def __iter__(self) -> Iterator[Job]:
        return map(self._mapping.at, tuple(self._mapping.numbers()))

    def __reversed__(self) -> Iterator[Job]:
        return map(self._mapping.at, tuple(self._mapping.numbers())[::-1])


KeptEnd = tuple[int, str, str, str, str, str]
"""A job that has ended: number, id, provider, stage, class of the stage, hash of the order."""


class Repeats:
    """The numbers of the jobs with one order, ascending, without the lost ones."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = deque(numbers)
        self.count = len(numbers)

    @property
    def first(self) -> int:
        """The first job that is not lost."""
        return self._numbers[0]

    def after_first(self, lost: set[int]) -> Iterator[int]:
        """Yield the jobs after the first, without the lost ones."""
        return (number for number in islice(self._numbers, 1, None) if number not in lost)

    def add(self, number: int) -> None:
        """Add a later job."""
        self._numbers.append(number)
        self.count += 1

    def forget(self, number: int, lost: set[int]) -> None:
        """Forget a job that is not lost."""
        self._numbers.remove(number)
        self.remove(lost)

    def remove(self, lost: set[int]) -> None:
        """Note that one job more is lost; `lost` has all of them."""
        self.count -= 1
        while self._numbers and self._numbers[0] in lost:
            self._numbers.popleft()


class Newest(Sequence[int]):
    """Numbers in the reverse order, without a copy."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        """Return the number at an index, or the numbers of a slice."""
        if isinstance(index, int):
            return self._numbers[-1 - index]
        start, stop, _ = index.indices(len(self))
        return self._numbers[len(self) - stop : len(self) - start][::-1]


def _next_change(job: Job, now: float) -> float | None:
    """Return the next moment of a job's timeline, or None if it has none."""
    for moment, _ in job.timeline:  # no generator: each submission asks
        if moment > now:
            return moment
    return None


def count_before(numbers: Sequence[int], number: int | None) -> int:
    """Return how many of the ascending numbers are less than `number`; all if it is None."""
    return len(numbers) if number is None else bisect_left(numbers, number)


def order_hash(job: Job) -> str:
    """Return a hash that is equal for jobs with equal orders at one provider."""
    return _hash_of(job).hex()


def _hash_of(job: Job) -> bytes:
    # Computed once: pictures that were fetched get other names in the order.
    if not job.order_hash:
        job.order_hash = _digest(_order_text(job))
    return job.order_hash


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=ORDER_HASH_BYTES).digest()


def _order_text(job: Job) -> bytes:
    """Return a text that is equal for jobs with equal orders at one provider."""
    return repr((job.contract.key, job.order.identity)).encode()
