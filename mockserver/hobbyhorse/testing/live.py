"""Records from the objects of a server in this process: one function a record."""

from __future__ import annotations

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios import armed as scenarios
from hobbyhorse.server import callbacks
from hobbyhorse.server.control.handlers import nearest_operation, redacted
from hobbyhorse.testing.control_json import read_nearest
from hobbyhorse.testing.records import (
    ArmedScenario,
    CallbackAttempt,
    Exchange,
    Job,
    JobError,
    JobOrder,
    ScenarioName,
    Step,
)
from hobbyhorse.traces.exchange import Exchange as LiveExchange
from hobbyhorse.worlds import jobs

__all__ = ["LiveExchange", "armed_record", "attempt_record", "exchange_record", "job_record"]


def job_record(job: jobs.Job, now: float) -> Job:
    """Return a job as it is at a moment."""
    order, active = job.order, job.active_scenario
    return Job(
        id=job.id,
        provider=job.contract.key,
        model=order.model.id,
        order=JobOrder(
            prompt=order.prompt,
            first_frame=order.first_frame,
            references=tuple(order.references),
            resolution=order.resolution,
            seconds=order.seconds,
            ratio=order.ratio,
            seed=order.seed,
            watermark=order.watermark,
            _live=order,
        ),
        timeline=tuple(Step(moment, name) for moment, name in job.timeline),
        error=JobError(*job.error),
        cost=job.cost,
        seed=job.seed,
        held=job.held,
        collected=job.collected,
        scenario=active.scenario.name if active is not None else None,
        expires=job.expires,
        curl=job.curl,
        read=now,
        kinds={name: job.contract.graph[name].kind for _, name in job.timeline},
        _live=job,
    )


def exchange_record(exchange: LiveExchange, contract: Contract | None) -> Exchange:
    """Return an exchange with the provider of a contract; None for a request that reached no provider."""
    query, headers = redacted(contract, exchange)
    near = nearest_operation(contract, exchange) if contract is not None else None
    return Exchange(
        moment=exchange.moment,
        provider=exchange.provider,
        role=exchange.role,
        situation=exchange.situation,
        job=exchange.job,
        made=exchange.made,
        method=exchange.method,
        path=exchange.path,
        query=query,
        headers=tuple(headers),
        body=exchange.body,
        status=exchange.status,
        answer=exchange.answer,
        notes=tuple(exchange.notes),
        move=exchange.move,
        nearest=read_nearest(near) if near is not None else None,
        _live=exchange,
    )


def attempt_record(attempt: callbacks.CallbackAttempt) -> CallbackAttempt:
    """Return an attempt to deliver a callback."""
    return CallbackAttempt(
        moment=attempt.moment,
        job=attempt.job,
        number=attempt.number,
        url=attempt.url,
        headers=dict(attempt.headers),
        body=attempt.body,
        status=attempt.status,
        error=attempt.error,
        note=attempt.note,
        kind=attempt.kind,
        answered=attempt.answered,
        _live=attempt,
    )


def armed_record(armed: scenarios.ArmedScenario) -> ArmedScenario:
    """Return an armed scenario as it is now."""
    return ArmedScenario(
        id=armed.id,
        scenario=ScenarioName(armed.scenario.name, armed.scenario.why, armed.scenario),
        fits=armed.fits,
        provider=armed.provider,
        left=armed.left,
        seed=armed.seed,
        source=armed.source,
        begun=armed.begun,
        met=dict(armed.met),
        _unmet=tuple(armed.unmet()),
    )
