"""The table of jobs: its tallies equal a count of all jobs at any moment, and packing changes nothing that is read."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.lifecycle import LifecycleError
from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds import job_table
from hobbyhorse.worlds.job_table import JobIndex, JobTable, Newest, Repeats, count_before, order_hash
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.ledger import Ledger, LedgerEntry, Totals
from hobbyhorse.worlds.limits import Limits
from hobbyhorse.worlds.world import Ending, World
from tests.world import order_of


def world_of(limits: Limits | None = None, table: JobTable | None = None) -> World:
    """Return a world whose clock stands."""
    # An empty table is false.
    jobs = JobTable() if table is None else table
    return World("key", "handle", ManualClock(), Random(7), "realistic", jobs, limits=limits or Limits())


def counted(world: World) -> Ledger:
    """Return the ledger by a count of every job, as the definition of a duplicate says."""
    now, paid, entries = world.clock.now(), dict[object, str](), []
    for job in world.jobs.values():
        stage, order = job.stage(now), (job.contract.key, *job.order.identity)
        billed = stage.kind == "success"
        lost = stage.terminal and not billed
        cost, again = job.cost if billed else Decimal(0), None if lost else paid.get(order)
        names = (job.id, job.contract.key, job.order.model.id)
        entries.append(LedgerEntry(*names, job.created, stage.name, cost, billed, not lost, again))
        if not lost:
            paid.setdefault(order, job.id)
    return Ledger(tuple(entries))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 3), st.sampled_from(["success", "failure", "hold"])),
        st.tuples(st.just("cancel"), st.integers(0, 4)),
        st.tuples(st.just("release"), st.integers(0, 4)),
        st.tuples(st.just("end"), st.integers(0, 4)),
        st.tuples(st.just("advance"), st.integers(0, 200)),
        st.tuples(st.just("limit"), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.anyio
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, unpacked=st.integers(0, 2))
async def test_ledger_and_tallies_equal_a_count_of_every_job(
    contract: Contract, steps: list[tuple[object, ...]], unpacked: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_table, "MOST_UNPACKED", unpacked)
        world = world_of()
        for step in steps:
            await follow(world, contract, step)
            now, found = world.clock.now(), counted(world)
            assert world.ledger() == found
            assert world.totals() == Totals(found.billable, found.duplicates, found.usd)
            running = [job for job in world.jobs.values() if not job.stage(now).terminal]
            assert [job.id for job in world.jobs.running.values()] == [job.id for job in running]
            again = [
                job.number for job, one in zip(world.jobs.values(), found.entries, strict=True) if one.duplicate_of
            ]
            assert world.jobs.duplicates(99) == again[::-1]
            assert world.jobs.duplicates(1) == again[-1:]
            by_stage = Counter((job.contract.key, job.stage(now).name) for job in world.jobs.values())
            assert {key: count for key, count in world.jobs.stages.items() if count} == by_stage
            assert world.jobs.committed == found.usd + sum((job.cost for job in running), Decimal(0))
            ended = {(provider, stage): list(numbers) for provider, stage, _, numbers in world.jobs.ends() if numbers}
            for (provider, stage), numbers in ended.items():
                here = [job.number for job in world.jobs.values() if job.stage(now).name == stage]
                assert (provider, numbers) == (contract.key, here)


async def follow(world: World, contract: Contract, step: tuple[object, ...]) -> None:
    """Do one step of the test above."""
    kind, number = str(step[0]), int(str(step[1]))
    job = world.jobs[[*world.jobs][number % len(world.jobs)]] if len(world.jobs) else None
    if kind == "submit":
        if step[2] == "failure":
            failure = contract.graph.ending("failure")
            assert failure is not None
            world.endings.append(Ending(failure.name))
        made = world.submit(contract, order_of(contract, seed=number))
        made.held = step[2] == "hold"
    elif kind == "advance":
        await world.clock.advance(number)
    elif kind == "limit":
        world.limit(Limits(workers=number))
    elif job is not None and kind == "cancel":
        world.cancel(job)
    elif job is not None and kind == "release" and job.held:
        job.release(world.clock.now(), "no such picture" if number % 2 else None)
    elif job is not None and kind == "end":
        try:
            world.transition(job, job.stage(world.clock.now()).next[0])
        except (LifecycleError, IndexError):
            return


def test_a_job_that_ended_is_the_same_after_packing(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_table, "MOST_UNPACKED", 0)
    world = world_of()
    failure = contract.graph.ending("failure")
    assert failure is not None
    world.endings.append(Ending(failure.name, "BAD", "no horse"))
    job = world.submit(contract, order_of(contract))
    values = {name: getattr(job, name) for name in ("id", "order", "timeline", "seed", "error", "number", "cost")}
    world.clock.step(job.finished)
    world.jobs.settle(world.clock.now())
    packed = world.jobs.at(0)
    assert packed is not job
    assert {name: getattr(packed, name) for name in values} == values
    assert packed.order.model is job.order.model
    assert packed.contract is contract


def test_a_change_of_a_packed_job_is_kept(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_table, "MOST_UNPACKED", 1)
    world = world_of()
    jobs = [world.submit(contract, order_of(contract)) for _ in range(3)]
    world.clock.step(max(job.finished for job in jobs))
    world.jobs.settle(world.clock.now())
    for job in jobs:
        world.jobs[job.id].collected = True
    assert [job.collected for job in world.jobs.values()] == [True, True, True]


def test_an_end_that_was_planned_twice_hides_no_later_one(contract: Contract) -> None:
    world = world_of()
    first, second = (world.submit(contract, order_of(contract)) for _ in range(2))
    early, late = sorted((first, second), key=lambda job: job.finished)
    world.jobs.plan(early)
    world.clock.step(late.finished)
    world.jobs.settle(world.clock.now())
    assert world.jobs.totals().usd == first.cost + second.cost


def test_the_index_forgets_the_jobs_of_emptied_tables_little_by_little(contract: Contract) -> None:
    index = JobIndex()
    table, other = JobTable(index), JobTable(index)
    world, elsewhere = world_of(table=table), world_of(table=other)
    job = world.submit(contract, order_of(contract))
    assert index.has(contract.key, job.id)
    assert not index.has("another", job.id)
    again = elsewhere.submit(contract, order_of(contract))
    assert again.id == job.id, "equal seeds give equal ids"
    world.jobs = table.empty()
    assert index.has(contract.key, job.id), "the other world still has it"
    elsewhere.submit(contract, order_of(contract))
    assert index.has(contract.key, job.id)
    elsewhere.jobs = elsewhere.jobs.empty()
    assert not index.has(contract.key, job.id)
    world.submit(contract, order_of(contract))
    assert (table.pop(), other.pop()) == (None, None), "they were freed by the new jobs"


def test_a_snapshot_does_not_change_with_the_table(contract: Contract) -> None:
    world = world_of()
    job = world.submit(contract, order_of(contract))
    taken = world.snapshot()
    world.submit(contract, order_of(contract))
    world.clock.step(job.finished)
    assert (len(taken.jobs), len(world.jobs)) == (1, 2)
    assert [entry.job for entry in taken.ledger().entries] == [job.id]
    assert taken.totals().duplicates == 0
    assert world.totals().duplicates == 1


def test_forgotten_jobs_stay_in_the_totals_and_make_no_later_duplicate(contract: Contract) -> None:
    world, failure = world_of(), contract.graph.ending("failure")
    assert failure is not None
    world.endings.append(Ending(failure.name))
    jobs = [world.submit(contract, order_of(contract, seed=number % 2)) for number in range(6)]
    world.clock.step(max(job.finished for job in jobs))
    before = world.totals()
    assert (before.billable, before.duplicates) == (5, 3)
    assert [job.id for job in world.jobs.forget(3)] == [job.id for job in jobs[:3]]
    assert world.totals() == before
    assert list(world.jobs) == [job.id for job in jobs[3:]]
    assert [job.number for job in world.jobs.values()] == [3, 4, 5]
    entries = world.ledger().entries
    assert [entry.duplicate_of for entry in entries] == [None, None, jobs[3].id]
    assert [entry.job for entry in world.ledger(world.jobs.numbers()[1:]).entries] == [jobs[4].id, jobs[5].id]
    assert [job.number for job in world.jobs.forget(99)] == [3, 4], "the newest one stays"
    assert sum(world.jobs.stages.values()) == len(world.jobs)


def failing(world: World, contract: Contract) -> None:
    """Let the next job of a world fail."""
    failure = contract.graph.ending("failure")
    assert failure is not None
    world.endings.append(Ending(failure.name))


def test_an_order_whose_jobs_all_fail_has_no_duplicate(contract: Contract) -> None:
    world = world_of()
    for _ in range(3):
        failing(world, contract)
        world.submit(contract, order_of(contract))
    assert world.totals() == Totals(3, 2, Decimal(0)), "each of them may still succeed"
    world.clock.step(max(job.finished for job in world.jobs.values()))
    assert world.totals() == Totals(0, 0, Decimal(0))
    world.submit(contract, order_of(contract))
    assert world.totals() == Totals(1, 0, Decimal(0)), "nothing was paid for before"


def restored(world: World) -> World:
    """Return a world with the jobs of another one, as after a restart of the server."""
    now, jobs = world.clock.now(), dict(world.jobs)
    running = [job for job in jobs.values() if not job.stage(now).terminal]
    ends = [
        (job.number, job.id, job.contract.key, job.stage(now).name, str(job.stage(now).kind), order_hash(job))
        for job in jobs.values()
        if job.stage(now).terminal
    ]
    world.jobs.settle(now)
    again = world_of()
    again.clock.step(now)
    again.jobs.restore(world.jobs.tallies(), running, jobs.__getitem__)
    # In pages: a step may end between any two jobs.
    for _ in again.jobs.restore_ended([ends[:2], ends[2:]]):
        assert list(again.jobs) == [job.id for job in running], "until the end, only what runs is found"
    return again


def test_after_a_restart_the_ledger_is_the_same_and_goes_on(contract: Contract) -> None:
    world = world_of()
    failing(world, contract)
    first = [world.submit(contract, order_of(contract, seed=seed)) for seed in (1, 1, 1, 2)]
    world.clock.step(max(job.finished for job in first))
    later = [world.submit(contract, order_of(contract, seed=seed)) for seed in (2, 3)]
    before, totals = world.ledger(), world.totals()
    assert [entry.duplicate_of for entry in before.entries] == [None, None, first[1].id, None, first[3].id, None]
    again = restored(world)
    assert (again.ledger(), again.totals()) == (before, totals)
    assert again.jobs.duplicates(9) == world.jobs.duplicates(9) == [4, 2]
    assert list(again.jobs) == [job.id for job in (*first, *later)]
    assert list(again.jobs.running) == [4, 5]
    assert again.jobs.committed == world.jobs.committed == 5 * first[0].cost
    assert {key: count for key, count in again.jobs.stages.items() if count} == {
        key: count for key, count in world.jobs.stages.items() if count
    }
    # An order of the earlier process that is submitted once more is a duplicate of its first paid job.
    job = Job("one-more", contract, order_of(contract, seed=1), later[0].timeline, 7, (None, None))
    again.jobs.add(job)
    assert (job.number, again.ledger().entries[-1].duplicate_of) == (6, first[1].id)
    assert again.totals().duplicates == 3


def test_an_order_of_two_jobs_keeps_its_duplicate_after_a_restart(contract: Contract) -> None:
    world = world_of()
    first, second = (world.submit(contract, order_of(contract)) for _ in range(2))
    world.clock.step(max(first.finished, second.finished))
    again = restored(world)
    assert [entry.duplicate_of for entry in again.ledger().entries] == [None, first.id]
    assert again.jobs.duplicates(9) == [second.number]


def test_jobs_are_forgotten_from_the_oldest_ended_one_on_and_running_ones_stay(contract: Contract) -> None:
    world = world_of()
    jobs = [world.submit(contract, order_of(contract, seed=number)) for number in range(4)]
    jobs[1].held = True
    world.clock.step(max(job.finished for job in jobs))
    world.jobs.settle(world.clock.now())
    spent = world.totals().usd
    assert [job.number for job in world.jobs.forget(2)] == [0, 2]
    assert list(world.jobs) == [jobs[1].id, jobs[3].id]
    assert [number for number in range(-9, 9) if world.jobs.keeps(number)] == [1, 3]
    assert [entry.job for entry in world.ledger().entries] == [jobs[1].id, jobs[3].id]
    assert (world.totals().usd, world.totals().billable) == (spent, 4)
    assert world.jobs.forget(9) == [], "one runs, and the newest one stays"
    assert world.submit(contract, order_of(contract, seed=9)).number == 4


def test_a_reader_in_steps_gets_no_job_that_is_gone_when_its_turn_comes(contract: Contract) -> None:
    world = world_of()
    jobs = [world.submit(contract, order_of(contract, seed=number)) for number in range(6)]
    world.clock.step(max(job.finished for job in jobs))
    world.jobs.settle(world.clock.now())
    table = world.jobs
    listed = table.listed(table.numbers()[:])
    assert next(listed).number == 0
    table.forget(3)
    assert next(listed).number == 3
    world.jobs = table.empty()
    assert list(listed) == []


def test_the_newest_of_numbers_are_a_view() -> None:
    newest = Newest(range(5))
    assert (len(newest), newest[0], newest[-1], list(newest)) == (5, 4, 0, [4, 3, 2, 1, 0])
    assert [list(newest[start:stop]) for start, stop in ((0, 2), (3, 9), (5, 7))] == [[4, 3], [1, 0], []]


def test_numbers_before_a_cursor_are_counted() -> None:
    assert [count_before([1, 4, 9], number) for number in (None, 0, 4, 5, 99)] == [3, 0, 1, 2, 3]


def test_the_first_repeat_that_is_not_lost_is_found() -> None:
    repeats, lost = Repeats(1), set[int]()
    for number in (2, 5):
        repeats.add(number)
    for number, expected in ((2, 1), (1, 5)):
        lost.add(number)
        repeats.remove(lost)
        assert repeats.first == expected
    assert repeats.count == 1


def test_settling_can_be_split(contract: Contract) -> None:
    world = world_of()
    for _ in range(5):
        world.submit(contract, order_of(contract))
    later = max(job.finished for job in world.jobs.values())
    world.clock.step(later)
    rounds = 1
    while world.jobs.settle(later, most=2):
        rounds += 1
    assert rounds > 2
    assert not world.jobs.running
    assert sum(world.jobs.stages.values()) == 5
