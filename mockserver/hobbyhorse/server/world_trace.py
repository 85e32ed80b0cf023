"""From a world to a trace: what its journal, its callbacks and its jobs say, without secrets; knows no HTTP server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import SUBMISSIONS
from hobbyhorse.scenarios.moves import MEDIA
from hobbyhorse.traces import trace as traces
from hobbyhorse.traces.trace import KEY, REDACTED, Delivery, Trace, TracedJob
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES, SECRET_HEADERS, Exchange, Handover, Journal, decoded
from hobbyhorse.worlds.world import World

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackAttempt

PATH_SAFE = "/:@!$&'()*+,;=-._~"
FEWEST = 4
"""The shortest beginning of a key that is taken for one, where a body was cut."""
HASHED = 1024
"""How many videos are remembered with their hashes."""


def trace_of(
    world: World,
    contract: Contract,
    key: str,
    *,
    base: str,
    attempts: Iterable[CallbackAttempt] = (),
    strangers: tuple[Journal, World] | None = None,
    origins: Mapping[str, str] | None = None,
    secret: str | None = None,
    made: Callable[[Job], Path | None] | None = None,
) -> Trace:
    """Return what passed between the client of a world and a provider, at `base` if no request says otherwise.

    `strangers` are the exchanges of requests that carry no key or another one, and the world whose clock they read:
    those since the world's own journal began are taken in. `made` finds a job's video, if it has been made.
    """
    veil = Redactor(contract, key)
    seen = [one for one in world.journal if one.provider in (None, contract.key)]
    found = sorted([*seen, *_strangers(world, contract, strangers)], key=lambda one: one.handover.number)
    jobs = [job for job in world.jobs.values() if job.contract is contract]
    armed = [one for one in world.scenarios.armed if contract.key in one.fits]
    return Trace(
        provider=contract.key,
        base=next((one.root for one in seen if one.provider and one.role not in (None, MEDIA)), base),
        exchanges=tuple(_exchange(veil, one, moment) for one, moment in _in_time(world, found, strangers)),
        deliveries=tuple(_deliveries(veil, world, contract, attempts)),
        jobs=tuple(_jobs(world, jobs, made)),
        ended=world.clock.now(),
        model=jobs[0].order.model.id if jobs else None,
        origins=dict(origins or {}),
        scenario=armed[-1].scenario.to_json() if armed else {},
        unmet=tuple(what for one in armed for what in one.unmet()),
        secret=secret,
    )


class Redactor:
    """Hides a key wherever it stands, and other secrets where they are sent as such."""

    def __init__(self, contract: Contract, key: str) -> None:
        forms = {key, quote(key, safe=""), json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1]}
        self._forms = sorted(forms - {""}, key=len, reverse=True)
        self._headers = SECRET_HEADERS | {name for part, name, _ in contract.security if part == "header"}
        self._query = frozenset(name for part, name, _ in contract.security if part == "query")

    def text(self, text: str) -> str:
        """Return a text with KEY for the key."""
        for form in self._forms:
            text = text.replace(form, KEY)
        return text

    def content(self, content: bytes) -> bytes:
        """Return a body with KEY for the key; of one that was cut, what may be the beginning of a key is gone, too."""
        cut = len(content) >= MOST_JOURNAL_BODY_BYTES
        for form in self._forms:
            plain = form.encode()
            content = content.replace(plain, KEY.encode())
            for size in range(len(plain) - 1, FEWEST - 1, -1) if cut else ():
                content = content.removesuffix(plain[:size])
        return content

    def header(self, name: str, value: str) -> tuple[str, str]:
        """Return a header of a request."""
        hidden = self.text(value)
        return name, REDACTED if name in self._headers and hidden == value else hidden

    def query(self, query: str) -> str:
        """Return a query, with its question mark if there is any."""
        said = []
        for one in query.split("&") if query else ():
            name, equals, value = one.partition("=")
            hidden = self.text(value)
            said.append(f"{name}={REDACTED}" if name in self._query and hidden == value else name + equals + hidden)
        return "?" + "&".join(said) if said else ""


def _exchange(veil: Redactor, one: Exchange, arrived: float) -> traces.Exchange:
    handover, submits = one.handover, one.role in SUBMISSIONS
    told = one.job if not submits or (one.job is not None and one.job.encode() in one.answer) else None
    answered = handover.answered
    return traces.Exchange(
        arrived=arrived,
        role=one.role,
        method=one.method,
        url=veil.text(one.root + quote(one.path, safe=PATH_SAFE)) + veil.query(one.query),
        headers=tuple(veil.header(name, value) for name, value in decoded(one.raw_headers)),
        body=veil.content(one.body),
        status=one.status,
        answer_headers=tuple(
            (name, veil.text(value)) for name, value in (*decoded(handover.headers), *_date(handover))
        ),
        answer=veil.content(one.answer),
        answered=None if answered is None else answered + (arrived - handover.arrived),
        whole=handover.whole,
        size=handover.size,
        job=told,
        made=one.made,
        situation=one.situation,
        move=one.move,
    )


def _date(handover: Handover) -> Iterator[tuple[str, str]]:
    """Yield the date of an answer where the client reads another clock: a date in its headers is by that one."""
    if handover.dated is not None and abs(handover.dated - handover.arrived) >= 1:
        yield "date", formatdate(handover.dated, usegmt=True)


def _strangers(world: World, contract: Contract, strangers: tuple[Journal, World] | None) -> list[Exchange]:
    """Return the exchanges of nobody that may be this client's."""
    journals = (strangers[0], strangers[1].journal) if strangers is not None else ()
    return [
        one
        for journal in journals
        for one in journal
        if one.provider in (None, contract.key) and one.handover.number > world.since
    ]


def _in_time(
    world: World, found: list[Exchange], strangers: tuple[Journal, World] | None
) -> Iterator[tuple[Exchange, float]]:
    """Yield exchanges in order, with the moment of each on the world's clock.

    Those of strangers were written by another clock: they are moved by the difference of the two as it is now, to
    between their neighbours.
    """
    own = {one.handover.number for one in world.journal}
    shift = world.clock.now() - strangers[1].clock.now() if strangers is not None else 0.0
    latest, moments = world.clock.now(), []
    for one in reversed(found):
        latest = one.moment if one.handover.number in own else min(latest, one.moment + shift)
        moments.append(latest)
    earliest = float("-inf")
    for one, moment in zip(found, reversed(moments), strict=True):
        earliest = max(earliest, moment)
        yield one, earliest


def _deliveries(
    veil: Redactor, world: World, contract: Contract, attempts: Iterable[CallbackAttempt]
) -> list[Delivery]:
    """Return the deliveries for a provider's jobs, in the order in which they were sent."""
    found = [
        Delivery(
            sent=one.moment,
            job=one.job,
            number=one.number,
            body=veil.content(one.body),
            headers=tuple((name.lower(), veil.text(value)) for name, value in one.headers.items()),
            answered=one.answered,
            status=one.status,
            error=None if one.error is None else veil.text(one.error),
            kind=one.kind,
            note=one.note,
        )
        for one in attempts
        if one.world == world.handle and world.find(contract, one.job) is not None
    ]
    return sorted(found, key=lambda one: one.sent)


def _jobs(world: World, jobs: list[Job], made: Callable[[Job], Path | None] | None) -> Iterator[TracedJob]:
    now = world.clock.now()
    billable = {entry.job for entry in world.ledger().entries if entry.billable}
    for job in jobs:
        path = made(job) if made is not None else None
        yield TracedJob(job.id, job.created, job.stage(now).kind, job.id in billable, _hash(path) if path else None)


@lru_cache(maxsize=HASHED)
def _hash(path: Path) -> str | None:
    """Return the SHA-256 of a video, whose name says what is in it; None if it is gone."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
