"""What each operation of the control plane does: a table of functions from a request to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from hobbyhorse.contract.forms.nearest import Difference, Nearest, difference, nearest
from hobbyhorse.contract.lifecycle import LifecycleError
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import ArmedScenario
from hobbyhorse.scenarios.moves import MEDIA
from hobbyhorse.scenarios.scenario import Catalogue, Scenario, ScenarioError, find, misfits, read_scenario
from hobbyhorse.server.request import header
from hobbyhorse.traces.trace import Trace, to_json
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES, Exchange
from hobbyhorse.worlds.limits import read_limits
from hobbyhorse.worlds.mistakes import INVALID, UNMATCHED
from hobbyhorse.worlds.world import RESETS, World, Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackAttempt, CallbackDispatcher

MOST_TEXT = 200
"""How much of a picture's address is shown: one may be a whole picture."""
LAST_MOMENT = 250_000_000_000.0
"""The last moment that a clock can be moved to: timestamps have four digits for the year."""
MOST_NEAREST_EXCHANGES = 5
"""How many exchanges a refusal lists."""
PATIENCE, PAGE = 5.0, 100


class ControlError(Exception):
    """A refusal: the HTTP status, a code, what is wrong, and what to do."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.status, self.code, self.message, self.hint = status, code, message, hint


@dataclass(frozen=True, slots=True)
class ControlContext:
    """What the control plane works on."""

    contracts: Sequence[Contract]
    worlds: Worlds
    catalogue: Callable[[], Catalogue]
    courier: Callable[[], CallbackDispatcher]
    origin: Callable[[Scope], str]
    reset: Callable[[World, Collection[str]], None]
    trace: Callable[[World, Contract, str], Trace]
    judge: Callable[[Contract, Trace], dict[str, Any]] | None = None

    def contract(self, key: str | None) -> Contract | None:
        """Return the contract of a provider that is served, or None if none is named."""
        found = next((contract for contract in self.contracts if contract.key == key), None)
        if found is None and key is not None:
            known = ", ".join(contract.key for contract in self.contracts)
            raise ControlError(422, "unknown_provider", f"no provider {key!r}", f"the server has {known}")
        return found


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One request: its world, the names in its path, its query and its body, all of which keep the document."""

    desk: ControlContext
    world: World
    scope: Scope
    names: Mapping[str, str]
    query: Mapping[str, Any]
    body: Mapping[str, Any]

    def job(self, name: str) -> Job:
        """Return the job that the path names."""
        job = self.world.jobs.get(self.names[name])
        if job is None:
            message = f"this world has no job {self.names[name][:100]!r}"
            raise ControlError(404, "unknown_job", message, "GET /_mock/jobs lists them; another key has another world")
        return job


Handler = Callable[[ControlRequest], Awaitable[Any]]


async def get_health(ask: ControlRequest) -> Any:
    """Say that the server is up."""
    return {"status": "ok"}


async def get_version(ask: ControlRequest) -> Any:
    """Say which version this is."""
    return {"name": "hobbyhorse", "version": version("hobbyhorse")}


async def reset(ask: ControlRequest) -> Any:
    """Make the world as good as new, or parts of it."""
    what = [part for part in RESETS if part in ask.body.get("what", RESETS)]
    ask.desk.reset(ask.world, what)
    return {"reset": what}


async def get_clock(ask: ControlRequest) -> Any:
    """Show the clock."""
    clock = ask.world.clock
    return {"now": clock.now(), "speed": clock.speed, "waiting": clock.waiting}


async def put_clock(ask: ControlRequest) -> Any:
    """Set the speed of the clock."""
    ask.world.clock.set_speed(float(ask.body["speed"]))
    return await get_clock(ask)


async def advance_clock(ask: ControlRequest) -> Any:
    """Move the clock forward."""
    _check_end(ask, ask.body["seconds"])
    await ask.world.clock.advance(float(ask.body["seconds"]))
    return await get_clock(ask)


async def run_until_idle(ask: ControlRequest) -> Any:
    """Move the clock until nothing waits."""
    _check_end(ask, 0)
    await ask.world.run_until_idle()
    return await get_clock(ask)


def _check_end(ask: ControlRequest, seconds: float) -> None:
    now = ask.world.clock.now()
    if now + seconds > LAST_MOMENT:
        message = f"the clock is at {now:.0f} and cannot be moved by {seconds} s"
        raise ControlError(409, "end_of_time", message, f"moments go to {LAST_MOMENT:.0f}; POST /_mock/reset")


async def list_jobs(ask: ControlRequest) -> Any:
    """List the jobs."""
    ask.desk.contract(provider := ask.query.get("provider"))
    wanted, now = ask.query.get("stage"), ask.world.clock.now()
    stages = {name for contract in ask.desk.contracts for stage in contract.graph for name in (stage.name, stage.kind)}
    _check_known("stage", wanted, stages)
    found = [
        job
        for job in ask.world.jobs.values()
        if provider in (None, job.contract.key) and wanted in (None, job.stage(now).name, job.stage(now).kind)
    ]
    return {"total": len(found), "jobs": [_job(job, now) for job in found[-ask.query.get("limit", PAGE) :]]}


async def get_job(ask: ControlRequest) -> Any:
    """Show a job."""
    return _job(ask.job("id"), ask.world.clock.now())


async def move_job(ask: ControlRequest) -> Any:
    """Move a job to a stage, and have its end told, whenever it is now, to who asked for that."""
    job = ask.job("id")
    try:
        ask.world.transition(job, ask.body["stage"], ask.body.get("code"), ask.body.get("message"))
    except LifecycleError as error:
        graph = job.contract.graph
        stage = job.stage(ask.world.clock.now())
        hint = f"{stage.name!r} may be followed by {', '.join(map(repr, stage.next)) or 'nothing: the job has ended'}"
        if ask.body["stage"] not in graph.stages:
            hint += f"; the stages are {', '.join(one.name for one in graph)}"
        raise ControlError(409, "illegal_transition", str(error), hint) from None
    return await get_job(ask)


def _job(job: Job, now: float) -> dict[str, Any]:
    stage, order = job.stage(now), job.order
    code, message = job.error
    return {
        "id": job.id,
        "provider": job.contract.key,
        "stage": stage.name,
        "class": stage.kind,
        "created": job.created,
        "finished": job.finished if stage.terminal else None,
        "timeline": [{"at": moment, "stage": name} for moment, name in job.timeline],
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
    }


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}… ({len(text)} characters)"


async def list_exchanges(ask: ControlRequest) -> Any:
    """List the exchanges."""
    return _journal(ask, _matching(ask, ask.query), ask.query.get("limit", PAGE))


async def await_exchanges(ask: ControlRequest) -> Any:
    """Wait until so many exchanges match."""
    count, timeout = int(ask.body.get("count", 1)), ask.body.get("timeout", PATIENCE)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while len(found := _matching(ask, ask.body)) < count:
        try:
            await asyncio.wait_for(ask.world.journal.changed(), max(0.0, deadline - loop.time()))
        except asyncio.TimeoutError:  # another class than the builtin one before Python 3.11
            raise _late(ask, found, count, timeout) from None
        except asyncio.CancelledError:
            raise ControlError(503, "server_stops", "the server stops while it waits", "start it again") from None
    return _journal(ask, found, count)


def _late(ask: ControlRequest, found: Sequence[Exchange], count: int, timeout: float) -> ControlError:
    """Return the refusal of a wait that was in vain: what there was instead."""
    wanted = ", ".join(f"{name} {value!r}" for name, value in ask.body.items() if name not in ("count", "timeout"))
    message = f"{len(found)} of {count} exchanges after {timeout:g} s" + (f" with {wanted}" if wanted else "")
    everything = list(ask.world.journal)
    seen = "; ".join(
        f"{one.method} {one.path[:MOST_TEXT]} {one.status} ({one.provider} {one.role or 'none'}, {one.situation})"
        for one in everything[-MOST_NEAREST_EXCHANGES:]
    )
    hint = f"this world has seen {len(everything)}, at last: {seen}" if everything else "this world has seen no request"
    return ControlError(408, "timeout", message, hint)


def _matching(ask: ControlRequest, wanted: Mapping[str, Any]) -> list[Exchange]:
    """Return the exchanges that meet every filter."""
    ask.desk.contract(wanted.get("provider"))
    roles = {role for contract in ask.desk.contracts for role in contract.operations}
    _check_known("role", wanted.get("role"), {MEDIA, *roles})
    names = ("provider", "role", "situation", "status", "move", "path", "job")
    pairs = [(name, wanted[name]) for name in names if name in wanted]
    method = wanted["method"].upper() if "method" in wanted else None
    return [
        one
        for one in ask.world.journal
        if method in (None, one.method) and all(getattr(one, name) == value for name, value in pairs)
    ]


def _check_known(name: str, got: str | None, known: Collection[str]) -> None:
    if got is not None and got not in known:
        raise ControlError(422, "invalid_query", f"no {name} {got!r}", f"known are {', '.join(sorted(known))}")


def _journal(ask: ControlRequest, found: Sequence[Exchange], limit: int) -> dict[str, Any]:
    journal = ask.world.journal
    shown = [_exchange(ask, one) for one in found[-limit:]]
    return {"total": journal.total, "kept": len(journal), "matching": len(found), "exchanges": shown}


def _exchange(ask: ControlRequest, exchange: Exchange) -> dict[str, Any]:
    contract = ask.desk.contract(exchange.provider)
    secret = {(part, name) for part, name, _ in contract.security} if contract else set()
    text = exchange.query.split("&") if exchange.query else []
    query = [
        f"{name}={'[redacted]' if ('query', name) in secret else value}" if equals else name
        for name, equals, value in (one.partition("=") for one in text)
    ]
    near = _nearest(contract, exchange) if contract else None
    return {
        "moment": exchange.moment,
        "provider": exchange.provider,
        "role": exchange.role,
        "situation": exchange.situation,
        "job": exchange.job,
        "method": exchange.method,
        "path": exchange.path,
        "query": "&".join(query),
        "headers": [[name, "[redacted]" if ("header", name) in secret else value] for name, value in exchange.headers],
        "body": exchange.body.decode("utf-8", "replace"),
        "status": exchange.status,
        "answer": exchange.answer.decode("utf-8", "replace"),
        "notes": list(exchange.notes),
        "move": exchange.move,
        "nearest": near,
    }


def _nearest(contract: Contract, exchange: Exchange) -> dict[str, Any] | None:
    """Return what a request that was refused comes nearest to, and how it differs; None for any other."""
    if exchange.role is None and exchange.situation in UNMATCHED:
        near = nearest(contract, exchange.method, exchange.path)
    elif (operation := contract.operations.get(exchange.role or "")) is not None and _invalid(exchange):
        found = None
        if len(exchange.body) < MOST_JOURNAL_BODY_BYTES:

            def given(name: str) -> str | None:
                return header(exchange.raw_headers, name.encode("latin-1"))

            found = difference(contract, operation, exchange.path, exchange.query, given, exchange.body)
        if found is None:
            found = Difference("field", "", exchange.notes[0] if exchange.notes else str(exchange.situation))
        near = Nearest(operation, (found,))
    else:
        return None
    operation = near.operation
    how = "no operation; the nearest is" if exchange.role is None else "not as the contract has it;"
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


async def list_scenarios(ask: ControlRequest) -> Any:
    """List the catalogue."""
    with _refusing(422):
        catalogue = ask.desk.catalogue()
    return {"scenarios": [_scenario(ask, scenario) for scenario in catalogue.values()]}


async def get_scenario(ask: ControlRequest) -> Any:
    """Show a scenario of the catalogue."""
    with _refusing(404):
        scenario = find(ask.desk.catalogue(), ask.names["name"])
    return {**_scenario(ask, scenario), "scenario": scenario.to_json()}


def _scenario(ask: ControlRequest, scenario: Scenario) -> dict[str, Any]:
    fits = [contract.key for contract in ask.desk.contracts if not misfits(scenario, contract)]
    return {"name": scenario.name, "why": scenario.why, "providers": fits}


async def list_armed(ask: ControlRequest) -> Any:
    """List what is armed."""
    return {"armed": [armed.to_json() for armed in ask.world.scenarios.armed]}


async def arm_scenario(ask: ControlRequest) -> Any:
    """Arm a scenario."""
    said, jobs = ask.body["scenario"], ask.body.get("jobs", 1)
    provider = ask.body.get("provider")
    ask.desk.contract(provider)
    with _refusing(422):
        scenario = find(ask.desk.catalogue(), said) if isinstance(said, str) else read_scenario(said)
        armed: ArmedScenario = ask.world.scenarios.arm(
            scenario,
            ask.desk.contracts,
            provider=provider,
            jobs=None if jobs == "all" else int(jobs),
            seed=int(ask.body.get("seed", 0)),
        )
    return armed.to_json()


@contextmanager
def _refusing(status: int) -> Iterator[None]:
    """Refuse, with a status, what turns out to be no scenario."""
    try:
        yield
    except ScenarioError as error:
        hint = error.hint or "GET /_mock/scenarios lists what can be armed, and where"
        raise ControlError(status, error.code, error.message, hint) from None


async def disarm_all(ask: ControlRequest) -> Any:
    """Disarm everything."""
    return {"disarmed": ask.world.scenarios.disarm()}


async def disarm(ask: ControlRequest) -> Any:
    """Disarm one scenario."""
    text = ask.names["id"]
    gone = ask.world.scenarios.disarm(int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not gone:
        message = f"nothing is armed as {text[:100]!r}"
        raise ControlError(404, "unknown_armed", message, "GET /_mock/scenarios/armed lists what is")
    return {"disarmed": gone}


async def list_attempts(ask: ControlRequest) -> Any:
    """List the attempts to deliver callbacks."""
    return {"attempts": [_attempt(attempt) for attempt in ask.desk.courier().of(ask.world)]}


def _attempt(attempt: CallbackAttempt) -> dict[str, Any]:
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
    }


async def redeliver(ask: ControlRequest) -> Any:
    """Deliver the callback of a job once more."""
    job = ask.job("job")
    try:
        ask.desk.courier().redeliver(ask.world, job)
    except LookupError as error:
        message = str(error.args[0]) if error.args else f"{job.id} has no callback"
        hint = "a callback is told when a job that asked for one has ended; GET /_mock/jobs shows its stage"
        raise ControlError(409, "no_callback", message, hint) from None
    return {"job": job.id}


async def get_ledger(ask: ControlRequest) -> Any:
    """Show what is billed."""
    ledger = ask.world.ledger()
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
        for entry in ledger.entries
    ]
    return {
        "billable": ledger.billable,
        "usd": float(ledger.usd),
        "duplicates": ledger.duplicates,
        "entries": entries,
    }


async def get_trace(ask: ControlRequest) -> Any:
    """Show what passed between a provider and the client."""
    return to_json(_trace(ask)[1])


async def get_report(ask: ControlRequest) -> Any:
    """Judge what passed between a provider and the client."""
    contract, trace = _trace(ask)
    if ask.desk.judge is None:
        hint = "start it with `hobbyhorse serve`, or as MockServer(judge=...); GET /_mock/trace shows what happened"
        raise ControlError(501, "no_judge", "the server was started without a judge", hint)
    return ask.desk.judge(contract, trace)


def _trace(ask: ControlRequest) -> tuple[Contract, Trace]:
    contract = ask.desk.contract(ask.query.get("provider"))
    if contract is None:
        known = ", ".join(contract.key for contract in ask.desk.contracts)
        raise ControlError(422, "invalid_query", "no provider is named", f"?provider=P, where P is one of {known}")
    return contract, ask.desk.trace(ask.world, contract, f"{ask.desk.origin(ask.scope)}/{contract.key}")


async def get_settings(ask: ControlRequest) -> Any:
    """Show how the world behaves."""
    return {"pace": ask.world.pace, "limits": ask.world.limits.to_json()}


async def patch_settings(ask: ControlRequest) -> Any:
    """Change how the world behaves."""
    changes = dict(ask.body.get("limits", {}))
    for name in ("concurrent_jobs", "workers", "rivals"):  # 2.0 is an integer in JSON
        if changes.get(name) is not None:
            changes[name] = int(changes[name])
    if changes:
        try:
            ask.world.limit(read_limits({**ask.world.limits.to_json(), **changes}))
        except ValueError as error:
            raise ControlError(
                422, "invalid_body", str(error), "GET /_mock/openapi.json says what is allowed"
            ) from None
    ask.world.pace = ask.body.get("pace", ask.world.pace)
    return await get_settings(ask)


HANDLERS: Mapping[str, Handler] = {
    "getHealth": get_health,
    "getVersion": get_version,
    "reset": reset,
    "getClock": get_clock,
    "putClock": put_clock,
    "advanceClock": advance_clock,
    "runUntilIdle": run_until_idle,
    "listJobs": list_jobs,
    "getJob": get_job,
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
"""By operationId of control.openapi.json; `getDocument` is the document itself."""
