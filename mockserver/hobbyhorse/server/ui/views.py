"""The contents of each part of the page, from the same records and redaction as the control plane. Knows no HTML.

Lists are pages of `PAGE_SIZE` entries, newest first, so that a world with many jobs costs no more than one with few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from markupsafe import Markup

from hobbyhorse.contract.formats import whole_number
from hobbyhorse.scenarios.armed import ArmedScenario
from hobbyhorse.scenarios.scenario import Catalogue
from hobbyhorse.server.control.admin import kept_worlds, world_json
from hobbyhorse.server.control.handlers import (
    ControlError,
    ControlRequest,
    armed_json,
    attempt_json,
    exchange_json,
    job_json,
    redactor_of,
    scenario_json,
)
from hobbyhorse.server.ui.exchanges import curl, is_odd, oddities
from hobbyhorse.server.ui.sessions import Viewer
from hobbyhorse.server.ui.shapes import bar
from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.traces.redaction import Redactor
from hobbyhorse.traces.timeline import timeline
from hobbyhorse.worlds.job_table import count_before
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import Entry
from hobbyhorse.worlds.world import World

# Two screens of rows.
PAGE_SIZE = 50
# Of a number in an address: the moment of a world's last change, in microseconds, has 16.
MOST_DIGITS = 17
# Exchanges of one job in its time line, which folds equal polls: reading more would take a noticeable time.
MOST_IN_TIMELINE = 300
# Characters of a prompt in a row.
MOST_PROMPT = 120
REFUSED = "refused"
"""The handle that stands for the requests whose key is missing or not accepted."""
SECTIONS = ("jobs", "exchanges", "callbacks", "scenarios", "ledger")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a world: the control plane's request for it, its query, and its reader."""

    request: ControlRequest
    query: Mapping[str, str]
    viewer: Viewer

    @property
    def world(self) -> World:
        """The world."""
        return self.request.world

    @property
    def root(self) -> str:
        """The path of the world's pages."""
        return f"/_mock/ui/worlds/{self.world.handle}"

    def number(self, name: str) -> int | None:
        """Return a number of the query, or None."""
        return whole_number(self.query.get(name, ""), MOST_DIGITS)


async def worlds(request: ControlRequest, viewer: Viewer, before: int | None) -> dict[str, Any]:
    """Return the worlds that a viewer may see, most recently used first. Raises NotKept.

    A kept state also has the worlds of other processes and of earlier ones. It does not keep their keys, so a team sees
    the worlds that this process has opened.
    """
    if request.context.listed is not None and viewer.team is None:
        total, found, older = await kept_worlds(request, before, PAGE_SIZE)
        keyless = [{**world_json(request, world), "keyed": False} for world in _without_key(request)]
        rows = [*(keyless if before is None else ()), *({**one, "keyed": True} for one in found)]
        return {"total": total + len(keyless), "worlds": rows, "older": older}
    opened = sorted((one for one in every_world(request, viewer)), key=lambda world: world.used, reverse=True)
    earlier = [world for world in opened if before is None or world.used < before]
    shown = earlier[:PAGE_SIZE]
    return {
        "total": len(opened),
        "worlds": [{**world_json(request, world), "keyed": bool(world.key)} for world in shown],
        "older": shown[-1].used if len(shown) < len(earlier) else None,
    }


def every_world(request: ControlRequest, viewer: Viewer) -> Iterable[World]:
    """Yield the worlds that a viewer may see, and what stands for the requests without one."""
    yield from (world for world in request.context.worlds if viewer.may_see(world.key))
    if viewer.team is None:
        yield from _without_key(request)


def _without_key(request: ControlRequest) -> Iterable[World]:
    """Yield what stands for the requests without a world, if there were any."""
    keyless, journal = request.context.worlds.keyless, request.context.refused
    refused = World("", REFUSED, keyless.clock, Random(), keyless.pace, journal=journal, used=0)
    refused.label, keyless.label = "refused keys", "without a key"
    yield from (world for world in (keyless, refused) if world.journal.total)


def find_world(request: ControlRequest, viewer: Viewer, handle: str) -> World | None:
    """Return the world with a handle, or None if the viewer may not see one."""
    known = request.context.worlds.by_handle(handle)
    if known is not None and known.key:
        return known if viewer.may_see(known.key) else None
    return next((world for world in every_world(request, viewer) if world.handle == handle), None)


def shell(look: Look, section: str) -> dict[str, Any]:
    """Return what every page of a world shows: its name, its clock, and the numbers of the sections."""
    world, clock = look.world, look.world.clock
    totals = world.totals()
    armed = world.scenarios.armed
    return {
        "section": section,
        "root": look.root,
        "world": world_json(look.request, world),
        "clock": {"now": clock.now(), "speed": clock.speed, "waiting": clock.waiting},
        "counts": {
            "jobs": len(world.jobs),
            "exchanges": world.journal.total,
            "callbacks": len(look.request.context.callback_dispatcher().of_world(world)),
            "scenarios": len(armed),
            "ledger": totals.duplicates,
        },
        "running": len(world.jobs.running),
        "unmet": sum(bool(one.unmet()) for one in armed),
        "totals": totals,
    }


def jobs(look: Look) -> dict[str, Any]:
    """Return a page of jobs."""
    world, now = look.world, look.world.clock.now()
    numbers = world.jobs.numbers()
    stop = count_before(numbers, look.number("before"))
    shown = numbers[max(0, stop - PAGE_SIZE) : stop][::-1]
    redactor, entries = redactor_of(look.request), world.ledger(shown).entries
    rows = [
        _job_row(world.jobs.at(number), now, redactor) | {"again": entry.duplicate_of is not None}
        for number, entry in zip(shown, entries, strict=True)
    ]
    return {
        "rows": rows,
        "older": shown[-1] if len(shown) and stop > PAGE_SIZE else None,
        "before": look.number("before"),
    }


def _job_row(job: Job, now: float, redactor: Redactor) -> dict[str, Any]:
    shown: dict[str, Any] = redactor.values(job_json(job, now))
    prompt = shown["order"]["prompt"] or ""
    short = prompt if len(prompt) <= MOST_PROMPT else f"{prompt[:MOST_PROMPT]}…"
    return {**shown, "bar": bar(shown, now), "prompt": short, "number": job.number}


async def job(look: Look, job_id: str) -> dict[str, Any]:
    """Return everything about a job. Raises ControlError."""
    found = _job_of(look, job_id)
    now = look.world.clock.now()
    entry = look.world.ledger([found.number]).entries[0]
    attempts = [one for one in look.request.context.callback_dispatcher().of_world(look.world) if one.job == found.id]
    redactor = redactor_of(look.request)
    active = found.active_scenario
    return {
        "job": _job_row(found, now, redactor),
        "entry": entry,
        "timeline": Markup(await _timeline(look, found)),
        "attempts": [redactor.values(attempt_json(one)) for one in attempts],
        "armed": None if active is None else armed_json(active.armed),
        "has_callback": "callback_url" in found.order.echoed and found.contract.callbacks is not None,
    }


def _job_of(look: Look, job_id: str) -> Job:
    found = look.world.jobs.get(job_id)
    if found is None:
        message = f"this world has no job {job_id[:100]!r}"
        raise ControlError(404, "unknown_job", message, "it may have been forgotten, or the world was reset")
    return found


async def _timeline(look: Look, job: Job) -> str:
    """Return the time line of a job's exchanges and callbacks as HTML, which the renderer has escaped."""

    def belongs(entry: Entry) -> bool:
        return entry.note.job == job.id or entry.made == job.id

    journal = look.world.journal.of(belongs, MOST_IN_TIMELINE)
    base = f"{look.request.context.origin(look.request.scope)}/{job.contract.key}"

    def work(world: World) -> str:
        # Requests without a job are in the list of exchanges only.
        trace = look.request.context.trace(replace(world, journal=journal), job.contract, base, False)
        deliveries = tuple(one for one in trace.deliveries if one.job == job.id)
        return timeline(job.contract, replace(trace, deliveries=deliveries))

    found: str = await look.request.compute(work)
    return found


def exchanges(look: Look) -> dict[str, Any]:
    """Return a page of exchanges, filtered by the query."""
    role, odd, text = look.query.get("role", ""), bool(look.query.get("odd")), look.query.get("q", "")

    def wanted(entry: Entry) -> bool:
        note = entry.note
        places = (entry.path, note.job or "", note.situation or "", note.move or "", str(note.status))
        return (
            (not role or (entry.role or "none") == role)
            and (not odd or is_odd(entry))
            and (not text or any(text.lower() in place.lower() for place in places))
        )

    before = look.number("before")
    found, more = look.world.journal.newest(PAGE_SIZE, before, wanted)
    redactors = _redactors(look.request)
    roles = {role for contract in look.request.context.contracts for role in contract.operations}
    return {
        "rows": [_exchange_row(look, one, redactors) for _, one in found],
        "older": found[-1][0] if more else None,
        "before": before,
        "roles": [*sorted(roles), "media", "none"],
        "role": role,
        "odd": odd,
        "q": text,
        "kept": len(look.world.journal),
    }


def _redactors(request: ControlRequest) -> dict[str, Redactor]:
    return {contract.key: redactor_of(request, contract) for contract in request.context.contracts}


def _exchange_row(look: Look, entry: Entry, redactors: Mapping[str, Redactor]) -> dict[str, Any]:
    exchange = entry.exchange()
    shown = exchange_json(look.request, exchange, redactors)
    found = list(oddities(shown, exchange.whole))
    took = None if exchange.answered is None else exchange.answered - exchange.arrived
    return {**shown, "number": exchange.number, "oddities": found, "took": took}


def exchange(look: Look, number: int | None) -> dict[str, Any]:
    """Return everything about an exchange; None names none. Raises ControlError."""
    found, _ = look.world.journal.newest(1, wanted=lambda entry: entry.number == number)
    if not found:
        hint = "the journal keeps the newest 1,000 exchanges"
        raise ControlError(404, "unknown_exchange", "this world has no such exchange", hint)
    entry = found[0][1]
    one, redactors = entry.exchange(), _redactors(look.request)
    contract = look.request.context.contract(one.provider)
    redactor = redactors[one.provider or look.request.context.contracts[0].key]
    row = _exchange_row(look, entry, redactors)
    return {
        "exchange": row | {"answer_headers": list(redactor.headers(one.answer_headers)), "size": one.size},
        "curl": curl(contract, one, redactor, row["headers"]),
        "url": _url(one, row, redactor),
    }


def _url(exchange: Exchange, row: Mapping[str, Any], redactor: Redactor) -> str:
    query = f"?{row['query']}" if row["query"] else ""
    return f"{redactor.text(exchange.root)}{row['path']}{query}"


def callbacks(look: Look) -> dict[str, Any]:
    """Return a page of callback attempts, grouped by job, newest first."""
    before = look.number("before")
    every = list(enumerate(look.request.context.callback_dispatcher().of_world(look.world)))
    found = [one for one in every if before is None or one[0] < before][::-1]
    redactor = redactor_of(look.request)
    shown = found[:PAGE_SIZE]
    rows = [redactor.values(attempt_json(one)) | {"outcome": one.outcome} for _, one in shown]
    return {"rows": rows, "older": shown[-1][0] if len(shown) < len(found) else None, "before": before}


def scenarios(look: Look, known: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the armed scenarios and the catalogue, filtered by the query."""
    text = look.query.get("q", "").lower()
    matching = [one for one in known if text in f"{one['name']} {one['why']}".lower()]
    return {
        "armed": [armed_json(one) | {"faults": faults_of(one)} for one in reversed(look.world.scenarios.armed)],
        "catalogue": matching,
        "q": look.query.get("q", ""),
        "providers": [contract.key for contract in look.request.context.contracts],
    }


def faults_of(armed: ArmedScenario) -> list[tuple[str, int]]:
    """Return the faults of an armed scenario in words, each with the number of times that it was met."""
    scenario = armed.scenario
    found = [
        (f"{move} in {role}", armed.met[f"{role}/{index}"])
        for role, moves in scenario.moves.items()
        for index, move in enumerate(moves)
    ]
    if scenario.timeline is not None:
        found.append((f"{scenario.timeline.kind} job", armed.met["timeline"]))
    return found


def catalogue(request: ControlRequest, found: Catalogue) -> list[dict[str, Any]]:
    """Return the scenarios of the catalogue that fit a served provider; this takes some ms, so keep it."""
    every = (scenario_json(request, scenario) for scenario in found.values())
    return sorted((one for one in every if one["providers"]), key=lambda one: str(one["name"]))


def ledger(look: Look) -> dict[str, Any]:
    """Return the duplicates, and a page of the ledger."""
    world = look.world
    numbers = world.jobs.numbers()
    stop = count_before(numbers, look.number("before"))
    shown = numbers[max(0, stop - PAGE_SIZE) : stop][::-1]
    return {
        "duplicates": world.ledger(world.jobs.duplicates(PAGE_SIZE)).entries,
        "rows": world.ledger(shown).entries,
        "older": shown[-1] if len(shown) and stop > PAGE_SIZE else None,
        "before": look.number("before"),
    }
