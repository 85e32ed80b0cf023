"""Worlds and the lines of their journals as records, and back. No HTTP."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from hobbyhorse.scenarios.kept import ScenarioReader, write_scenarios
from hobbyhorse.state.records import ExchangeRecord, Head, read, written
from hobbyhorse.traces.exchange import RawHeaders
from hobbyhorse.traces.redaction import SHORTEST_KEY, key_forms, without_key
from hobbyhorse.traces.trace import KEY
from hobbyhorse.worlds.journal import Delivery, Entry, JournalNote
from hobbyhorse.worlds.limits import read_limits
from hobbyhorse.worlds.world import Ending, World

# The size of a cache of headers as JSON: of some hundred connections and as many lengths of responses.
MOST_HEADERS = 1_024
BARE = KEY.encode()
ESCAPED = "surrogateescape"
HEAD_VALUES = ("settings", "queue", "jobs", "journal", "since", "used_at", "dues", "attempts")
"""The values of a world's head without which it cannot be read."""


def head_of(world: World, real: float) -> Head:
    """Return the head of a world at the store's time `real`."""
    unkept = world.unkept
    settings = unkept.settings if unkept is not None else None
    # Each request takes a token, if requests are limited.
    if settings is None or world.limits.requests_per_second is not None:
        settings = orjson.Fragment(orjson.dumps(_settings(world)))
        if unkept is not None:
            unkept.settings = settings
    values: dict[str, Any] = {
        "settings": settings,
        "queue": world.queue.to_json(),
        "jobs": world.jobs.tallies(),
        "key": world.key_hash,
        "running": len(world.jobs.running),
        "kept": world.jobs.kept,
        "journal": world.journal.total,
        "since": world.since,
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


def _settings(world: World) -> dict[str, Any]:
    """Return the settings and scenarios of a world as JSON: they change rarely."""
    limits = world.limits
    return {
        "pace": world.pace,
        "share": world.share,
        "label": world.label,
        "limits": {**limits.to_json(), "balance": None if limits.balance is None else str(limits.balance)},
        "meter": world.meter.to_json(),
        "endings": [(ending.stage, ending.code, ending.message) for ending in world.endings],
        "scenarios": write_scenarios(world.scenarios),
    }


def listed_world(handle: str, head: Head) -> dict[str, Any]:
    """Return as JSON what a list of worlds shows of a world, from its head."""
    found, settings = head.values, head.values["settings"]
    return {
        "handle": handle,
        "key": found.get("key", ""),
        "label": settings["label"],
        "team": None,
        # Since the oldest job that is kept.
        "jobs": found["jobs"][1],
        "running": found.get("running", 0),
        "exchanges": found["journal"],
        "armed": [armed["name"] for armed in settings["scenarios"].get("armed", ())],
        "used": found["used_at"],
    }


def restore_world(world: World, head: Head, real: float, scenarios: ScenarioReader) -> None:
    """Set everything of a world that its head has, except the tallies of its jobs."""
    found, settings = head.values, head.values["settings"]
    world.generation, world.begun, world.used = head.generation, head.begun, head.used
    world.clock.resume(head.now(real), head.speed)
    world.pace, world.share, world.label = settings["pace"], settings["share"], settings["label"]
    world.since, world.used_at, world.key_hash = found["since"], found["used_at"], found.get("key", "")
    limits = dict(settings["limits"])
    if limits["balance"] is not None:
        limits["balance"] = Decimal(limits["balance"])
    world.limits = read_limits(limits)
    world.meter.restore(settings["meter"])
    world.queue.restore(found["queue"])
    world.endings.extend(Ending(*one) for one in settings["endings"])
    scenarios.scenarios(settings["scenarios"], world.scenarios)
    if world.unkept is not None:
        world.unkept.last_due, world.unkept.attempts_total = found["dues"], found["attempts"]


def line_of(entry: Entry, key: str) -> ExchangeRecord:
    """Return a line of a journal as a record, without the API key."""
    note, delivery, query = entry.note, entry.delivery, entry.query
    # A short key would match ordinary words: it is replaced only where keys are sent.
    secret = key if len(key) >= SHORTEST_KEY else ""
    if query and key:
        # Escaped, because a query may be no text.
        query = without_key(query.decode(errors=ESCAPED), key).encode(errors=ESCAPED)
    return ExchangeRecord(
        entry.line,
        {
            "arrived": entry.arrived,
            "number": entry.number,
            "dated": entry.dated,
            "delivery": (_names(tuple(delivery.headers), secret), delivery.size, delivery.answered),
            "provider": entry.provider,
            "role": entry.role,
            "method": entry.method,
            "root": _text(entry.root, secret),
            "path": _text(entry.path, secret),
            "query": written(query),
            "headers": _names(tuple(entry.headers), key),
            "body": written(_content(entry.body, secret)),
            "made": entry.made and _text(entry.made, secret),
            "note": (
                note.situation,
                note.job and _text(note.job, secret),
                note.status,
                written(_content(note.body, secret)),
                [_text(one, secret) for one in note.notes],
                note.move,
            ),
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


def _text(text: str, key: str) -> str:
    return without_key(text, key) if key else text


def _content(content: bytes, key: str) -> bytes:
    """Return a body without the API key."""
    for form in key_forms(key) if key else ():
        content = content.replace(form.encode(), BARE)
    return content


# The requests of a connection have equal headers, and most responses one of few lengths.
@lru_cache(maxsize=MOST_HEADERS)
def _names(headers: tuple[tuple[bytes, bytes], ...], key: str) -> orjson.Fragment:
    """Return headers as JSON, without the API key."""
    # latin-1 maps each byte to one character.
    found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    return orjson.Fragment(orjson.dumps([(name, _text(value, key)) for name, value in found]))


def _headers(found: list[tuple[str, str]]) -> RawHeaders:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found]
