"""Jobs and idempotency keys as records, and back. No HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from hobbyhorse.contract.lifecycle import Timeline
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.kept import ScenarioReader, write_active
from hobbyhorse.state.records import JobRecord, KeyRecord, read, written
from hobbyhorse.worlds.idempotency import UsedKey
from hobbyhorse.worlds.job_table import order_hash
from hobbyhorse.worlds.jobs import CallbackPlan, Job, SubmittedRequest
from hobbyhorse.worlds.packing import ORDER_FIELDS

ORDER_VALUES = attrgetter(*ORDER_FIELDS)
JOB_VALUES = (
    *("model", "order", "timeline", "seed", "error", "held", "collected", "submission"),
    *("begins", "queued", "callback", "notified", "scenario"),
)
"""The values of a job's record without which it cannot be read."""


def job_record(job: Job, *, ended: bool, now: float) -> JobRecord:
    """Return a job as a record; `ended` tells whether its end is accounted for."""
    stage = job.stage(now) if ended else None
    submission, active = job.submission, job.active_scenario
    return JobRecord(
        number=job.number,
        id=job.id,
        provider=job.contract.key,
        end=stage.name if stage is not None else "",
        kind=stage.kind if stage is not None else "",
        order=order_hash(job),
        values={
            "model": job.order.model.id,
            "order": ORDER_VALUES(job.order),
            "timeline": job.timeline,
            "seed": job.seed,
            "error": job.error,
            "held": job.held,
            "collected": job.collected,
            "submission": None if submission is None else (submission.url, written(submission.body)),
            "begins": job.begins,
            "queued": job.ahead is not None,
            "callback": None if job.callback is None else tuple(job.callback),
            "notified": job.notified,
            "scenario": None if active is None else write_active(active),
        },
    )


class JobReader:
    """Reads the jobs of one world from their records."""

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self.contracts = {contract.key: contract for contract in contracts}
        self.scenarios = ScenarioReader(self.contracts.values())

    def job(self, record: JobRecord) -> Job:
        """Return a job. Raises KeyError if its provider is not served."""
        contract, found = self.contracts[record.provider], record.values
        order: dict[str, Any] = dict(zip(ORDER_FIELDS, found["order"], strict=True))
        order["references"] = tuple(order["references"])
        # An ended job may be older than the contract, and its model no longer listed.
        model = next((model for model in contract.models if model.id == found["model"]), contract.models[0])
        submission, callback = found["submission"], found["callback"]
        return Job(
            record.id,
            contract,
            Order(model=model, **order),
            _timeline(contract, record),
            found["seed"],
            error=(found["error"][0], found["error"][1]),
            held=found["held"],
            collected=found["collected"],
            active_scenario=self.scenarios.active(found["scenario"]),
            submission=None if submission is None else SubmittedRequest(submission[0], read(submission[1])),
            begins=found["begins"],
            number=record.number,
            callback=None if callback is None else CallbackPlan(*callback),
            notified=found["notified"],
            order_hash=bytes.fromhex(record.order),
        )


def _timeline(contract: Contract, record: JobRecord) -> Timeline:
    """Return the timeline of a job, with stages of the contract as it is now."""
    graph = contract.graph
    steps = tuple((moment, name) for moment, name in record.values["timeline"])
    known = tuple(step for step in steps if step[1] in graph.stages)
    if known == steps:
        return steps
    # Only a job that has ended can be older than its contract: what counts is its end.
    end = graph.ending(record.kind) or graph.terminals()[0]
    return ((steps[0][0], graph.initial), (steps[-1][0], end.name))


def key_record(provider: str, key: str, used: UsedKey) -> KeyRecord:
    """Return a used idempotency key as a record."""
    return KeyRecord(provider, key, used.fingerprint.hex(), used.job, used.until)


def read_key(record: KeyRecord) -> UsedKey:
    """Return a used idempotency key."""
    return UsedKey(bytes.fromhex(record.fingerprint), record.job, record.until)
