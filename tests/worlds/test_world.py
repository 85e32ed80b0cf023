"""A world: separate from every other, its jobs queued, moved and reset; and the worlds by key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.lifecycle import LifecycleError, lay, stage_at
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.effects import ID_TAILS
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.state.records import encode
from hobbyhorse.worlds.job_table import JobTable
from hobbyhorse.worlds.jobs import Job, SubmittedRequest
from hobbyhorse.worlds.kept_worlds import head_of
from hobbyhorse.worlds.limits import Limits
from hobbyhorse.worlds.unkept import Unkept
from hobbyhorse.worlds.world import MOST_ENDINGS, RESETS, Ending, World, Worlds, _shifted
from tests.conftest import CONTRACTS, contracts_that
from tests.world import order_of


def world_of(pace: str = "realistic", **more: object) -> World:
    """Return a world whose clock stands."""
    return World("key", "handle", ManualClock(), Random(7), pace, **more)  # type: ignore[arg-type]


waiting = contracts_that(lambda contract: contract.graph[contract.graph.initial].kind == "pending")


# ---- jobs


def test_a_job_ends_as_the_next_ending_says_and_well_without_one(contract: Contract) -> None:
    failure = contract.graph.ending("failure")
    assert failure is not None
    world = world_of()
    world.endings.append(Ending(failure.name, "BAD", "no horse"))
    failed, well = (world.submit(contract, order_of(contract)) for _ in range(2))
    assert (failed.timeline[-1][1], failed.error) == (failure.name, ("BAD", "no horse"))
    assert (contract.graph[well.timeline[-1][1]].kind, well.error) == ("success", (None, None))
    assert world.find(contract, well.id) is well
    assert world.find(contract, "nothing") is None


def test_an_ending_waits_for_a_job_of_a_provider_that_has_its_stage() -> None:
    stages = [(one, other, stage) for one in CONTRACTS for other in CONTRACTS for stage in one.graph.terminals()]
    foreign = [(one, other, stage) for one, other, stage in stages if stage.name not in other.graph.stages]
    assert foreign
    for one, other, stage in foreign:
        world = world_of()
        world.end_next(Ending(stage.name))
        theirs = world.submit(other, order_of(other))
        assert other.graph[theirs.timeline[-1][1]].kind == "success"
        assert world.submit(one, order_of(one)).timeline[-1][1] == stage.name
        assert not world.endings


def test_a_bounded_number_of_endings_waits(contract: Contract) -> None:
    world, ending = world_of(), Ending(contract.graph.terminals()[0].name)
    assert [world.end_next(ending) for _ in range(MOST_ENDINGS)][-1] == MOST_ENDINGS
    with pytest.raises(ValueError, match="100 ends wait for their jobs"):
        world.end_next(ending)
    world.submit(contract, order_of(contract))
    assert world.end_next(ending) == MOST_ENDINGS


@waiting
def test_rivals_alone_are_ahead_of_a_job(contract: Contract) -> None:
    job = world_of(limits=Limits(rivals=3)).submit(contract, order_of(contract))
    assert job.ahead is not None
    places = {job.ahead(job.created + seconds) for seconds in range(60)}
    assert len(places) > 1
    assert max(places) <= 3


@waiting
def test_a_job_behind_a_busy_worker_keeps_its_beginning_and_moves_the_rest_by_the_same_delay(
    contract: Contract,
) -> None:
    world, free = world_of(limits=Limits(workers=1)), world_of()
    first, second = (world.submit(contract, order_of(contract)) for _ in range(2))
    alone = [free.submit(contract, order_of(contract)) for _ in range(2)]
    assert first.timeline == alone[0].timeline
    planned, queued = alone[1].timeline, second.timeline
    pending = sum(contract.graph[name].kind == "pending" for _, name in planned)
    assert queued[:pending] == planned[:pending], "stages that need no worker keep their moments"
    assert [name for _, name in queued] == [name for _, name in planned]
    assert queued[pending][0] == pytest.approx(first.finished), "the second starts when the first is done"
    gaps = [[later[0] - earlier[0] for earlier, later in pairwise(one[pending:])] for one in (queued, planned)]
    assert gaps[0] == pytest.approx(gaps[1])
    assert [moment for moment, _ in queued] == sorted(moment for moment, _ in queued)
    for seconds in (0.0, 1.0):
        assert stage_at(queued, second.created + seconds) == contract.graph.initial


@waiting
def test_a_timeline_is_shifted_from_the_first_stage_that_needs_a_worker(contract: Contract) -> None:
    timeline = lay(contract.graph, 100.0, lambda stage: 10.0)
    job = Job("id", contract, order_of(contract), timeline, 1)
    pending = sum(contract.graph[name].kind == "pending" for _, name in timeline)
    moments = [moment for moment, _ in timeline]
    shifted = _shifted(job, 60.0)
    assert shifted == tuple(
        (moment if at < pending else moment + 60.0, name) for at, (moment, name) in enumerate(timeline)
    )
    assert [moment for moment, _ in shifted] == [*moments[:pending], *(moment + 60.0 for moment in moments[pending:])]
    assert stage_at(shifted, 101.0) == contract.graph.initial


def test_a_timeline_of_one_entry_is_not_shifted() -> None:
    contract = CONTRACTS[0]
    job = Job("id", contract, order_of(contract), ((100.0, contract.graph.initial),), 1)
    assert _shifted(job, 60.0) == ((100.0, contract.graph.initial),)


def test_a_job_is_cancelled_only_from_a_cancellable_stage(contract: Contract) -> None:
    moved: list[str] = []
    world = world_of()
    world.on_move = lambda _, job: moved.append(job.id)
    job = world.submit(contract, order_of(contract))
    cancellable = contract.graph[contract.graph.initial].cancellable
    assert world.cancel(job) is cancellable
    assert moved == [job.id] * cancellable
    assert (job.stage(world.clock.now()).kind == "cancelled") is cancellable
    assert world.cancel(job) is False, "a terminal stage is not cancellable"


def test_a_job_moves_to_a_legal_stage_and_continues_from_there(contract: Contract) -> None:
    world = world_of()
    job = world.submit(contract, order_of(contract))
    following = contract.graph[contract.graph.initial].next[0]
    world.transition(job, following)
    assert job.stage(world.clock.now()).name == following
    assert contract.graph[job.timeline[-1][1]].kind == "success"
    assert [moment for moment, _ in job.timeline] == sorted(moment for moment, _ in job.timeline)
    with pytest.raises(LifecycleError, match=r"no transition from .* to 'nowhere'; allowed: \["):
        world.transition(job, "nowhere")


def test_a_job_that_is_moved_is_in_each_further_stage_once(contract: Contract) -> None:
    world = world_of()
    job = world.submit(contract, order_of(contract))
    following = contract.graph[contract.graph.initial].next[0]
    world.transition(job, following)
    names = [name for _, name in job.timeline]
    assert names == list(contract.graph.path(contract.graph.initial))
    moved = names.index(following)
    assert job.timeline[moved][0] == world.clock.now()
    # A realistic stage takes time; the one that the job is in begins now.
    assert len({moment for moment, _ in job.timeline[moved:]}) == len(names) - moved


def test_a_job_that_is_moved_to_a_failure_shows_its_error(contract: Contract) -> None:
    world = world_of()
    job = world.submit(contract, order_of(contract))
    failure = contract.graph.ending("failure")
    assert failure is not None
    for name in contract.graph.path(contract.graph.initial, failure.name)[1:]:
        world.transition(job, name, "BAD", "no horse")
    assert (job.stage(world.clock.now()), job.error) == (failure, ("BAD", "no horse"))


# ---- resetting


def test_a_reset_forgets_what_it_names_and_a_full_one_restores_pace_and_limits() -> None:
    worlds = Worlds(ManualClock, pace="fast", limits=Limits(concurrent_jobs=3))
    world = worlds.of("key")
    assert world is not None
    world.submit(CONTRACTS[0], order_of(CONTRACTS[0]))
    world.limit(Limits())
    world.pace = "instant"
    world.reset({"journal"})
    assert (len(world.jobs), world.pace) == (1, "instant")
    world.reset(RESETS)
    assert (dict(world.jobs), world.pace, world.limits) == ({}, "fast", Limits(concurrent_jobs=3))


def test_a_reset_of_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot reset 'everything'; allowed: jobs, journal, scenarios, clock"):
        world_of().reset({"everything"})


# ---- the worlds


def test_keys_open_worlds_that_share_nothing() -> None:
    worlds = Worlds(ManualClock)
    one, two = worlds.of("one"), worlds.of("two")
    assert one is not None
    assert two is not None
    assert one is worlds.of("one")
    assert one.handle != two.handle
    assert one.clock is not two.clock
    assert worlds.by_handle(two.handle) is two


def test_the_keys_of_several_providers_share_a_world_until_it_is_dropped() -> None:
    worlds = Worlds(ManualClock, closed=True)
    world = worlds.seeded("one", 1)
    assert world is not None
    worlds.share(world, {"a": "one", "b": "two"})
    assert worlds.of("one") is worlds.of("two") is world
    assert [one.handle for one in worlds] == [world.handle]
    worlds.drop(world)
    assert worlds.of("one") is worlds.of("two") is None


def test_only_accepted_keys_open_a_world() -> None:
    worlds = Worlds(ManualClock, accepted=frozenset({"one"}))
    assert worlds.of("one") is not None
    assert worlds.of("two") is None
    assert worlds.seeded("two", 1) is None
    assert worlds.known("two") is None


def test_closed_worlds_take_only_keys_that_were_given_a_world() -> None:
    worlds = Worlds(ManualClock, closed=True)
    assert worlds.of("one") is None
    given = worlds.seeded("one", 1)
    assert worlds.of("one") is given is worlds.known("one")


def test_two_worlds_with_one_seed_make_the_same_ids(contract: Contract) -> None:
    worlds = Worlds(ManualClock)
    made = []
    for key, seed in (("one", 5), ("two", 5), ("three", 6)):
        world = worlds.seeded(key, seed)
        assert world is not None
        made.append([world.submit(contract, order_of(contract)).id for _ in range(2)])
    assert made[0] == made[1] != made[2]
    with pytest.raises(ValueError, match="the key 'one' already has a world; use a new key for a seed"):
        worlds.seeded("one", 5)


def test_a_dropped_world_is_gone_with_its_jobs_and_its_key_opens_a_new_one(contract: Contract) -> None:
    worlds = Worlds(ManualClock)
    world = worlds.of("one")
    assert world is not None
    job = world.submit(contract, order_of(contract))
    assert worlds.has(contract, job.id)
    worlds.drop(world)
    assert (list(worlds), worlds.by_handle(world.handle), worlds.has(contract, job.id)) == ([], None, False)
    assert worlds.of("one") is not world


def test_clients_have_real_time_unless_their_world_is_virtual() -> None:
    world = world_of()
    world.clock.step(world.clock.now() + 86_400)
    assert abs(world.clients_now() - time.time()) < 60
    assert world_of(virtual=True).clients_now() == ManualClock().now() != world.clock.now()


def test_an_arrival_is_the_last_use_of_its_world() -> None:
    world = world_of(virtual=True)
    before = world.used
    world.clock.step(world.clock.now() + 60)
    entry = world.arrival()
    assert before < world.used == entry.number
    assert world.used_at == world.clock.now()


def test_the_handle_of_a_key_is_known_before_its_world_is_opened() -> None:
    worlds = Worlds(ManualClock)
    handle = worlds.handle("one")
    assert worlds.known("one") is None
    world = worlds.of("one")
    assert world is not None
    assert world.handle == handle == worlds.handle("one")
    worlds.share(world, {"provider": "two"})
    assert worlds.handle("two") == handle, "a second key of the same world"


def test_only_keys_that_have_or_may_open_a_world_are_accepted() -> None:
    for worlds, expected in (
        (Worlds(ManualClock), [True, True]),
        (Worlds(ManualClock, accepted=frozenset({"one"})), [True, False]),
        (Worlds(ManualClock, closed=True), [False, False]),
    ):
        assert [worlds.accepts(key) for key in ("one", "two")] == expected
    given = Worlds(ManualClock, closed=True)
    given.seeded("two", 1)
    assert given.accepts("two")


class Kept:
    """The kept state of one world, in which nothing is read."""

    def __init__(self, handle: str) -> None:
        self.handle, self.woken, self.steps = handle, list[str](), 0

    def open(self, world: World) -> None:
        """Note that a world opens."""

    def wake(self, world: World) -> Iterator[None]:
        self.woken.append(world.handle)
        for self.steps in range(1, 4):
            yield

    def knows(self, handle: str) -> bool:
        return handle == self.handle

    def has(self, provider: str, job_id: str) -> bool:
        return (provider, job_id) == (CONTRACTS[0].key, "kept")

    def drop(self, world: World) -> None:
        """Forget it."""

    def make_room(self, most: int) -> None:
        """Forget the oldest ones."""


def test_closing_stops_the_clock_of_each_world_also_of_one_that_is_asleep() -> None:
    async def nothing() -> None:
        return None

    worlds = Worlds(ManualClock)
    open_one = worlds.of("one")
    worlds.archive = Kept("asleep")
    worlds.restore("asleep")
    asleep = worlds.opened("asleep")
    assert open_one is not None
    assert asleep is not None
    for world in (open_one, asleep):
        world.clock.at(world.clock.now() + 60, nothing)
    worlds.close()
    assert [world.clock.waiting for world in (open_one, asleep)] == [0, 0]


def test_a_world_sleeps_after_a_restart_until_somebody_needs_all_of_it() -> None:
    worlds, kept = Worlds(ManualClock), Kept("kept")
    worlds.archive = kept
    worlds.restore("asleep")
    world = worlds.opened("asleep")
    assert world is not None
    assert worlds.is_asleep(world)
    assert kept.woken == []
    assert list(worlds) == []
    assert worlds.by_handle("asleep") is world is worlds.by_handle("asleep")
    assert kept.woken == ["asleep"], "once"
    assert not worlds.is_asleep(world)
    assert list(worlds) == [world]
    other = worlds.by_handle("kept")
    assert other is not None
    assert kept.woken == ["asleep", "kept"]
    assert worlds.by_handle("unknown") is None


def test_a_kept_world_is_read_in_steps_that_several_take() -> None:
    worlds, kept = Worlds(ManualClock), Kept("kept")
    worlds.archive = kept
    assert not worlds.is_ready("kept")
    one, other = worlds.waking("kept"), worlds.waking("kept")
    next(one)
    next(other)
    assert (kept.woken, kept.steps) == (["kept"], 2)
    assert not worlds.is_ready("kept")
    assert list(worlds) == [], "nobody finds a world of which only a part is read"
    world = worlds.by_handle("kept")
    assert world is not None
    assert kept.steps == 3
    assert list(one) == list(other) == []
    assert worlds.is_ready("kept")
    assert worlds.by_handle("kept") is world
    assert list(worlds.waking("kept")) == []


def test_a_world_that_is_forgotten_while_it_is_read_is_not_opened() -> None:
    worlds, kept = Worlds(ManualClock), Kept("kept")
    worlds.archive = kept
    reading = worlds.waking("kept")
    next(reading)
    world = worlds.opened("kept")
    assert world is not None
    worlds.drop(world)
    kept.handle = "another"
    assert list(reading) == []
    assert (kept.steps, worlds.opened("kept")) == (1, None)
    assert worlds.is_ready("kept")


def test_a_kept_world_is_found_again_by_its_key_and_a_kept_job_is_known() -> None:
    worlds = Worlds(ManualClock)
    worlds.archive = Kept(worlds.handle("one"))
    world = worlds.by_handle(worlds.handle("one"))
    assert world is not None
    assert worlds.of("one") is world is worlds.known("one")
    assert world.key == "one"
    assert [worlds.has(CONTRACTS[0], job_id) for job_id in ("kept", "another")] == [True, False]


# ---- limits


def test_a_job_is_refused_from_the_limit_of_concurrent_jobs_on(contract: Contract) -> None:
    world = world_of(limits=Limits(concurrent_jobs=2))
    order = order_of(contract)
    first = world.submit(contract, order)
    assert world.refuses(order) is None
    last = world.submit(contract, order)
    assert world.refuses(order) == "rate_limited"
    world.clock.step(max(first.finished, last.finished))
    assert world.refuses(order) is None


def test_a_balance_is_spent_to_its_last_cent_and_no_further(contract: Contract) -> None:
    order = order_of(contract)
    price = order.model.cost(order.resolution, order.seconds)
    world = world_of(limits=Limits(balance=2 * price))
    job = world.submit(contract, order)
    assert world.refuses(order) is None
    world.submit(contract, order)
    assert world.refuses(order) == "insufficient_balance"
    world.clock.step(job.finished)
    assert world.refuses(order) == "insufficient_balance", "a finished job was paid for"


class Line:
    """A connection that may be closed."""

    closed = False

    def is_closing(self) -> bool:
        return self.closed


def test_the_open_connections_of_a_client_are_counted_once_each() -> None:
    world, one, other = world_of(), Line(), Line()
    assert world.count(one) == 0, "nobody counts them"
    world.connections = set()
    assert [world.count(line) for line in (one, one, other, None)] == [1, 1, 2, 0]
    one.closed = True
    assert world.count(other) == 1


def test_a_fault_adds_characters_to_the_id_of_a_job() -> None:
    contract = next(one for one in CONTRACTS if one.key == "vtrix")
    for tail, characters in ID_TAILS.items():
        world = world_of()
        armed = world.scenarios.arm(read_scenario({"timeline": {"move": "opaque_id", "tail": tail}}), CONTRACTS)
        active = world.scenarios.begin(armed, contract)
        job = world.submit(contract, order_of(contract), active)
        assert job.id.endswith(characters)
        assert world.find(contract, job.id) is job


def test_a_request_that_meets_a_scenario_writes_none_of_its_earlier_jobs(contract: Contract) -> None:
    world = world_of(unkept=Unkept("handle", set()))
    always = {"moves": {"submit": [{"move": "latency", "seconds": 0, "times": "always"}]}}
    world.scenarios.arm(read_scenario(always), [contract], jobs=1)
    written, sizes = [], []
    for _ in range(150):
        active = world.scenarios.find(contract, "submit")
        assert active is not None
        active.use("submit")
        world.submit(contract, order_of(contract), active)
        world.met(active)
        assert world.unkept is not None
        written.append(len(world.unkept.jobs))
        sizes.append(len(encode(head_of(world, 0.0))))
        world.unkept.clear()
    assert set(written) == {1}
    assert sizes[-1] < sizes[110] + 100, "the head is not longer either"


# ---- bounds


def test_the_oldest_ended_jobs_beyond_the_bound_are_forgotten_and_no_running_one(contract: Contract) -> None:
    forgotten: list[str] = []
    world = world_of(keep_jobs=3, on_forget=lambda world, jobs: forgotten.extend(job.id for job in jobs))
    running = [world.submit(contract, order_of(contract)).id for _ in range(5)]
    assert list(world.jobs) == running, "all of them run"
    world.clock.step(world.clock.now() + 86_400)
    later = [world.submit(contract, order_of(contract)).id for _ in range(2)]
    assert list(world.jobs) == [running[-1], *later]
    assert forgotten == running[:-1]
    assert world.find(contract, running[0]) is None


@pytest.mark.parametrize(("bound", "left"), [(1_000, 999), (2_000, 1_998), (3_000, 2_997)])
def test_a_bound_of_thousands_forgets_many_jobs_at_once(bound: int, left: int) -> None:
    contract = CONTRACTS[0]
    world = world_of("instant", keep_jobs=bound)
    for _ in range(bound + 1):
        world.submit(contract, order_of(contract))
    assert len(world.jobs) == left


def test_running_jobs_beyond_the_bound_cost_no_look_at_all_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def forget(table: JobTable, count: int, size: int) -> list[Job]:
        looked.append(count)
        return []

    monkeypatch.setattr(JobTable, "forget", forget)
    world = world_of(keep_jobs=2)
    for _ in range(5):
        world.submit(CONTRACTS[0], order_of(CONTRACTS[0]))
    assert looked == []
    world.clock.step(world.clock.now() + 86_400)
    world.submit(CONTRACTS[0], order_of(CONTRACTS[0]))
    assert looked == [4]


def test_the_oldest_ended_jobs_are_forgotten_when_the_orders_have_too_many_bytes(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.worlds.world.MOST_JOB_BYTES", 20_000)
    world, order = world_of("instant", keep_jobs=100), replace(order_of(contract), prompt="p" * 4_000)
    ids = [world.submit(contract, order).id for _ in range(9)]
    assert 0 < world.jobs.kept_bytes <= 20_000
    assert list(world.jobs) == ids[-4:]
    assert world.totals().billable == 9, "the totals stay"
    size = world.jobs.kept_bytes
    world.jobs.forget(3)
    assert world.jobs.kept_bytes == size // 4, "one is left"


def test_the_submission_counts_with_its_order(contract: Contract) -> None:
    world, plain = world_of(keep_jobs=100), world_of(keep_jobs=100)
    plain.submit(contract, order_of(contract))
    world.submit(contract, order_of(contract), submission=SubmittedRequest("http://x", b"b" * 5_000))
    assert world.jobs.kept_bytes == plain.jobs.kept_bytes + 5_000


def test_an_order_is_refused_while_running_ones_have_too_many_bytes(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.worlds.world.MOST_JOB_BYTES", 20_000)
    world, free = world_of(keep_jobs=100), world_of()
    order = replace(order_of(contract), prompt="p" * 15_000)
    for one in (world, world, free, free):
        assert one.refuses(order) is None
        one.submit(contract, order)
    assert world.refuses(order) == "overloaded"
    assert free.refuses(order) is None, "without a bound for its jobs, a world has none for their bytes"
    world.clock.step(world.clock.now() + 86_400)
    assert world.refuses(order) is None, "the oldest one has ended, and is forgotten"
    assert len(world.jobs) == 1


@pytest.fixture
def worlds() -> Worlds:
    return Worlds(ManualClock, keep_worlds=3)


def keys(worlds: Worlds) -> list[str]:
    return [world.key for world in worlds]


def test_the_world_that_was_used_least_recently_is_forgotten(worlds: Worlds) -> None:
    first = {key: worlds.of(key) for key in "abc"}
    assert first["a"] is not None
    first["a"].arrival()
    assert worlds.of("d") is not None
    assert sorted(keys(worlds)) == ["a", "c", "d"]
    assert worlds.of("a") is first["a"]
    assert first["b"] is not None
    assert worlds.by_handle(first["b"].handle) is None
    again = worlds.of("b")
    assert again is not None
    assert again is not first["b"]
    assert sorted(keys(worlds)) == ["a", "b", "d"]


def test_a_world_with_running_jobs_or_waits_is_not_forgotten(worlds: Worlds) -> None:
    contract = CONTRACTS[0]
    found = {key: worlds.of(key) for key in "abc"}
    busy, waiting, idle = found["a"], found["b"], found["c"]
    assert busy is not None
    assert waiting is not None
    assert idle is not None
    busy.pace = "realistic"
    job = busy.submit(contract, order_of(contract))

    async def nothing() -> None:
        return None

    waiting.clock.at(waiting.clock.now() + 60, nothing)
    for key in "def":
        worlds.of(key)
    assert sorted(keys(worlds)) == ["a", "b", "d", "e", "f"]
    # The job has ended: its world is the one that was used least recently.
    busy.clock.step(job.finished)
    worlds.of("g")
    assert sorted(keys(worlds)) == ["b", "e", "f", "g"]


def test_worlds_that_are_all_busy_are_all_kept(worlds: Worlds) -> None:
    contract = CONTRACTS[0]
    for number in range(6):
        world = worlds.of(str(number))
        assert world is not None
        world.pace = "realistic"
        world.submit(contract, order_of(contract))
    assert len(keys(worlds)) == 6
    stuck = worlds.of("5")
    assert stuck is not None
    assert not stuck.idle
    stuck.reset(RESETS)
    assert stuck.idle


def test_worlds_that_cannot_go_take_no_place_from_idle_ones(worlds: Worlds) -> None:
    for number in range(40):
        world = worlds.of(f"stuck {number}")
        assert world is not None
        world.pace = "realistic"
        world.submit(CONTRACTS[0], order_of(CONTRACTS[0]))
    for key in "abcd":
        worlds.of(key)
    assert [key for key in keys(worlds) if len(key) == 1] == ["b", "c", "d"]


def test_the_worlds_that_cannot_go_are_not_looked_at_for_every_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[World] = []

    def idle(world: World) -> bool:
        looked.append(world)
        return False

    monkeypatch.setattr(World, "idle", property(idle))
    worlds = Worlds(ManualClock, keep_worlds=100)
    for number in range(400):
        worlds.of(str(number))
    assert len(looked) == 100 + 200 + 300


def test_without_a_bound_every_world_is_kept() -> None:
    worlds = Worlds(ManualClock)
    for number in range(50):
        worlds.of(str(number))
    assert len(keys(worlds)) == 50


def test_a_full_house_of_hundreds_forgets_many_idle_worlds_at_once() -> None:
    worlds = Worlds(ManualClock, keep_worlds=200)
    for number in range(200):
        worlds.of(str(number))
    assert len(keys(worlds)) == 200
    worlds.of("one more")
    # The three that were used least recently made room: one for the new one, and two in a hundred.
    assert sorted(keys(worlds)) == sorted([*map(str, range(3, 200)), "one more"])


def test_another_run_has_other_ids_and_the_same_seeds_and_durations(contract: Contract) -> None:
    def jobs(run: str | None) -> list[Job]:
        worlds = Worlds(ManualClock, "realistic", seed=3, run=run)
        world = worlds.of("key")
        assert world is not None
        return [world.submit(contract, order_of(contract)) for _ in range(3)]

    seeded, first, second = jobs(None), jobs("first"), jobs("second")
    assert len({job.id for job in (*seeded, *first, *second)}) == 9
    for found in (first, second):
        assert [(job.timeline, job.seed) for job in found] == [(job.timeline, job.seed) for job in seeded]


def test_a_world_that_was_forgotten_makes_no_id_again(contract: Contract) -> None:
    worlds = Worlds(ManualClock, run="a run")
    ids = set()
    for _ in range(2):
        world = worlds.of("key")
        assert world is not None
        ids.add(world.submit(contract, order_of(contract)).id)
        worlds.drop(world)
    assert len(ids) == 2
