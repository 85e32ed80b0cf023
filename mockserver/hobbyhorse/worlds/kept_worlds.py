"""Worlds and the lines of their journals as records, and back. No HTTP."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

from hobbyhorse.scenarios.kept import ScenarioReader, write_scenarios
from hobbyhorse.state.records import ExchangeRecord, Head, read, written
from hobbyhorse.traces.exchange import RawHeaders
from hobbyhorse.traces.redaction import SHORTEST_KEY
from hobbyhorse.traces.trace import KEY
from hobbyhorse.worlds.journal import Delivery, Entry, JournalNote
from hobbyhorse.worlds.limits import read_limits
from hobbyhorse.worlds.world import Ending, World


def head_of(world: World, real: float) -> Head:
    """Return the head of a world at the store's time `real`."""
    unkept, limits = world.unkept, world.limits
    values: dict[str, Any] = {
        "pace": world.pace,
        "share": world.share,
        "limits": {**limits.to_json(), "balance": None if limits.balance is None else str(limits.balance)},
        "meter": world.meter.to_json(),
        "queue": world.queue.to_json(),
        "endings": [(ending.stage, ending.code, ending.message) for ending in world.endings],
        "scenarios": write_scenarios(world.scenarios),
        "jobs": world.jobs.tallies(),
        "journal": world.journal.total,
        "since": world.since,
        "label": world.label,
        "used_at": world.used_at,
        "dues": unkept.last_due if unkept is not None else 0,
        "attempts": unkept.attempts_total if unkept is not None else 0,
    }
    return Head(
        generation=world.generation,
        base=world.clock.now(),
        at=real,
        speed=world.clock.speed,
        begun=world.begun,
        used=world.used,
        values=values,
    )


def restore_world(world: World, head: Head, real: float, scenarios: ScenarioReader) -> None:
    """Set everything of a world that its head has, except the tallies of its jobs."""
    found = head.values
    world.generation, world.begun, world.used = head.generation, head.begun, head.used
    world.clock.resume(head.now(real), head.speed)
    world.pace, world.share, world.since = found["pace"], found["share"], found["since"]
    world.label, world.used_at = found["label"], found["used_at"]
    limits = dict(found["limits"])
    if limits["balance"] is not None:
        limits["balance"] = Decimal(limits["balance"])
    world.limits = read_limits(limits)
    world.meter.restore(found["meter"])
    world.queue.restore(found["queue"])
    world.endings.extend(Ending(*one) for one in found["endings"])
    scenarios.scenarios(found["scenarios"], world.scenarios)
    if world.unkept is not None:
        world.unkept.last_due, world.unkept.attempts_total = found["dues"], found["attempts"]


def line_of(entry: Entry, key: str) -> ExchangeRecord:
    """Return a line of a journal as a record, without the API key."""
    note, delivery, secret = entry.note, entry.delivery, key.encode()
    # A short key would match ordinary words: it is replaced only where keys are sent.
    bare = partial(_without, secret=secret) if len(key) >= SHORTEST_KEY else _same
    return ExchangeRecord(
        entry.line,
        {
            "arrived": entry.arrived,
            "number": entry.number,
            "dated": entry.dated,
            "delivery": (_names(delivery.headers), delivery.size, delivery.answered),
            "provider": entry.provider,
            "role": entry.role,
            "method": entry.method,
            "root": entry.root,
            "path": bare(entry.path.encode()).decode(),
            "query": written(_without(entry.query, secret)),
            "headers": [(name, value.replace(key, KEY) if key else value) for name, value in _names(entry.headers)],
            "body": written(bare(entry.body)),
            "made": entry.made,
            "note": (note.situation, note.job, note.status, written(bare(note.body)), note.notes, note.move),
            "connections": entry.connections,
        },
    )


def read_line(record: ExchangeRecord) -> Entry:
    """Return a line of a journal."""
    found = record.values
    situation, job, status, body, notes, move = found["note"]
    headers, size, answered = found["delivery"]
    entry = Entry(found["arrived"], found["number"], found["dated"])
    scope = {"method": found["method"], "query_string": read(found["query"]), "headers": _headers(found["headers"])}
    entry.noted(
        JournalNote(situation, job, status, read(body), tuple(notes), move),
        scope,
        provider=found["provider"],
        role=found["role"],
        root=found["root"],
        path=found["path"],
        body=read(found["body"]),
        made=found["made"],
    )
    entry.delivery = Delivery(_headers(headers), size, answered)
    entry.line, entry.kept, entry.connections = record.number, True, found["connections"]
    return entry


def _without(content: bytes, secret: bytes) -> bytes:
    return content.replace(secret, KEY.encode()) if secret else content


def _same(content: bytes) -> bytes:
    return content


def _names(headers: RawHeaders) -> list[tuple[str, str]]:
    """Return headers as text; latin-1 maps each byte to one character."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _headers(found: list[tuple[str, str]]) -> RawHeaders:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found]
