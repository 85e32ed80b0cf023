"""The control handlers: a table from operation id to the function that handles it; knows no HTTP but the scope."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope

from hobbyhorse.clock.quiescence import unheld
from hobbyhorse.clock.race import client_gone, first_of
from hobbyhorse.contract.formats import whole_number
from hobbyhorse.contract.forms.nearest import Difference, Nearest, difference, nearest
from hobbyhorse.contract.lifecycle import LifecycleError
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import ArmedScenario
from hobbyhorse.scenarios.fault import MEDIA
from hobbyhorse.scenarios.scenario import Catalogue, Scenario, ScenarioError, find, misfits, read_scenario
from hobbyhorse.server.control.access import Team
from hobbyhorse.server.request import CALLBACKS_MODULE, header, in_steps, load, nothing_to_keep, nothing_to_write
from hobbyhorse.server.worker.threads import WorldThreads
from hobbyhorse.traces.exchange import SECRET_HEADERS, Exchange
from hobbyhorse.traces.redaction import Redactor
from hobbyhorse.traces.trace import Trace, to_json
from hobbyhorse.worlds.job_table import count_before
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES, Entry, Journal
from hobbyhorse.worlds.limits import read_limits
from hobbyhorse.worlds.mistakes import INVALID, UNMATCHED
from hobbyhorse.worlds.world import RESETS, Ending, World, Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackAttempt, CallbackDispatcher
    from hobbyhorse.state.store import Heads

# An image URL may be a data URI of megabytes; 200 characters show any real address.
MOST_TEXT = 200
# In the year 9892: ISO 8601 timestamps have four digits for the year.
LAST_MOMENT = 250_000_000_000.0
# Enough of the newest exchanges to see the mistake of the client, on one line of a log.
MOST_RECENT_EXCHANGES = 5
# The defaults of the document: `timeout` in seconds of `awaitExchanges`, and `limit` of the lists.
DEFAULT_TIMEOUT, DEFAULT_LIMIT = 5.0, 100
# The entries of a ledger in one response, also without a `limit`: more than a test makes, in some 15 ms.
MOST_ENTRIES = 1_000
# The bytes of the exchanges in one response, a quarter of what a journal may have: written in some 10 ms.
MOST_SHOWN_BYTES = 4 << 20
# The requests of a key that wait for exchanges: each new exchange is compared with all of them, in some 0.1 ms.
MOST_WAITS = 100
FILTERS: Mapping[str, Callable[[Entry], Any]] = {
    "provider": attrgetter("provider"),
    "role": attrgetter("role"),
    "situation": attrgetter("note.situation"),
    "status": attrgetter("note.status"),
    "move": attrgetter("note.move"),
    "method": attrgetter("method"),
    "path": attrgetter("path"),
    "job": attrgetter("note.job"),
}
"""The filters of the journal: each reads its value from an exchange."""


Item = TypeVar("Item")
Value = TypeVar("Value")


class ControlError(Exception):
    """A refusal: the HTTP status, a code, the reason, and the remedy."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.status, self.code, self.message, self.hint = status, code, message, hint


@dataclass(frozen=True, slots=True)
class ControlContext:
    """The parts of the server that the handlers work on."""

    contracts: Sequence[Contract]
    worlds: Worlds
    catalogue: Callable[[], Awaitable[Catalogue]]
    callback_dispatcher: Callable[[], CallbackDispatcher]
    origin: Callable[[Scope], str]
    reset: Callable[[World, Collection[str]], None]
    trace: Callable[[World, Contract, str, bool], Trace]
    forget: Callable[[World], None]
    scrape: Callable[[str], Awaitable[tuple[bytes, str]]]
    team_of: Callable[[str], Team | None]
    """Finds the team of an API key."""
    listed: Callable[[int | None, int], Awaitable[Heads]] | None = None
    """Lists the worlds of a kept state, of all its processes; None if all worlds are in this process."""
    written: Callable[[], Awaitable[None]] = nothing_to_write
    """Waits until everything that has changed is kept."""
    refused: Journal = field(default_factory=Journal)
    """The exchanges without a world: their key is missing or not accepted."""
    judge: Callable[[Contract, Trace], dict[str, Any]] | None = None
    kept: Callable[[World], Awaitable[None]] = nothing_to_keep
    authority: bytes | None = None
    connect_port: int | None = None
    problems: Callable[[], Sequence[str]] = tuple
    """Returns why contracts or scenarios are older than their files."""
    threads: WorldThreads = field(default_factory=WorldThreads)

    def contract(self, key: str | None) -> Contract | None:
        """Return the contract of a served provider, or None for None. Raises ControlError."""
        found = next((contract for contract in self.contracts if contract.key == key), None)
        if found is None and key is not None:
            known = ", ".join(contract.key for contract in self.contracts)
            raise ControlError(422, "unknown_provider", f"unknown provider {key!r}", f"served: {known}")
        return found


async def never() -> MutableMapping[str, Any]:
    """Receive nothing: the connection is watched elsewhere."""
    await asyncio.Event().wait()
    raise AssertionError


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One validated request: its world, its path parameters, its query and its body."""

    context: ControlContext
    world: World
    scope: Scope
    names: Mapping[str, str]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    team: Team | None = None
    receive: Receive = never
    """Receives the end of the connection."""

    def trace(self, world: World, contract: Contract, base: str) -> Trace:
        """Return the trace between a provider and the client, for a snapshot of the world."""
        # A request without a key may come from any client, so that one team must not see it.
        return self.context.trace(world, contract, base, self.team is None)

    async def compute(self, work: Callable[[World], Value]) -> Value:
        """Return the value of a computation over a snapshot of the world, which does not block the event loop."""
        world = self.world.snapshot()
        return await self.context.threads.run(world.handle, partial(work, world))

    def job(self, name: str) -> Job:
        """Return the job that the path names. Raises ControlError."""
        job = self.world.jobs.get(self.names[name])
        if job is None:
            message = f"this world has no job {self.names[name][:100]!r}"
            raise ControlError(
                404, "unknown_job", message, "GET /_mock/jobs lists its jobs; each API key has its own world"
            )
        return job


Handler = Callable[[ControlRequest], Awaitable[Any]]


async def get_health(request: ControlRequest) -> Any:
    """Report that the server is up, and which files it cannot use."""
    problems = request.context.problems()
    return {"status": "ok", **({"problems": problems} if problems else {})}


async def get_version(request: ControlRequest) -> Any:
    """Report the version."""
    return {"name": "hobbyhorse", "version": version("hobbyhorse")}


async def get_metrics(request: ControlRequest) -> Any:
    """Return the metrics in the format of Prometheus."""
    content, media_type = await request.context.scrape(header(request.scope["headers"], b"accept") or "")
    return Response(content, media_type=None, headers={"content-type": media_type})


async def reset(request: ControlRequest) -> Any:
    """Reset the world, or parts of it."""
    parts = [part for part in RESETS if part in request.body.get("what", RESETS)]
    request.context.reset(request.world, parts)
    return {"reset": parts}


async def get_clock(request: ControlRequest) -> Any:
    """Show the clock."""
    clock = request.world.clock
    return {"now": clock.now(), "speed": clock.speed, "waiting": clock.waiting}


async def put_clock(request: ControlRequest) -> Any:
    """Set the speed of the clock."""
    request.world.clock.set_speed(float(request.body["speed"]))
    return await get_clock(request)


async def advance_clock(request: ControlRequest) -> Any:
    """Advance the clock."""
    _check_end(request, request.body["seconds"])
    await request.world.clock.advance(float(request.body["seconds"]))
    return await get_clock(request)


async def run_until_idle(request: ControlRequest) -> Any:
    """Advance the clock until nothing is due."""
    _check_end(request, 0)
    await request.world.run_until_idle()
    return await get_clock(request)


def _check_end(request: ControlRequest, seconds: float) -> None:
    now = request.world.clock.now()
    if now + seconds > LAST_MOMENT:
        message = f"the clock is at {now:.0f} and cannot advance by {seconds} s"
        raise ControlError(
            409, "end_of_time", message, f"the last moment is {LAST_MOMENT:.0f}; POST /_mock/reset starts over"
        )


async def list_jobs(request: ControlRequest) -> Any:
    """List the jobs."""
    request.context.contract(provider := request.query.get("provider"))
    wanted, now = request.query.get("stage"), request.world.clock.now()
    stages = {
        name for contract in request.context.contracts for stage in contract.graph for name in (stage.name, stage.kind)
    }
    _check_known("stage", wanted, stages)
    found = _numbers(request.world, provider, wanted)
    shown, more = _newest(found, _job_number(request), request.query.get("limit", DEFAULT_LIMIT))
    table, total, redactor = request.world.jobs, len(found), redactor_of(request)
    older = table.at(shown[0]).id if more else None
    jobs = await in_steps(redactor.values(job_json(job, now)) for job in table.listed(shown))
    return {"now": now, "total": total, "jobs": jobs, "older": older}


def redactor_of(request: ControlRequest, contract: Contract | None = None) -> Redactor:
    """Return the redactor of the world's own keys, for a provider's requests or for any other output."""
    keys = dict.fromkeys((request.world.key, *request.world.keys.values()))
    return Redactor(contract or request.context.contracts[0], keys, kept=MOST_JOURNAL_BODY_BYTES)


def _numbers(world: World, provider: str | None, wanted: str | None) -> Sequence[int]:
    """Return the numbers of the jobs of a provider that are in a stage or in a class of stages; all if None."""
    table, now = world.jobs, world.clock.now()
    if wanted is None:
        return table.numbers(provider)
    table.settle(now)
    ended = [
        numbers for key, stage, kind, numbers in table.ends() if provider in (None, key) and wanted in (stage, kind)
    ]
    running = [
        number
        for number, job in table.running.items()
        if provider in (None, job.contract.key) and wanted in (job.stage(now).name, job.stage(now).kind)
    ]
    parts = [part for part in (*ended, running) if part]
    # Usually one stage: then nothing is copied.
    return parts[0] if len(parts) == 1 else sorted(itertools.chain(*parts))


def _newest(numbers: Sequence[int], cursor: int | None, limit: int | None) -> tuple[Sequence[int], bool]:
    """Return the newest numbers before a cursor, at most `limit`, and whether there are older ones."""
    # Pages go back in time: a job that is added during the reading moves none of the older ones.
    stop = count_before(numbers, cursor)
    start = 0 if limit is None else max(0, stop - limit)
    return numbers[start:stop], start > 0


def _page(
    found: Sequence[tuple[int, Item]], before: int | None, limit: int | None
) -> tuple[Sequence[tuple[int, Item]], bool]:
    """Return the newest entries whose position is less than `before`, and whether there are older ones."""
    # Pages go back in time: an entry that is added during the reading moves none of the older ones.
    entries = found if before is None else [(position, entry) for position, entry in found if position < before]
    shown = entries if limit is None else entries[-limit:]
    return shown, len(shown) < len(entries)


def _job_number(request: ControlRequest) -> int | None:
    """Return the number of the job that the cursor names, or None without a cursor. Raises ControlError."""
    cursor = request.query.get("cursor")
    if cursor is None:
        return None
    job = request.world.jobs.get(cursor)
    if job is None:
        raise _unknown_cursor(cursor)
    return job.number


def _unknown_cursor(cursor: str) -> ControlError:
    hint = "list again without a cursor: it is of another list, or the world was reset"
    return ControlError(422, "invalid_query", f"unknown cursor {cursor[:100]!r}", hint)


async def get_job(request: ControlRequest) -> Any:
    """Show a job."""
    shown: dict[str, Any] = redactor_of(request).values(job_json(request.job("id"), request.world.clock.now()))
    return shown


async def end_next_job(request: ControlRequest) -> Any:
    """Set the terminal stage of the next job of a provider that has the stage."""
    # Checked here: a wrong stage would only fail at the next submission of the client.
    stages = {stage.name for contract in request.context.contracts for stage in contract.graph.terminals()}
    stage = request.body["stage"]
    if stage not in stages:
        message = f"no provider has a terminal stage {stage!r}"
        raise ControlError(422, "invalid_body", message, f"allowed: {', '.join(sorted(stages))}")
    try:
        waiting = request.world.end_next(Ending(stage, request.body.get("code"), request.body.get("message")))
    except ValueError as error:
        hint = 'submit the jobs, or forget the ends: POST /_mock/reset with {"what": ["jobs"]}'
        raise ControlError(409, "too_many_ends", str(error), hint) from None
    return {"set": waiting}


async def move_job(request: ControlRequest) -> Any:
    """Move a job to a stage; its callback follows whenever its end is now."""
    job = request.job("id")
    try:
        request.world.transition(job, request.body["stage"], request.body.get("code"), request.body.get("message"))
    except LifecycleError as error:
        graph = job.contract.graph
        stage = job.stage(request.world.clock.now())
        hint = f"{stage.name!r} can be followed by {', '.join(map(repr, stage.next)) or 'nothing: the job has ended'}"
        if request.body["stage"] not in graph.stages:
            hint += f"; the stages are {', '.join(one.name for one in graph)}"
        raise ControlError(409, "illegal_transition", str(error), hint) from None
    return await get_job(request)


def job_json(job: Job, now: float) -> dict[str, Any]:
    """Return a job as JSON."""
    stage, order = job.stage(now), job.order
    code, message = job.error
    return {
        "id": job.id,
        "provider": job.contract.key,
        "stage": stage.name,
        "class": stage.kind,
        "created": job.created,
        "finished": job.finished if stage.terminal else None,
        "timeline": [
            {"at": moment, "stage": name, "class": job.contract.graph[name].kind} for moment, name in job.timeline
        ],
        "model": order.model.id,
        "order": {
            "prompt": order.prompt,
            "first_frame": _short(order.first_frame) if order.first_frame is not None else None,
            "references": [_short(one) for one in order.references],
            "resolution": order.resolution,
            "seconds": order.seconds,
            "ratio": order.ratio,
            "seed": order.seed,
            "watermark": order.watermark,
        },
        "error": None if code is None and message is None else {"code": code, "message": message},
        "cost": float(job.cost),
        "collected": job.collected,
        "scenario": job.active_scenario.scenario.name if job.active_scenario is not None else None,
        "curl": job.curl,
        "seed": job.seed,
        "held": job.held,
        "expires": job.expires,
    }


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}… ({len(text)} characters)"


async def list_exchanges(request: ControlRequest) -> Any:
    """List the exchanges."""
    found = _matching(request.world.journal, _filter(request, request.query))
    limit = request.query.get("limit", DEFAULT_LIMIT)
    before = _journal_position(request)
    return await request.compute(lambda world: _journal(request, found, limit, before))


def _journal_position(request: ControlRequest) -> int | None:
    """Return the number of the exchange that the cursor names, or None without a cursor. Raises ControlError."""
    cursor = request.query.get("cursor")
    if cursor is None:
        return None
    number = whole_number(cursor, 15)
    if number is None or number >= request.world.journal.total:
        raise _unknown_cursor(cursor)
    return number


async def await_exchanges(request: ControlRequest) -> Any:
    """Wait until enough exchanges match."""
    count, timeout = int(request.body.get("count", 1)), request.body.get("timeout", DEFAULT_TIMEOUT)
    loop, journal, wanted = asyncio.get_running_loop(), request.world.journal, _filter(request, request.body)
    deadline = loop.time() + timeout
    found: list[tuple[int, Entry]] = []
    # Again if exchanges were dropped between the end of the wait and this turn.
    while len(found) < count:
        if journal.waits >= MOST_WAITS:
            hint = "end some of them first, or use another API key"
            raise ControlError(409, "too_many_waits", f"{journal.waits} requests wait for exchanges of this key", hint)
        left = asyncio.sleep(max(0.0, deadline - loop.time()))
        try:
            ended = await first_of(journal.until(count, wanted), _gone(request), left)
        except asyncio.CancelledError:
            raise ControlError(503, "server_stops", "the server stopped during the wait", "start it again") from None
        if ended > 0:
            raise _timed_out(request, len(_matching(journal, wanted)), count, timeout)
        found = _matching(journal, wanted)
    return await request.compute(lambda world: _journal(request, found, count))


async def _gone(request: ControlRequest) -> None:
    """Wait until the client has disconnected."""
    # The wait for exchanges counts: it ends without the client.
    with unheld():
        await client_gone(request.receive)


def _timed_out(request: ControlRequest, found: int, count: int, timeout: float) -> ControlError:
    """Return the error of a wait that timed out; its hint lists the newest exchanges."""
    wanted = ", ".join(f"{name} {value!r}" for name, value in request.body.items() if name not in ("count", "timeout"))
    message = f"{found} of {count} exchanges within {timeout:g} s" + (f" with {wanted}" if wanted else "")
    newest, _ = request.world.journal.newest(MOST_RECENT_EXCHANGES)
    seen = "; ".join(
        f"{one.method} {one.path[:MOST_TEXT]} {one.note.status} "
        f"({one.provider} {one.role or 'none'}, {one.note.situation})"
        for _, one in reversed(newest)
    )
    hint = f"the journal has {len(request.world.journal)}, the newest: {seen}" if newest else "the journal is empty"
    return ControlError(408, "timeout", message, hint)


def _filter(request: ControlRequest, wanted: Mapping[str, Any]) -> Callable[[Entry], bool]:
    """Return whether an exchange matches every filter of a request. Raises ControlError."""
    request.context.contract(wanted.get("provider"))
    roles = {role for contract in request.context.contracts for role in contract.operations}
    _check_known("role", wanted.get("role"), {MEDIA, *roles})
    # Read from the entries as they are: most are not shown, and need not be made readable.
    pairs = [
        (read, wanted[name].upper() if name == "method" else wanted[name])
        for name, read in FILTERS.items()
        if name in wanted
    ]

    def matches(entry: Entry) -> bool:
        # Not with `all`, which takes three times as long: a whole journal is compared.
        for read, value in pairs:  # noqa: SIM110
            if read(entry) != value:
                return False
        return True

    return matches


def _matching(journal: Journal, wanted: Callable[[Entry], bool]) -> list[tuple[int, Entry]]:
    """Return the exchanges that match, oldest first, each after its position since the journal began."""
    found, _ = journal.newest(len(journal), wanted=wanted)
    return found[::-1]


def _check_known(name: str, got: str | None, known: Collection[str]) -> None:
    # A filter that can never match is a typo in the test, which an empty list would hide.
    if got is not None and got not in known:
        raise ControlError(422, "invalid_query", f"unknown {name} {got!r}", f"allowed: {', '.join(sorted(known))}")


def _journal(
    request: ControlRequest, found: Sequence[tuple[int, Entry]], limit: int, before: int | None = None
) -> dict[str, Any]:
    journal = request.world.journal
    shown, more = _page(found, before, limit)
    sizes = itertools.accumulate(entry.size for _, entry in reversed(shown))
    # The newest ones that fit, and at least one.
    fitting = max(1, sum(size <= MOST_SHOWN_BYTES for size in sizes))
    shown, more = shown[-fitting:], more or fitting < len(shown)
    redactors = {contract.key: redactor_of(request, contract) for contract in request.context.contracts}
    return {
        "total": journal.total,
        "kept": len(journal),
        "matching": len(found),
        "exchanges": [exchange_json(request, one.exchange(), redactors) for _, one in shown],
        "older": str(shown[0][0]) if more else None,
    }


def exchange_json(request: ControlRequest, exchange: Exchange, redactors: Mapping[str, Redactor]) -> dict[str, Any]:
    """Return an exchange as JSON, without secrets."""
    contract = request.context.contract(exchange.provider)
    # A request to no provider has the secrets of any.
    redactor = redactors[exchange.provider or request.context.contracts[0].key]
    query, headers = redacted(contract, exchange)
    return {
        "moment": exchange.moment,
        "provider": exchange.provider,
        "role": exchange.role,
        "situation": exchange.situation,
        "job": exchange.job,
        "method": exchange.method,
        "path": redactor.text(exchange.path),
        "query": redactor.text(query),
        "headers": [
            (name, value if name in SECRET_HEADERS else shown)
            for (name, value), (_, shown) in zip(headers, redactor.headers(headers), strict=True)
        ],
        "body": redactor.content(exchange.body).decode("utf-8", "replace"),
        "status": exchange.status,
        "answer": redactor.content(exchange.answer).decode("utf-8", "replace"),
        "notes": [redactor.text(note) for note in exchange.notes],
        "move": exchange.move,
        "nearest": redactor.values(nearest_operation(contract, exchange) if contract else None),
        "made": exchange.made,
    }


def redacted(contract: Contract | None, exchange: Exchange) -> tuple[str, list[tuple[str, str]]]:
    """Return the query and the headers of a request, without the secrets that the provider's contract names."""
    secret = {(part, name) for part, name, _ in contract.security} if contract else set()
    text = exchange.query.split("&") if exchange.query else []
    query = [
        f"{name}={'[redacted]' if ('query', name) in secret else value}" if equals else name
        for name, equals, value in (one.partition("=") for one in text)
    ]
    headers = [(name, "[redacted]" if ("header", name) in secret else value) for name, value in exchange.headers]
    return "&".join(query), headers


def nearest_operation(contract: Contract, exchange: Exchange) -> dict[str, Any] | None:
    """Return the nearest operation to a refused request, and the differences; None for other requests."""
    if exchange.role is None and exchange.situation in UNMATCHED:
        near = nearest(contract, exchange.method, exchange.path)
    elif (operation := contract.operations.get(exchange.role or "")) is not None and _invalid(exchange):
        found = None
        # A body that was cut in the journal would differ where it was cut.
        if len(exchange.body) < MOST_JOURNAL_BODY_BYTES:

            def given(name: str) -> str | None:
                return header(exchange.raw_headers, name.encode("latin-1"))

            found = difference(contract, operation, exchange.path, exchange.query, header=given, body=exchange.body)
        if found is None:
            found = Difference("field", "", exchange.notes[0] if exchange.notes else str(exchange.situation))
        near = Nearest(operation, (found,))
    else:
        return None
    operation = near.operation
    how = "no operation; the nearest is" if exchange.role is None else "does not match the contract;"
    return {
        "role": operation.role,
        "method": operation.method,
        "path": operation.path,
        "differences": [{"part": one.part, "at": one.at, "message": one.message} for one in near.differences],
        "text": f"{exchange.method} {exchange.path[:MOST_TEXT]}: {how} {near}",
    }


def _invalid(exchange: Exchange) -> bool:
    noted = exchange.notes[0].partition(":")[0] if exchange.notes else ""
    return exchange.status >= 400 and bool({exchange.situation, noted} & INVALID)


async def list_scenarios(request: ControlRequest) -> Any:
    """List the catalogue."""
    with _refusing(422):
        catalogue = await request.context.catalogue()
    return await request.compute(lambda _: {"scenarios": [scenario_json(request, one) for one in catalogue.values()]})


async def get_scenario(request: ControlRequest) -> Any:
    """Show a scenario of the catalogue."""
    with _refusing(404):
        scenario = find(await request.context.catalogue(), request.names["name"])
    return {**scenario_json(request, scenario), "scenario": scenario.to_json()}


def scenario_json(request: ControlRequest, scenario: Scenario) -> dict[str, Any]:
    """Return a scenario of the catalogue as JSON."""
    fits = [contract.key for contract in request.context.contracts if not misfits(scenario, contract)]
    return {"name": scenario.name, "why": scenario.why, "providers": fits}


async def list_armed(request: ControlRequest) -> Any:
    """List what is armed."""
    return {"armed": [armed_json(armed) for armed in request.world.scenarios.armed]}


def armed_json(armed: ArmedScenario) -> dict[str, Any]:
    """Return an armed scenario as JSON."""
    return {**armed.to_json(), "fits": sorted(armed.fits)}


async def arm_scenario(request: ControlRequest) -> Any:
    """Arm a scenario."""
    given, jobs = request.body["scenario"], request.body.get("jobs", 1)
    provider = request.body.get("provider")
    request.context.contract(provider)
    with _refusing(422):
        scenario = find(await request.context.catalogue(), given) if isinstance(given, str) else read_scenario(given)
        armed: ArmedScenario = request.world.scenarios.arm(
            scenario,
            request.context.contracts,
            provider=provider,
            jobs=None if jobs == "all" else int(jobs),
            seed=int(request.body.get("seed", 0)),
        )
    return armed_json(armed)


@contextmanager
def _refusing(status: int) -> Iterator[None]:
    """Turn a ScenarioError into a refusal with the given status."""
    try:
        yield
    except ScenarioError as error:
        hint = error.hint or "GET /_mock/scenarios lists the scenarios and their providers"
        raise ControlError(status, error.code, error.message, hint) from None


async def disarm_all(request: ControlRequest) -> Any:
    """Disarm everything."""
    return {"disarmed": request.world.scenarios.disarm()}


async def disarm(request: ControlRequest) -> Any:
    """Disarm one scenario."""
    text = request.names["id"]
    number = whole_number(text, 9)
    disarmed = request.world.scenarios.disarm(number) if number is not None else 0
    if not disarmed:
        message = f"no scenario is armed with the id {text[:100]!r}"
        raise ControlError(404, "unknown_armed", message, "GET /_mock/scenarios/armed lists the ids")
    return {"disarmed": disarmed}


async def list_attempts(request: ControlRequest) -> Any:
    """List the attempts to deliver callbacks."""
    await load(CALLBACKS_MODULE)
    attempts = request.context.callback_dispatcher().of(request.world)
    shown, _ = _page(list(enumerate(attempts)), None, request.query.get("limit"))
    redactor = redactor_of(request)
    return {"attempts": await in_steps(redactor.values(attempt_json(attempt)) for _, attempt in shown)}


def attempt_json(attempt: CallbackAttempt) -> dict[str, Any]:
    """Return an attempt to deliver a callback as JSON."""
    return {
        "moment": attempt.moment,
        "job": attempt.job,
        "number": attempt.number,
        "url": attempt.url,
        "headers": attempt.headers,
        "body": attempt.body.decode("utf-8", "replace"),
        "status": attempt.status,
        "error": attempt.error,
        "acknowledged": attempt.acknowledged,
        "note": attempt.note,
        "false": attempt.false,
        "kind": attempt.kind,
        "answered": attempt.answered,
    }


async def redeliver(request: ControlRequest) -> Any:
    """Deliver the callback of a job once more."""
    job = request.job("job")
    await load(CALLBACKS_MODULE)
    try:
        request.context.callback_dispatcher().redeliver(request.world, job)
    except LookupError as error:
        message = str(error.args[0]) if error.args else f"the job {job.id!r} has no callback"
        hint = "a callback is sent when a job with a callback URL has ended; GET /_mock/jobs shows the stage"
        raise ControlError(409, "no_callback", message, hint) from None
    return {"job": job.id}


async def get_ledger(request: ControlRequest) -> Any:
    """Show the billed and billable jobs."""
    now, table, totals = request.world.clock.now(), request.world.jobs, request.world.totals()
    numbers, more = _newest(table.numbers(), _job_number(request), request.query.get("limit", MOST_ENTRIES))
    older = table.at(numbers[0]).id if more else None
    shown = await in_steps(table.entry(job, now) for job in table.listed(numbers))
    entries = [
        {
            "job": entry.job,
            "provider": entry.provider,
            "model": entry.model,
            "created": entry.created,
            "stage": entry.stage,
            "usd": float(entry.usd),
            "billed": entry.billed,
            "billable": entry.billable,
            "duplicate_of": entry.duplicate_of,
        }
        for entry in shown
    ]
    return {
        "billable": totals.billable,
        "usd": float(totals.usd),
        "duplicates": totals.duplicates,
        "entries": entries,
        "older": older,
    }


async def get_trace(request: ControlRequest) -> Any:
    """Show the trace between a provider and the client."""
    contract, base = _traced(request)
    return await request.compute(lambda world: to_json(request.trace(world, contract, base)))


async def get_report(request: ControlRequest) -> Any:
    """Judge the client by its trace."""
    contract, base = _traced(request)
    judge = request.context.judge
    if judge is None:
        hint = "start it with `hobbyhorse serve`, or as MockServer(judge=...); GET /_mock/trace shows the trace itself"
        raise ControlError(501, "no_judge", "the server was started without a judge", hint)
    return await request.compute(lambda world: judge(contract, request.trace(world, contract, base)))


def _traced(request: ControlRequest) -> tuple[Contract, str]:
    """Return the provider that the query names, and its base URL. Raises ControlError."""
    contract = request.context.contract(request.query.get("provider"))
    if contract is None:
        known = ", ".join(contract.key for contract in request.context.contracts)
        raise ControlError(422, "invalid_query", "the provider is missing", f"add ?provider=P; allowed: {known}")
    return contract, f"{request.context.origin(request.scope)}/{contract.key}"


async def get_settings(request: ControlRequest) -> Any:
    """Show the settings of the world."""
    world = request.world
    return {"pace": world.pace, "limits": world.limits.to_json(), "label": world.label}


async def patch_settings(request: ControlRequest) -> Any:
    """Change the settings of the world."""
    changes = dict(request.body.get("limits", {}))
    for name in ("concurrent_jobs", "workers", "rivals"):  # JSON Schema takes 2.0 for an integer
        if changes.get(name) is not None:
            changes[name] = int(changes[name])
    if changes:
        try:
            request.world.limit(read_limits({**request.world.limits.to_json(), **changes}))
        except ValueError as error:
            hint = "GET /_mock/openapi.json documents the allowed values"
            raise ControlError(422, "invalid_body", str(error), hint) from None
    request.world.pace = request.body.get("pace", request.world.pace)
    request.world.label = request.body.get("label", request.world.label)
    return await get_settings(request)


HANDLERS: Mapping[str, Handler] = {
    "getHealth": get_health,
    "getVersion": get_version,
    "getMetrics": get_metrics,
    "reset": reset,
    "getClock": get_clock,
    "putClock": put_clock,
    "advanceClock": advance_clock,
    "runUntilIdle": run_until_idle,
    "listJobs": list_jobs,
    "getJob": get_job,
    "endNextJob": end_next_job,
    "moveJob": move_job,
    "listExchanges": list_exchanges,
    "awaitExchanges": await_exchanges,
    "listScenarios": list_scenarios,
    "getScenario": get_scenario,
    "listArmed": list_armed,
    "armScenario": arm_scenario,
    "disarmAll": disarm_all,
    "disarm": disarm,
    "listAttempts": list_attempts,
    "redeliver": redeliver,
    "getLedger": get_ledger,
    "getTrace": get_trace,
    "getReport": get_report,
    "getSettings": get_settings,
    "patchSettings": patch_settings,
}
"""By operationId of control.openapi.json, without `getDocument` and the operations on all worlds."""
