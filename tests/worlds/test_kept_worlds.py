"""Worlds and journals as records, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from urllib.parse import quote

import pytest

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.kept import ScenarioReader
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.state.records import ExchangeRecord, Head, decode, encode
from hobbyhorse.traces.redaction import without_key
from hobbyhorse.worlds.journal import Delivery, Entry, JournalNote
from hobbyhorse.worlds.kept_worlds import HEAD_VALUES, head_of, line_of, read_line, restore_world
from hobbyhorse.worlds.limits import Limits
from hobbyhorse.worlds.unkept import Unkept
from hobbyhorse.worlds.world import Ending, World, Worlds

REAL = 5_000.0
SECRET = "a-secret-key"


def opened(key: str = SECRET) -> World:
    world = Worlds(ManualClock, pace="realistic").of(key)
    assert world is not None
    world.unkept = Unkept(world.handle, set())
    return world


def again(world: World, contract: Contract, real: float = REAL) -> World:
    """Return another world with the head of a world, as it comes back from a store."""
    head: Head = decode(Head, encode(head_of(world, REAL)))
    found = opened()
    restore_world(found, head, real, ScenarioReader([contract]))
    return found


def test_a_world_is_read_as_it_was(contract: Contract) -> None:
    world = opened()
    world.pace, world.share, world.begun, world.generation = "instant", 0.5, 9, 2
    world.label, world.used_at = "a name", 12.5
    world.limits = Limits(2.5, 3, 2, 1, Decimal("12.30"))
    world.meter.request(world.limits, world.clock.now())
    world.endings.append(Ending("failed", "CODE", "words"))
    world.scenarios.arm(read_scenario({"moves": {"status": [{"move": "html_page"}]}}), [contract], jobs=None)
    world.scenarios.find(contract, "status")
    assert world.unkept is not None
    world.unkept.last_due, world.unkept.attempts_total = 7, 8
    found = again(world, contract)
    assert encode(head_of(found, REAL)) == encode(head_of(world, REAL))
    assert found.limits.balance == Decimal("12.30")
    assert found.unkept is not None
    assert (found.unkept.last_due, found.unkept.attempts_total) == (7, 8)
    # The bucket is as full as it was, not full again.
    requests = [(one.meter.request(one.limits, one.clock.now()) is None) for one in (world, found) for _ in range(3)]
    assert requests[:3] == requests[3:]


def test_every_value_without_which_a_head_cannot_be_read_is_named(contract: Contract) -> None:
    head = head_of(opened(), REAL)
    for name in head.values:
        lacking = decode(
            Head, encode(replace(head, values={key: head.values[key] for key in head.values.keys() - {name}}))
        )
        try:
            restore_world(opened(), lacking, REAL, ScenarioReader([contract]))
            assert (lacking.values["jobs"], lacking.values["journal"]) is not None
        except KeyError:
            assert name in HEAD_VALUES
        else:
            assert name not in HEAD_VALUES


def test_the_clock_has_gone_on_meanwhile_at_its_speed(contract: Contract) -> None:
    world = opened()
    world.clock.set_speed(10)
    moment = head_of(world, REAL).base
    found = again(world, contract, REAL + 60)
    assert 0 <= found.clock.now() - moment - 600 < 60
    assert found.clock.speed == 10
    assert again(opened(), contract, REAL + 60).clock.now() == ManualClock().now(), "a clock that stands stays"


def line(key: str = SECRET) -> Entry:
    entry = Entry(10.0, number=4, dated=11.0)
    scope = {
        "method": "POST",
        "query_string": b"key=" + key.encode(),
        "headers": [(b"authorization", f"Bearer {key}".encode()), (b"x-name", b"\xff")],
    }
    body = f'{{"prompt": "{key}"}}'.encode()
    note = JournalNote("accepted", "a-job", 200, b"\xfe" + body, ("a note",), "html_page")
    entry.noted(note, scope, provider="acme", role="submit", root="http://a.test", path="/ä b", body=body, made="a-job")
    entry.delivery, entry.connections, entry.line = Delivery([(b"content-length", b"3")], 3, 12.0), 2, 6
    return entry


def through(record: ExchangeRecord) -> ExchangeRecord:
    """Return a record as it comes back from a store."""
    found: ExchangeRecord = decode(ExchangeRecord, encode(record))
    return found


def test_a_line_is_read_as_it_was() -> None:
    entry = line()
    found = read_line(through(line_of(entry, "another-key")))
    assert found.exchange() == entry.exchange()
    assert list(found.headers) == list(entry.headers)
    assert (found.line, found.dated, found.kept) == (6, 11.0, True)


def test_a_line_has_no_key() -> None:
    record = line_of(line(), SECRET)
    assert SECRET.encode() not in encode(record)
    found = read_line(through(record))
    assert found.query == b"key=[key]"
    assert next(iter(found.headers)) == (b"authorization", b"Bearer [key]")


@pytest.mark.parametrize("key", [SECRET, "sk/a+b =%20ü", 'sk"quoted'])
def test_no_text_of_a_line_has_the_key_in_any_encoding(key: str) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in key.encode())
    texts = (f"a {key} b", f"?k={quote(key, safe='')}", f"k={encoded}", f"k={encoded.upper()}", json.dumps(key))
    entry = line(key)
    for text in texts:
        note = JournalNote("accepted", f"job {text}", 200, text.encode(), (f"not fetched: {text}",))
        scope = {"method": "GET", "query_string": text.encode(), "headers": [(b"referer", text.encode())]}
        entry.noted(note, scope, provider="acme", role="submit", root=text, path=text, body=b"", made=text)
        entry.delivery = Delivery([(b"location", text.encode())], 3, 12.0)
        kept = encode(line_of(entry, key)).decode()
        for form in {json.dumps(one, ensure_ascii=False)[1:-1] for one in (*texts, key)} - {text}:
            assert form not in kept, text
        found = read_line(through(line_of(entry, key)))
        assert found.note.notes == (f"not fetched: {without_key(text, key)}",)
        assert "[key]" in found.note.notes[0]
        assert found.query == without_key(text, key).encode()


def test_a_key_that_need_not_be_encoded_is_replaced_in_a_query_that_is_no_text() -> None:
    entry = line("abc")
    scope = {"method": "GET", "query_string": b"\xffk=%61b%63&x=abd", "headers": []}
    entry.noted(entry.note, scope, provider="acme", role="list", root="", path="/")
    assert read_line(through(line_of(entry, "abc"))).query == b"\xffk=[key]&x=abd"


def test_a_short_key_is_replaced_only_where_keys_are_sent() -> None:
    found = read_line(through(line_of(line("abc"), "abc")))
    assert (found.query, found.body) == (b"key=[key]", b'{"prompt": "abc"}')
