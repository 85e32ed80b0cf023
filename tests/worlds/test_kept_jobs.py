"""Jobs and idempotency keys as records, and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.lifecycle import lay
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import ActiveScenario, ArmedScenarios
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.state.records import JobRecord, KeyRecord, decode, encode
from hobbyhorse.worlds.idempotency import UsedKey
from hobbyhorse.worlds.jobs import CallbackPlan, Job, SubmittedRequest
from hobbyhorse.worlds.kept_jobs import JobReader, job_record, key_record, read_key
from tests.conftest import CONTRACTS
from tests.world import order_of

NOW = 1_000.0


def job(contract: Contract, end: str | None = None) -> Job:
    return Job("a-job", contract, order_of(contract), lay(contract.graph, NOW, lambda stage: 1.0, end), 7, number=3)


def through(record: JobRecord) -> JobRecord:
    """Return a record as it comes back from a store."""
    found: JobRecord = decode(JobRecord, encode(record))
    return found


def test_a_job_is_read_as_it_was(contract: Contract) -> None:
    before = job(contract)
    before.order = order_of(contract, references=("one", "two"), echoed={"callback_url": "http://a.test"}, seed=5)
    before.error, before.held, before.collected, before.begins = ("CODE", None), True, True, 1_001.5
    before.submission = SubmittedRequest("http://mock.test/path", '{"prompt": "ein Pferd – 馬"}'.encode())
    before.callback, before.notified = CallbackPlan("an-id", "http://mock.test/p", "http://mock.test"), True
    assert JobReader([contract]).job(through(job_record(before, ended=False, now=NOW))) == before


@given(body=st.binary(max_size=50), prompt=st.text(max_size=20))
def test_any_body_and_prompt_is_read_as_it_was(body: bytes, prompt: str) -> None:
    contract = CONTRACTS[0]
    before = job(contract)
    # A request is decoded from UTF-8, which has no lone surrogates.
    before.order = replace(before.order, prompt=prompt.encode("utf-8", "replace").decode())
    before.submission = SubmittedRequest("http://mock.test", body)
    assert JobReader([contract]).job(through(job_record(before, ended=False, now=NOW))) == before


def test_a_record_tells_how_a_job_has_ended(contract: Contract) -> None:
    for stage in contract.graph.terminals():
        record = job_record(job(contract, stage.name), ended=True, now=NOW + 100)
        assert (record.end, record.kind) == (stage.name, stage.kind)
    running = job_record(job(contract), ended=False, now=NOW + 100)
    assert (running.end, running.kind) == ("", "")
    assert running.order == job_record(job(contract), ended=True, now=NOW + 100).order


def test_jobs_share_their_active_scenario_again(contract: Contract) -> None:
    armed = ArmedScenarios().arm(read_scenario({"moves": {"status": [{"move": "html_page", "times": 3}]}}), [contract])
    active = ActiveScenario(armed, contract)
    active.use("status")
    active.random.random()
    one, two = job(contract), replace(job(contract), id="another", number=4)
    one.active_scenario = two.active_scenario = active
    reader = JobReader([contract])
    found = [reader.job(through(job_record(each, ended=False, now=NOW))).active_scenario for each in (one, two)]
    assert found[0] is found[1]
    assert found[0] is not None
    assert (found[0].used, found[0].armed.met) == (active.used, active.armed.met)
    assert found[0].random.random() == active.random.random(), "it draws on where it was"


def test_an_ended_job_of_an_older_contract_keeps_its_kind_of_end(contract: Contract) -> None:
    record = through(job_record(job(contract), ended=True, now=NOW + 100))
    values = {**record.values, "model": "no-longer-listed", "timeline": [[NOW, "old-start"], [NOW + 9, "old-end"]]}
    found = JobReader([contract]).job(replace(record, values=values))
    assert found.stage(NOW + 100).kind == "success"
    assert (found.created, found.finished) == (NOW, NOW + 9)


def test_a_job_of_a_provider_that_is_not_served_cannot_be_read(contract: Contract) -> None:
    record = job_record(job(contract), ended=True, now=NOW + 100)
    with pytest.raises(KeyError):
        JobReader([]).job(record)


def test_a_used_key_is_read_as_it_was() -> None:
    used = UsedKey(b"\x00\xff", "a-job", 5.5)
    record = key_record("acme", "a key", used)
    assert record == KeyRecord("acme", "a key", "00ff", "a-job", 5.5)
    assert read_key(record) == used
