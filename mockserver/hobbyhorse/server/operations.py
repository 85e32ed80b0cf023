"""The operations of a provider: a table from role to the function that handles it; knows no scenario and no socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING, Message
from hobbyhorse.contract.request import Refusal, find_model, read_order
from hobbyhorse.contract.values import Model, Situation, find_situation
from hobbyhorse.server.files.image_checks import (
    CheckedOrder,
    PictureFetch,
    check_images,
    fetch_images,
    hold_until_fetched,
    render_video,
)
from hobbyhorse.server.files.large_bodies import fingerprint_of, unkept_echo
from hobbyhorse.server.request import (
    CALLBACKS_MODULE,
    ContractBroken,
    OperationRequest,
    OperationResponse,
    load,
    refuse,
    write,
    write_list,
)
from hobbyhorse.worlds import catalogue
from hobbyhorse.worlds.idempotency import UsedKey
from hobbyhorse.worlds.job_table import Newest
from hobbyhorse.worlds.jobs import MOST_KEPT, Job, JobView, SubmittedRequest

Role = Callable[[OperationRequest], Awaitable[OperationResponse]]

ANY_MESSAGE = Message({}, {}, lambda name: None)
"""Stands for the request where no part of it is read."""


async def submit(call: OperationRequest) -> OperationResponse:
    """Accept a job, at most one for each idempotency key."""
    message = call.parameters()
    if isinstance(message, Refusal):
        return refuse(call, message)
    key = call.claim(message)
    return refuse(call, key) if isinstance(key, Refusal) else await _accept(call, message, key)


async def _accept(call: OperationRequest, message: Message, key: str | None) -> OperationResponse:
    """Create the job that the body describes, or repeat the response to an earlier request with the same key."""
    body = await call.json()
    if isinstance(body, Refusal):
        return refuse(call, body)
    now = call.world.clock.now()
    fingerprint = (call.fingerprint or fingerprint_of(body)) if key else b""
    if key and (used := call.world.idempotency.recall(call.contract.key, key, now)):
        return _repeat(call, used, fingerprint)
    checked = await _check(call, message, body)
    if isinstance(checked, Refusal):
        return refuse(call, checked)
    if call.contract.callbacks is not None and "callback_url" in checked.order.echoed:
        await load(CALLBACKS_MODULE)
    if (refused := call.world.refuses(checked.order)) is not None:
        return refuse(call, Refusal(refused))
    job = _create(call, checked)
    if checked.pending:
        hold_until_fetched(call, job, checked)
    if key:
        until = now + call.contract.idempotency.life
        call.world.use(call.contract, key, UsedKey(fingerprint, job.id, until))
    _schedule_callback(call, job)
    return _accepted(call, "accepted", job, checked.notes)


def _create(call: OperationRequest, checked: CheckedOrder) -> Job:
    """Create the submitted job, under the active scenario of its submission."""
    # A larger body carries an inline image; kept with every job, it would fill the memory.
    kept = len(call.body) <= MOST_KEPT
    submission = SubmittedRequest(call.base + call.below, call.body) if kept else None
    job = call.world.submit(call.contract, checked.order, call.scenario, submission)
    call.made = job.id
    return job


async def _check(call: OperationRequest, message: Message, body: Any) -> CheckedOrder | Refusal:
    """Read the order of a submission, and check its images."""
    understood = read_order(call.contract, call.route.operation, replace(message, body=body))
    if isinstance(understood, Refusal):
        return understood
    return unkept_echo(understood.order, call.spooled) or await check_images(call, understood)


def _repeat(call: OperationRequest, used: UsedKey, fingerprint: bytes) -> OperationResponse:
    """Respond to a request with a used idempotency key."""
    if call.contract.idempotency.mode == "reject":
        return refuse(call, Refusal("key_used"))
    job = call.world.find(call.contract, used.job)
    if used.fingerprint != fingerprint or job is None:
        return refuse(call, Refusal("key_mismatch"))
    return _accepted(call, "replayed", job, ("replayed",))


def _accepted(call: OperationRequest, name: str, job: Job, notes: tuple[str, ...]) -> OperationResponse:
    """Write the response to an accepted submission: the job in its first stage, also in a replay."""
    graph = call.contract.graph
    view = JobView(job, job.created, graph[graph.initial], call.base, call.media)
    return write(_situation(call, name), view.lookup, job.id, notes)


def _schedule_callback(call: OperationRequest, job: Job) -> None:
    """Schedule the job's callback. Does nothing if the order has no callback URL."""
    if call.contract.callbacks is not None and "callback_url" in job.order.echoed:
        call.services.callback_dispatcher().schedule(call.world, job, call.base, call.media)


async def run(call: OperationRequest) -> OperationResponse:
    """Accept a job, and respond when it has ended and its video is rendered."""
    message = call.parameters()
    if isinstance(message, Refusal):
        return refuse(call, message)
    body = await call.json()
    if isinstance(body, Refusal):
        return refuse(call, body)
    checked = await _check(call, message, body)
    if isinstance(checked, Refusal):
        return refuse(call, checked)
    if (refused := call.world.refuses(checked.order)) is not None:
        return refuse(call, Refusal(refused))
    job = _create(call, checked)
    if checked.pending:
        # Not in the background, as for a submission: this response waits for the job in any case.
        job.held = True
        await fetch_images(PictureFetch.of(call, checked), job)
    if not await call.until_ended(job):
        return replace(refuse(call, Refusal("overloaded")), job=job.id)
    view = call.view(job, max(job.finished, call.world.clock.now()))
    call.world.show(job, view.stage)
    if view.stage.kind == "success" and not await render_video(call, job):
        return refuse(call, Refusal("overloaded"))
    situation = call.route.situation(view.stage.name, message)
    return write(situation, view.lookup, job.id, checked.notes)


async def show(call: OperationRequest) -> OperationResponse:
    """Show a job in its current stage."""
    # The hot path, a poll: on a plain route the response depends on nothing in the request but the job.
    message = ANY_MESSAGE if call.route.plain else call.parameters()
    if isinstance(message, Refusal):
        return refuse(call, message)
    job = call.job()
    if isinstance(job, Refusal):
        return refuse(call, job)
    view = call.view(job, call.world.clock.now())
    call.world.show(job, view.stage)
    return write(call.route.situation(view.stage.name, message), view.lookup, job.id)


async def cancel(call: OperationRequest) -> OperationResponse:
    """Cancel a job if its stage allows it, and show the resulting stage."""
    job = call.job()
    if isinstance(job, Job) and call.world.cancel(job):
        _schedule_callback(call, job)
    return await show(call)


async def forbid(call: OperationRequest) -> OperationResponse:
    """Refuse what the provider grants to its operators only: no key of a client is one of theirs."""
    return refuse(call, Refusal("forbidden"))


async def redeliver(call: OperationRequest) -> OperationResponse:
    """Send the callback of a job once more. A job that has none, or has not ended, is refused like an unknown one."""
    job = call.job()
    if isinstance(job, Refusal):
        return refuse(call, job)
    try:
        call.services.callback_dispatcher().redeliver(call.world, job)
    except LookupError:
        return refuse(call, Refusal("unknown_job"))
    return write(_situation(call, "redelivered"), lambda name: MISSING)


async def list_jobs(call: OperationRequest) -> OperationResponse:
    """List the key's jobs at this provider, newest first."""
    message = call.parameters()
    if isinstance(message, Refusal):
        return refuse(call, message)
    situation = _situation(call, "listed", message)
    stages = call.route.operation.items.stages if call.route.operation.items else {}
    now, table = call.world.clock.now(), call.world.jobs

    def item(number: int) -> bytes | None:
        # Other requests run between two items: they may forget jobs, or all of them.
        if not table.keeps(number):
            return None
        view = call.view(table.at(number), now)
        return situation.items[stages[view.stage.name]].write(view.lookup)

    return await write_list(call, situation, message, Newest(table.numbers(call.contract.key)), item)


async def list_models(call: OperationRequest) -> OperationResponse:
    """List the models of the catalogue."""
    message = call.parameters()
    if isinstance(message, Refusal):
        return refuse(call, message)
    situation = _situation(call, "listed", message)
    names = ("search", "task", "kind")
    wanted = {name: value for name in names if (value := call.value_of(message, name)) is not MISSING}

    def item(model: Model) -> bytes:
        return situation.items[0].write(lambda name: catalogue.lookup(call.contract, model, name))

    return await write_list(call, situation, message, catalogue.search(call.contract, wanted), item)


async def show_model(call: OperationRequest) -> OperationResponse:
    """Show one model of the catalogue."""
    message = call.parameters()
    model = message if isinstance(message, Refusal) else find_model(call.contract, call.route.operation, message)
    if isinstance(model, Refusal) or isinstance(message, Refusal):
        return refuse(call, model if isinstance(model, Refusal) else Refusal("invalid_request"))
    return write(_situation(call, "found", message), lambda name: catalogue.lookup(call.contract, model, name))


async def list_categories(call: OperationRequest) -> OperationResponse:
    """List the tasks of the models in the catalogue."""
    values = {"tasks": catalogue.tasks(call.contract)}
    return write(_situation(call, "listed"), lambda name: values.get(name, MISSING))


async def show_health(call: OperationRequest) -> OperationResponse:
    """Report that the service is healthy."""
    return write(_situation(call, "healthy"), lambda name: MISSING)


def _situation(call: OperationRequest, name: str, message: Message | None = None) -> Situation:
    """Return a situation by name, or one whose condition the request meets."""
    situation = find_situation(call.route.operation, name)
    if situation is None:
        raise ContractBroken(f"{call.contract.key}: {call.route.operation.role} has no situation {name!r}")
    if message is not None:
        for other in call.route.operation.situations.values():
            if other.when and all(place.get(message) == value for place, value in other.when):
                return other
    return situation


ROLES: Mapping[str, Role] = {
    "submit": submit,
    "run": run,
    "status": show,
    "result": show,
    "cancel": cancel,
    "operator_cancel": forbid,
    "redeliver": redeliver,
    "list": list_jobs,
    "models": list_models,
    "model": show_model,
    "categories": list_categories,
    "health": show_health,
}
