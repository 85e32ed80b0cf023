"""Packing: every value of an ended job comes back, and a job that must stay as it is stays."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.job_table import JobTable
from hobbyhorse.worlds.jobs import Job, SubmittedRequest
from hobbyhorse.worlds.packing import Packer
from hobbyhorse.worlds.world import World
from tests.world import order_of

# The bound of the bytes for a job of usual size, without the indices.
MOST_BYTES = 500


def job_of(contract: Contract, **more: Any) -> Job:
    """Return a job with the submission that a usual client sends."""
    world = World("key", "handle", ManualClock(), Random(7), "realistic", JobTable())
    job = world.submit(contract, replace(order_of(contract), **more))
    job.submission = SubmittedRequest("http://127.0.0.1:8000/p/jobs", b'{"prompt": "a horse \xf0\x9f\x90\x8e gallops"}')
    return job


@pytest.mark.parametrize("more", [{}, {"prompt": '駿馬 \n"quoted" \x00', "references": ("a", "b"), "seed": 0}])
def test_a_job_comes_back_with_every_value(contract: Contract, more: dict[str, Any]) -> None:
    packer, job = Packer(), job_of(contract, **more)
    job.collected, job.error, job.number = True, ("BAD", None), 7
    for _ in range(2):  # the first job is the dictionary for the second
        packed = packer.pack(job)
        assert packed is not None
        assert packer.unpack(packed) == job
    assert packed is not None
    assert len(packed) < MOST_BYTES


def test_jobs_that_go_on_or_cannot_be_read_back_stay(contract: Contract) -> None:
    packer, job = Packer(), job_of(contract)
    held, binary = replace(job, held=True), replace(job, submission=SubmittedRequest("u", b"\xff"))
    huge = replace(job, order=replace(job.order, seed=1 << 70))
    assert [packer.pack(one) for one in (held, binary, huge)] == [None, None, None]
    assert packer.pack(job) is not None
    other = replace(contract)
    assert packer.pack(replace(job, contract=other)) is None
    model = replace(job.order.model)
    assert packer.pack(replace(job, order=replace(job.order, model=model))) is None
