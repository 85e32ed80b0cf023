"""The JSON of the control plane is read as the records of a local world."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hobbyhorse.testing.control_json import read_armed, read_exchange, read_job, read_ledger, read_money
from hobbyhorse.testing.records import JobError, JobOrder, JobStage, NearestOperation

ORDER = {
    "prompt": "a horse",
    "first_frame": None,
    "references": ["https://example.com/a.png"],
    "resolution": "720p",
    "seconds": 5,
    "ratio": None,
    "seed": None,
    "watermark": False,
}
JOB = {
    "id": "j1",
    "provider": "p",
    "stage": "queued",
    "class": "pending",
    "created": 1.0,
    "finished": None,
    "timeline": [{"at": 1.0, "stage": "queued", "class": "pending"}, {"at": 9.0, "stage": "bad", "class": "failure"}],
    "model": "m",
    "order": ORDER,
    "error": None,
    "cost": 0.1,
    "collected": False,
    "scenario": None,
    "curl": "curl",
    "seed": 7,
    "held": False,
    "expires": None,
}


def test_a_job_is_read_with_its_stages_and_its_exact_cost() -> None:
    job = read_job(JOB, 2.0)
    assert (job.cost, job.error, job.read) == (Decimal("0.1"), JobError(None, None), 2.0)
    assert (job.created, job.finished, job.ends) == (1.0, 9.0, True)
    assert (job.stage(), job.stage(9.0)) == (JobStage("queued", "pending"), JobStage("bad", "failure"))
    assert isinstance(job.order, JobOrder)
    assert job.order.references == ("https://example.com/a.png",)
    assert read_job({**JOB, "error": {"code": "E", "message": "no"}}, 2.0).error == JobError("E", "no")


def test_an_exchange_is_read_with_bytes_and_pairs() -> None:
    near = {
        "role": "submit",
        "method": "POST",
        "path": "/v1",
        "differences": [{"part": "path", "at": "1", "message": "no"}],
        "text": "text",
    }
    found = {
        **dict.fromkeys(("provider", "role", "situation", "job", "made", "move", "nearest")),
        "moment": 1.0,
        "method": "GET",
        "path": "/",
        "query": "",
        "headers": [["a", "b"]],
        "body": "ü",
        "status": 404,
        "answer": "no",
        "notes": ["note"],
    }
    exchange = read_exchange(found)
    assert (exchange.body, exchange.answer, exchange.headers) == ("ü".encode(), b"no", (("a", "b"),))
    assert (exchange.notes, exchange.nearest) == (("note",), None)
    nearest = read_exchange({**found, "nearest": near}).nearest
    assert isinstance(nearest, NearestOperation)
    assert nearest.differences[0].message == "no"


@pytest.mark.parametrize(("left", "read"), [("all", None), (0, 0), (3, 3)])
def test_the_jobs_left_are_a_number_or_none(left: object, read: int | None) -> None:
    found = {"id": 1, "scenario": "s", "why": "w", "provider": None, "fits": ["p"], "jobs_left": left, "jobs_begun": 2}
    armed = read_armed({**found, "seed": 0, "source": "control", "met": {}, "unmet": ["submit/0 x"]})
    assert (armed.left, armed.begun, armed.unmet()) == (read, 2, ["submit/0 x"])
    assert armed.fits == {"p"}


def test_money_is_exact() -> None:
    entry = {"job": "j", "provider": "p", "model": "m", "created": 1.0, "stage": "s", "billed": True, "billable": True}
    ledger = read_ledger([{**entry, "usd": 0.1, "duplicate_of": None}] * 3)
    assert ledger.usd == Decimal("0.3")
    assert read_money(1) == Decimal(1)
