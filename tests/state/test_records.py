"""The records as JSON."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.state.records import Head, JobRecord, KeyRecord, decode, encode, read, written


def test_a_record_is_read_as_it_was_written() -> None:
    records: tuple[Head | JobRecord | KeyRecord, ...] = (
        Head(3, 1, "", 1.5, 2.5, 0.0, 4, 5, {"pace": "fast"}),
        JobRecord(0, "job", "acme", 2, "done", "success", "ab", {"timeline": [[1.0, 0]]}),
        KeyRecord("acme", "k", "ff", "job", 2.0, 0.0),
    )
    for record in records:
        found: object = decode(type(record), encode(record))
        assert found == record


def test_unknown_members_of_a_newer_program_are_ignored() -> None:
    text = orjson.dumps({**orjson.loads(encode(Head(3))), "newer": [1]})
    assert decode(Head, text) == Head(3)


def test_the_clock_of_a_world_goes_on_from_its_record() -> None:
    assert Head(base=100.0, at=5.0, speed=2.0).now(8.0) == 106.0
    assert Head(base=100.0, at=5.0, speed=0.0).now(8.0) == 100.0
    assert Head(base=100.0, at=5.0, speed=2.0).now(4.0) == 100.0, "it never goes back"


@given(st.binary())
def test_any_bytes_can_be_written(content: bytes) -> None:
    assert read(orjson.loads(orjson.dumps(written(content)))) == content


@pytest.mark.parametrize(("content", "expected"), [(b"caf\xc3\xa9", "café"), (b"\xff", ["/w=="])])
def test_text_stays_readable(content: bytes, expected: object) -> None:
    assert written(content) == expected
