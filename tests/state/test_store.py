"""What every store must do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.state.errors import StateError
from hobbyhorse.state.records import (
    KEPT_LINES,
    KINDS,
    LEASE_SECONDS,
    AttemptRecord,
    DueRecord,
    ExchangeRecord,
    Head,
    JobRecord,
    KeyRecord,
)
from hobbyhorse.state.store import Changes, Meta, Store, TakenDue, agreed
from tests.state.conftest import Wall

pytestmark = pytest.mark.anyio

WORLD, OTHER = "0123456789abcdef", "fedcba9876543210"
START = 1_000.0


def job(number: int, version: int = 1, **more: Any) -> JobRecord:
    return JobRecord(number, f"job-{number}", "acme", version, **more)


async def numbers(store: Store, kind: str, world: str = WORLD, **how: Any) -> list[int]:
    return [one.number for one in (await store.page(world, kind, **how)).records]


async def test_an_empty_store_knows_nothing(store: Store, wall: Wall) -> None:
    look = await store.look(WORLD, "acme", "job-0")
    assert (look.now, look.head, look.job, look.elsewhere) == (wall.now, None, None, False)
    assert (await store.meta(), list(await store.worlds()), list(await store.take(9))) == (None, [], [])
    assert await store.blob("a-picture") is None


async def test_what_is_kept_is_found(store: Store) -> None:
    head = Head(group="", base=START, at=5.0, speed=2.0, begun=1, used=7, values={"pace": "fast", "list": [1, None]})
    one = job(0, end="done", kind="success", order="ab", values={"prompt": "Ein Pferd – 馬", "cost": "0.5"})
    assert await store.keep(Changes(world=WORLD, head=head, jobs=[one]))
    look = await store.look(WORLD, "acme", "job-0")
    assert (look.head, look.job, look.elsewhere) == (head, one, False)
    assert list(await store.worlds()) == [WORLD]


async def test_a_job_belongs_to_its_world_and_its_provider(store: Store) -> None:
    await store.keep(Changes(world=WORLD, jobs=[job(0)]))
    foreign = await store.look(OTHER, "acme", "job-0")
    assert (foreign.job, foreign.elsewhere) == (None, True)
    unknown = await store.look(WORLD, "other", "job-0")
    assert (unknown.job, unknown.elsewhere) == (None, False)


async def test_a_stale_change_is_refused_as_a_whole(store: Store) -> None:
    assert await store.keep(Changes(world=WORLD, head=Head(1), jobs=[job(0), job(1)]))
    key, due = KeyRecord("acme", "k", "ff", "job-0", 2.0), DueRecord(1, START, "callback", "job-0")
    stale = Changes(world=WORLD, head=Head(2), jobs=[job(0, 2), job(1, 3)], keys=[key], dues=[due])
    assert not await store.keep(stale)
    assert not await store.keep(Changes(world=WORLD, head=Head(1), jobs=[job(2)]))
    assert (await store.look(WORLD)).head == Head(1)
    assert await numbers(store, "job") == [0, 1]
    assert [one.version for one in (await store.page(WORLD, "job")).records] == [1, 1]
    assert (await store.page(WORLD, "key")).records == (await store.page(WORLD, "due")).records == []
    assert await store.keep(Changes(world=WORLD, head=Head(2), jobs=[job(0, 2), job(1, 2)], keys=[key], dues=[due]))
    assert list((await store.page(WORLD, "key")).records) == [key]


async def test_the_only_writer_need_not_count_versions(store: Store) -> None:
    assert await store.keep(Changes(world=WORLD, head=Head(9), jobs=[job(0, 4)], checked=False))
    look = await store.look(WORLD, "acme", "job-0")
    assert look.head == Head(9)
    assert look.job == job(0, 4)


async def test_of_concurrent_changes_one_wins(store: Store) -> None:
    changes = [Changes(world=WORLD, head=Head(1, values={"by": by})) for by in range(20)]
    kept = await asyncio.gather(*map(store.keep, changes))
    assert kept.count(True) == 1
    head = (await store.look(WORLD)).head
    assert head is not None
    assert head.values == {"by": kept.index(True)}


async def test_each_submission_gets_a_number_of_its_own(store: Store) -> None:
    begun = await asyncio.gather(*(store.begin(WORLD, "acme") for _ in range(20)))
    assert sorted(one.number for one in begun) == list(range(20))
    assert (await store.begin(OTHER, "acme")).number == 0
    await store.keep(Changes(world=WORLD, head=Head(begun=50)))
    assert (await store.begin(WORLD, "acme")).number == 50
    await store.keep(Changes(world=WORLD, head=Head(2, begun=3)))
    assert (await store.begin(WORLD, "acme")).number == 51


async def test_an_idempotency_key_is_claimed_used_and_free_again(store: Store, wall: Wall) -> None:
    assert (await store.begin(WORLD, "acme", "k")).key is None
    claimed = (await store.begin(WORLD, "acme", "k")).key
    assert claimed is not None
    assert not claimed.job
    assert (await store.begin(WORLD, "other", "k")).key is None
    assert (await store.begin(OTHER, "acme", "k")).key is None
    head = Head(base=START, at=wall.now, speed=1.0)
    used = KeyRecord("acme", "k", "ff", "job-0", until=START + 60)
    assert await store.keep(Changes(world=WORLD, head=head, jobs=[job(0)], keys=[used]))
    assert (await store.begin(WORLD, "acme", "k")).key == used
    await store.keep(Changes(world=WORLD, released=[("acme", "k")]))
    assert (await store.begin(WORLD, "acme", "k")).key == used, "only a claim is released"
    wall.now += 61
    assert (await store.begin(WORLD, "acme", "k")).key is None, "it has expired on the clock of the world"


async def test_of_concurrent_claims_one_succeeds(store: Store) -> None:
    begun = await asyncio.gather(*(store.begin(WORLD, "acme", "k") for _ in range(20)))
    assert [one.key is None for one in begun].count(True) == 1


async def test_a_claim_ends_when_it_is_released_or_its_process_is_dead(store: Store, wall: Wall) -> None:
    await store.begin(WORLD, "acme", "k")
    await store.keep(Changes(world=WORLD, released=[("acme", "k"), ("acme", "unknown")]))
    assert (await store.begin(WORLD, "acme", "k")).key is None
    wall.now += LEASE_SECONDS - 1
    assert (await store.begin(WORLD, "acme", "k")).key is not None
    wall.now += 2
    assert (await store.begin(WORLD, "acme", "k")).key is None


async def test_a_page_has_the_newest_records_before_a_number(store: Store) -> None:
    other = replace(job(7), provider="other")
    await store.keep(Changes(world=WORLD, jobs=[*map(job, range(5)), other]))
    await store.keep(Changes(world=OTHER, jobs=[job(3)]))
    assert await numbers(store, "job") == [0, 1, 2, 3, 4, 7]
    assert await numbers(store, "job", provider="acme") == [0, 1, 2, 3, 4]
    page = await store.page(WORLD, "job", provider="acme", count=2)
    assert ([one.number for one in page.records], page.more) == ([3, 4], True)
    page = await store.page(WORLD, "job", before=3, count=3)
    assert ([one.number for one in page.records], page.more) == ([0, 1, 2], False)
    assert await numbers(store, "job", before=0) == await numbers(store, "job", world="none") == []
    with pytest.raises(ValueError, match="unknown kind 'horse'; allowed: job, key, due, exchange, attempt"):
        await store.page(WORLD, "horse")


async def test_journal_lines_and_attempts_are_pages_too(store: Store) -> None:
    line, attempt = ExchangeRecord(3, {"method": "POST"}), AttemptRecord(1, {"status": 200})
    await store.keep(Changes(world=WORLD, exchanges=[line], attempts=[attempt]))
    assert list((await store.page(WORLD, "exchange")).records) == [line]
    assert list((await store.page(WORLD, "attempt")).records) == [attempt]
    await store.keep(Changes(world=WORLD, exchanges=[replace(line, values={"method": "GET"})]))
    assert (await store.page(WORLD, "exchange")).records[0].values == {"method": "GET"}


async def test_the_newest_lines_are_kept(store: Store) -> None:
    lines, attempts = map(ExchangeRecord, range(KEPT_LINES + 3)), map(AttemptRecord, range(KEPT_LINES + 3))
    await store.keep(Changes(world=WORLD, exchanges=list(lines), attempts=list(attempts)))
    for kind in ("exchange", "attempt"):
        assert await numbers(store, kind, count=2 * KEPT_LINES) == list(range(3, KEPT_LINES + 3))
    await store.keep(Changes(world=WORLD, exchanges=[ExchangeRecord(2)]))
    assert await numbers(store, "exchange", count=1, before=4) == [3], "an older line does not take a later one's place"


async def test_a_noted_line_is_found(store: Store) -> None:
    store.note(WORLD, ExchangeRecord(4, {"method": "GET"}))
    assert list((await store.page(WORLD, "exchange")).records) == [ExchangeRecord(4, {"method": "GET"})]


async def test_a_due_is_taken_when_its_moment_has_come_on_the_clock_of_its_world(store: Store, wall: Wall) -> None:
    fast, slow = Head(base=START, at=wall.now, speed=10.0), Head(base=START, at=wall.now, speed=0.0)
    due = DueRecord(1, START + 20, "callback", "job-0", {"attempt": 1})
    await store.keep(Changes(world=WORLD, head=fast, jobs=[job(0)], dues=[due]))
    await store.keep(Changes(world=OTHER, head=slow, jobs=[job(0)], dues=[due]))
    assert list(await store.take(9)) == []
    wall.now += 2
    assert list(await store.take(9)) == [TakenDue(WORLD, due)]
    assert list(await store.take(9)) == [], "it is taken"
    await store.keep(Changes(world=OTHER, head=replace(slow, version=2, base=START + 30)))
    assert list(await store.take(9)) == [TakenDue(OTHER, due)]


async def test_a_due_of_a_dead_process_is_taken_again_until_it_is_done(store: Store, wall: Wall) -> None:
    head, due = Head(base=START, at=wall.now, speed=1.0), DueRecord(1, START, "callback", "job-0")
    await store.keep(Changes(world=WORLD, head=head, dues=[due]))
    assert len(await store.take(1)) == 1
    wall.now += LEASE_SECONDS + 1
    assert list(await store.take(1)) == [TakenDue(WORLD, due)]
    await store.keep(Changes(world=WORLD, done=[1]))
    wall.now += LEASE_SECONDS + 1
    assert list(await store.take(1)) == []


async def test_dues_are_taken_in_their_order_and_once_each(store: Store, wall: Wall) -> None:
    head = Head(base=START, at=wall.now, speed=1.0)
    dues = [DueRecord(number, START - number, "callback", "job-0") for number in range(20)]
    await store.keep(Changes(world=WORLD, head=head, dues=dues))
    assert [one.due.number for one in await store.take(3)] == [19, 18, 17]
    taken = await asyncio.gather(*(store.take(5) for _ in range(6)))
    assert sorted(one.due.number for some in taken for one in some) == list(range(17))


async def test_a_reset_erases_what_it_names(store: Store) -> None:
    records: dict[str, Any] = {
        "jobs": [job(0)],
        "keys": [KeyRecord("acme", "k", "ff", "job-0", 9e9)],
        "dues": [DueRecord(1, START, "callback", "job-0")],
        "exchanges": [ExchangeRecord(1)],
        "attempts": [AttemptRecord(1)],
    }
    await store.keep(Changes(world=WORLD, head=Head(begun=1), **records))
    await store.keep(Changes(world=OTHER, head=Head(begun=1), **records))
    erased = frozenset({"job", "key", "due", "attempt"})
    assert await store.keep(Changes(world=WORLD, head=Head(2, 1, begun=1), erased=erased))
    for kind in sorted(erased):
        assert list((await store.page(WORLD, kind)).records) == []
        assert len((await store.page(OTHER, kind)).records) == 1
    assert await numbers(store, "exchange") == [1]
    assert (await store.look(WORLD, "acme", "job-0")).job is None
    assert await store.keep(Changes(world=WORLD, jobs=[job(0)], erased=frozenset({"exchange"})))
    assert (await numbers(store, "job"), await numbers(store, "exchange")) == ([0], [])


async def test_a_forgotten_world_is_gone(store: Store) -> None:
    await store.keep(Changes(world=WORLD, head=Head(begun=4), jobs=[job(0)], exchanges=[ExchangeRecord(1)]))
    await store.keep(Changes(world=WORLD, erased=frozenset({"head"})))
    assert list(await store.worlds()) == []
    assert (await store.look(WORLD, "acme", "job-0")).job is None
    assert (await store.begin(WORLD, "acme")).number == 0
    assert await numbers(store, "exchange") == []


async def test_nothing_is_kept_of_a_change_that_forgets_its_world(store: Store) -> None:
    records: dict[str, Any] = {
        "jobs": [job(0)],
        "keys": [KeyRecord("acme", "k", "ff", "job-0", 9e9)],
        "dues": [DueRecord(0, START, "callback", "job-0")],
        "exchanges": [ExchangeRecord(1)],
        "attempts": [AttemptRecord(0)],
    }
    assert await store.keep(Changes(world=WORLD, erased=frozenset({"head"}), **records))
    assert list(await store.worlds()) == []
    for kind in KINDS:
        assert list((await store.page(WORLD, kind)).records) == []


async def test_a_forgotten_job_takes_its_keys_and_dues_with_it(store: Store) -> None:
    keys = [KeyRecord("acme", f"k{number}", "ff", f"job-{number}", 9e9) for number in range(2)]
    dues = [DueRecord(number, START, "callback", f"job-{number}") for number in range(2)]
    await store.keep(Changes(world=WORLD, jobs=[job(0), job(1)], keys=keys, dues=dues))
    await store.keep(Changes(world=WORLD, forgotten=[0, 8]))
    assert (await store.look(WORLD, "acme", "job-0")).job is None
    assert await numbers(store, "job") == await numbers(store, "due") == [1]
    assert [one.key for one in (await store.page(WORLD, "key")).records] == ["k1"]


async def test_a_picture_is_kept(store: Store) -> None:
    assert await store.blob("ab", b"\x00\xff") == b"\x00\xff"
    assert await store.blob("ab") == b"\x00\xff"


async def test_the_facts_are_kept(store: Store) -> None:
    meta = Meta(3, {"acme": "ab"})
    await store.set_meta(meta)
    assert await store.meta() == meta


async def test_a_new_state_agrees_with_any_server() -> None:
    assert agreed(None, 3, {"acme": "ab"}, {}) == Meta(3, {"acme": "ab"})


async def test_another_seed_is_refused() -> None:
    with pytest.raises(StateError, match="made with the seed 3, not 4; use --seed 3"):
        agreed(Meta(3), 4, {}, {})


async def test_a_changed_contract_is_refused_only_while_its_jobs_run() -> None:
    found = Meta(0, {"acme": "ab", "other": "cd"})
    assert agreed(found, 0, {"acme": "new"}, {"other": 0}) == Meta(0, {"acme": "new", "other": "cd"})
    with pytest.raises(StateError, match="'acme' has changed while 1 of its jobs runs"):
        agreed(found, 0, {"acme": "new", "other": "cd"}, {"acme": 1})
    with pytest.raises(StateError, match="'other' is not served any more while 2 of its jobs run"):
        agreed(found, 0, {"acme": "ab"}, {"other": 2})
