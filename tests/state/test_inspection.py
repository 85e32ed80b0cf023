"""What is in a state, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from hobbyhorse.state import inspection
from hobbyhorse.state.inspection import lines, problems, summary
from hobbyhorse.state.memory import MemoryStore
from hobbyhorse.state.records import DueRecord, ExchangeRecord, Head, JobRecord, KeyRecord
from hobbyhorse.state.store import Changes, Meta

pytestmark = pytest.mark.anyio


class Readable(MemoryStore):
    async def damage(self) -> Sequence[str]:
        return []


@pytest.fixture
async def state() -> Readable:
    store = Readable()
    await store.set_meta(Meta(3, {"acme": "ab"}))
    jobs = [JobRecord(number, f"job-{number}", "acme", end="done", kind="success") for number in range(5)]
    head = Head(begun=6, values={"jobs": [0, 6, 0, 0, "0"]})
    keys = [KeyRecord("acme", "k", "ff", "job-0", 9.0), KeyRecord("acme", "claimed", lease=9.0)]
    dues = [DueRecord(1, 5.0, "attempt", "job-5")]
    running = JobRecord(5, "job-5", "acme")
    await store.keep(Changes(world="a", head=head, jobs=[*jobs, running], keys=keys, dues=dues))
    await store.keep(Changes(world="b", head=Head(), exchanges=[ExchangeRecord(1)]))
    return store


async def test_the_summary_counts_every_kind(state: Readable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "PAGE", 2)
    assert await summary(state) == {
        "format": 1,
        "seed": 3,
        "contracts": {"acme": "ab"},
        "worlds": 2,
        "jobs": 6,
        "running": 1,
        "keys": 2,
        "dues": 1,
        "exchanges": 1,
        "attempts": 0,
    }
    assert (await summary(Readable()))["format"] is None


async def test_the_export_has_one_line_for_each_record(state: Readable) -> None:
    found = [orjson.loads(line) async for line in lines(state)]
    assert found[0] == {"kind": "meta", "record": {"seed": 3, "contracts": {"acme": "ab"}, "format": 1}}
    assert [(one["kind"], one["world"]) for one in found[1:]] == [
        ("head", "a"),
        *[("job", "a")] * 6,
        *[("key", "a")] * 2,
        ("due", "a"),
        ("head", "b"),
        ("exchange", "b"),
    ]


async def test_a_sound_state_has_no_problems(state: Readable) -> None:
    assert await problems(state) == []


async def test_each_contradiction_is_a_problem(state: Readable, tmp_path: Path) -> None:
    stray = [JobRecord(9, "job-9", "acme"), JobRecord(6, "job-6", "acme", end="done")]
    due, key = DueRecord(2, 5.0, "attempt", "gone"), KeyRecord("acme", "other", "ff", "gone", 9.0)
    await state.keep(Changes(world="a", jobs=stray, dues=[due], keys=[key], checked=False))
    await state.keep(Changes(world="c", jobs=[JobRecord(0, "job-0", "acme")], checked=False))
    assert sorted(await problems(state)) == [
        "the job 'job-0' is in two worlds, a and c",
        "world a: a due belongs to the job 'gone', which is not kept",
        "world a: a key belongs to the job 'gone', which is not kept",
        "world a: the job 'job-6' has half an end",
        "world a: the job 'job-6' has the number 6, which was never given",
        "world a: the job 'job-9' has the number 9, which was never given",
        "world c has no head",
    ]
