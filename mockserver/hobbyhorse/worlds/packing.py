"""Jobs that ended, as bytes: JSON of what no other place knows, compressed. No HTTP."""

from __future__ import annotations

import zlib
from dataclasses import fields
from typing import Any

import orjson

from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.worlds.jobs import CallbackPlan, Job, SubmittedRequest

# Small windows and little memory: the texts are short, and the state of a compressor costs more than its work.
WINDOW_BITS, MEMORY_LEVEL, LEVEL = 12, 4, 1
ORDER_FIELDS = tuple(field.name for field in fields(Order) if field.name != "model")


class Packer:
    """Packs the jobs of one world, and unpacks them; knows their contracts and models from the packing."""

    def __init__(self) -> None:
        self._contracts: dict[str, Contract] = {}
        self._models: dict[tuple[str, str], Model] = {}
        self._sample = b""

    def pack(self, job: Job) -> bytes | None:
        """Return an ended job as bytes, or None if it must stay as it is: its scenario goes on after its end."""
        contract, model = job.contract, job.order.model
        if job.active_scenario is not None or job.held:
            return None
        known = (
            self._contracts.setdefault(contract.key, contract),
            self._models.setdefault((contract.key, model.id), model),
        )
        if known[0] is not contract or known[1] is not model:
            return None
        try:
            text = orjson.dumps(_values(job))
        except (TypeError, UnicodeDecodeError):  # a body that is no text
            return None
        if not self._sample:
            # Jobs are alike, so the first one is the dictionary for all.
            self._sample = text
        work = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL, zdict=self._sample)
        return work.compress(text) + work.flush()

    def unpack(self, packed: bytes) -> Job:
        """Return the job that was packed."""
        text = zlib.decompressobj(-WINDOW_BITS, zdict=self._sample).decompress(packed)
        found = orjson.loads(text)
        contract = self._contracts[found["provider"]]
        names = [stage.name for stage in contract.graph]
        order = dict(zip(ORDER_FIELDS, found["order"], strict=True))
        order["references"] = tuple(order["references"])
        submission, callback = found["submission"], found["callback"]
        return Job(
            found["id"],
            contract,
            Order(model=self._models[contract.key, found["model"]], **order),
            tuple((moment, names[index]) for moment, index in found["timeline"]),
            found["seed"],
            error=(found["error"][0], found["error"][1]),
            collected=found["collected"],
            submission=None if submission is None else SubmittedRequest(submission[0], submission[1].encode()),
            number=found["number"],
            callback=None if callback is None else CallbackPlan(*callback),
            notified=found["notified"],
            order_hash=bytes.fromhex(found["order_hash"]),
        )


def _values(job: Job) -> dict[str, Any]:
    """Return the values of a job as JSON. Raises UnicodeDecodeError if its body is no UTF-8."""
    names = {stage.name: index for index, stage in enumerate(job.contract.graph)}
    submission = job.submission
    return {
        "id": job.id,
        "number": job.number,
        "provider": job.contract.key,
        "model": job.order.model.id,
        "order": [getattr(job.order, name) for name in ORDER_FIELDS],
        "timeline": [(moment, names[name]) for moment, name in job.timeline],
        "seed": job.seed,
        "error": job.error,
        "collected": job.collected,
        "submission": None if submission is None else (submission.url, submission.body.decode()),
        "callback": None if job.callback is None else tuple(job.callback),
        "notified": job.notified,
        "order_hash": job.order_hash.hex(),
    }
