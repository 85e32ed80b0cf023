"""From a world to a trace: its journal, callbacks and jobs, without secrets; knows no HTTP server.

A trace is read by judges and stored in files, so no secret may be in it: the API key is replaced wherever it occurs,
in every encoding that a client may send, and headers and parameters that carry secrets are replaced whole.

Requests without an accepted key were recorded elsewhere, under another clock. They are included because a client that
loses its key must still be judged by its requests. Their order is known from the request numbers, which count over
all worlds; their moments are shifted to the world's clock and then limited to the moments of their neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import SUBMISSIONS
from hobbyhorse.scenarios.fault import MEDIA
from hobbyhorse.server.request import api_key, first_headers
from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.traces.redaction import Redactor
from hobbyhorse.traces.trace import Delivery, Trace, TracedJob
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import MOST_EXCHANGES, MOST_JOURNAL_BODY_BYTES, Journal, decoded
from hobbyhorse.worlds.world import World

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackAttempt

# As many as a large suite makes; hashing again costs the reading of one file.
HASHED = 1024


def trace_of(
    world: World,
    contract: Contract,
    key: str,
    *,
    base: str,
    attempts: Iterable[CallbackAttempt] = (),
    unauthenticated: tuple[Journal, World] | None = None,
    origins: Mapping[str, str] | None = None,
    secret: str | None = None,
    made: Callable[[Job], Path | None] | None = None,
    issued: Callable[[str], bool] | None = None,
) -> Trace:
    """Return the trace between the client of a world and a provider.

    `base` is the provider's URL if no recorded request has one. `unauthenticated` is the journal of requests without
    an accepted key, and the world with their clock; its exchanges since the world's journal began are included.
    `made` returns a job's video if it has been rendered. `issued` tells whether a key, which is not the world's, was
    issued for another world: such a key gets a number of its own.
    """
    seen = [one for one in world.journal if one.provider in (None, contract.key)]
    strangers = _unauthenticated(world, contract, unauthenticated)
    found = sorted([*seen, *strangers], key=lambda one: one.number)
    # Known as the key, however short it is. The keys of other providers are secrets too.
    keys = (key, *(one for one in world.keys.values() if one != key), *_issued(contract, strangers, issued))
    redactor = Redactor(contract, keys, shortest=1, kept=MOST_JOURNAL_BODY_BYTES)
    jobs = _recorded_jobs(world, contract, found)
    armed = [one for one in world.scenarios.armed if contract.key in one.fits]
    timed, ordered = _in_time(world, found, unauthenticated), bool(world.keys)
    return Trace(
        provider=contract.key,
        base=next((one.root for one in seen if one.provider and one.role not in (None, MEDIA)), base),
        exchanges=tuple(_exchange(redactor, one, moment, ordered) for one, moment in timed),
        deliveries=tuple(_deliveries(redactor, world, contract, attempts)),
        jobs=tuple(_jobs(world, jobs, made)),
        ended=world.clock.now(),
        model=jobs[0].order.model.id if jobs else None,
        origins=dict(origins or {}),
        scenario=armed[-1].scenario.to_json() if armed else {},
        unmet=tuple(fault for one in armed for fault in one.unmet()),
        secret=secret,
    )


def _recorded_jobs(world: World, contract: Contract, found: Iterable[Exchange]) -> list[Job]:
    """Return the jobs of a provider; if the journal has lost its oldest exchanges, only the jobs in the others."""
    numbers = world.jobs.numbers(contract.key)
    if len(numbers) > MOST_EXCHANGES:
        named = {name for one in found for name in (one.made, one.job) if name is not None}
        numbers = sorted({job.number for name in named if (job := world.find(contract, name)) is not None})
    return [world.jobs.at(number) for number in numbers]


def _exchange(redactor: Redactor, one: Exchange, arrived: float, ordered: bool) -> Exchange:
    """Return an exchange of the journal as a trace has it: without secrets, at its moment on the world's clock.

    An `ordered` one keeps its number, which orders it among the exchanges with other providers.
    """
    # A fault may have removed the id from the response: the client then does not know its job.
    unknown = one.role in SUBMISSIONS and (one.job is None or one.job.encode() not in one.answer)
    safe = redactor.exchange(replace(one, headers=tuple(decoded(one.raw_headers))))
    return replace(
        safe,
        arrived=arrived,
        answered=None if one.answered is None else one.answered + (arrived - one.arrived),
        job=None if unknown else one.job,
        number=one.number if ordered else 0,
        provider=None,
        root="",
        notes=(),
        raw_headers=(),
    )


def _unauthenticated(world: World, contract: Contract, unauthenticated: tuple[Journal, World] | None) -> list[Exchange]:
    """Return the exchanges without an accepted key that may come from this client."""
    journals = (unauthenticated[0], unauthenticated[1].journal) if unauthenticated is not None else ()
    return [
        one
        for journal in journals
        for one in journal
        if one.provider in (None, contract.key) and one.number > world.since
    ]


def _issued(contract: Contract, exchanges: Iterable[Exchange], issued: Callable[[str], bool] | None) -> Iterator[str]:
    """Yield the keys in unaccepted requests that were issued for other worlds."""
    if issued is None:
        return
    for one in exchanges:
        headers = first_headers({"headers": one.raw_headers})
        key = api_key(contract.security, headers, urlsplit(one.url).query.encode())
        if key is not None and issued(key):
            yield key


def _in_time(
    world: World, found: list[Exchange], unauthenticated: tuple[Journal, World] | None
) -> Iterator[tuple[Exchange, float]]:
    """Yield exchanges in order, each with its moment on the world's clock.

    Unauthenticated exchanges were recorded under another clock. Each is shifted by the present difference of the two
    clocks, then limited to the moments of its neighbours: either clock may have been moved in between.
    """
    recorded = {one.number for one in world.journal}
    shift = world.clock.now() - unauthenticated[1].clock.now() if unauthenticated is not None else 0.0
    latest, moments = world.clock.now(), []
    for one in reversed(found):
        latest = one.moment if one.number in recorded else min(latest, one.moment + shift)
        moments.append(latest)
    earliest = float("-inf")
    for one, moment in zip(found, reversed(moments), strict=True):
        earliest = max(earliest, moment)
        yield one, earliest


def _deliveries(
    redactor: Redactor, world: World, contract: Contract, attempts: Iterable[CallbackAttempt]
) -> list[Delivery]:
    """Return the deliveries for a provider's jobs, in the order of sending."""
    found = [
        Delivery(
            sent=one.moment,
            job=one.job,
            number=one.number,
            body=redactor.content(one.body),
            headers=tuple((name.lower(), redactor.text(value)) for name, value in one.headers.items()),
            answered=one.answered,
            status=one.status,
            error=None if one.error is None else redactor.text(one.error),
            kind=one.kind,
            note=one.note,
        )
        for one in attempts
        if one.world == world.handle and world.find(contract, one.job) is not None
    ]
    return sorted(found, key=lambda one: one.sent)


def _jobs(world: World, jobs: list[Job], made: Callable[[Job], Path | None] | None) -> Iterator[TracedJob]:
    now = world.clock.now()
    billable = {entry.job for entry in world.ledger([job.number for job in jobs]).entries if entry.billable}
    for job in jobs:
        path = made(job) if made is not None else None
        yield TracedJob(job.id, job.created, job.stage(now).kind, job.id in billable, _hash(path) if path else None)


@lru_cache(maxsize=HASHED)
def _hash(path: Path) -> str | None:
    """Return the SHA-256 of a video, or None if the cache has removed it. Cached by path, which names the content."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
