"""Annotated traces: which run and which order a request belongs to, and broken URLs in responses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import judge
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, origin, remembered
from hobbyhorse.traces.trace import Exchange, Run, Trace
from tests.tracing import JOB, Teller

BASE = "http://127.0.0.1:1/provider"


def overlapping(contract: Contract, *bodies: dict[str, Any]) -> AnnotatedTrace:
    runs = tuple(Run(0.0, BASE, {"input": {"prompt": f"run {n}"}}) for n in (1, 2))
    sent = tuple(
        Exchange(arrived=1.0, role="submit", method="POST", url=f"{BASE}/orders", body=json.dumps(body).encode())
        for body in bodies
    )
    return AnnotatedTrace(contract, Trace(contract.key, BASE, sent, runs=runs))


@pytest.mark.parametrize(
    "more", [{}, {"callback": {"url": "http://127.0.0.1:2/done"}}], ids=["as requested", "with more"]
)
def test_a_submission_belongs_to_the_run_with_its_request(contract: Contract, more: dict[str, Any]) -> None:
    trace = overlapping(contract, {"input": {"prompt": "run 1"}, **more}, {"input": {"prompt": "run 2"}, **more})
    assert [trace.run_of(step) for step in trace.submits] == [0, 1]
    assert [len(order) for order in trace.orders] == [1, 1]


def test_a_submission_in_an_envelope_belongs_to_the_run_with_its_request(contract: Contract) -> None:
    bodies = [{"data": {"body": {"input": {"prompt": f"run {n}"}, "n": n}}} for n in (1, 2)]
    trace = overlapping(contract, *bodies)
    assert [trace.run_of(step) for step in trace.submits] == [0, 1]


@pytest.mark.parametrize(("overlap", "expected"), [(False, [[1, 2], [3, 4]]), (True, [[1, 2, 4], [2, 3, 4]])])
def test_a_request_without_a_job_belongs_to_the_run_in_which_it_was_sent(
    overlap: bool, expected: list[list[int]], contract: Contract
) -> None:
    told = Teller(contract, {"n": 1}).submit().call("status", None, job=None, status=503)
    if not overlap:
        told.end("failed")
    told.wait(1).again({"n": 2}).submit(job="other", key="key-2").call("status", None, job=None, status=503)
    parts = told.end("failed").story().by_order
    assert [[step.number for step in part.steps] for part in parts] == expected


def test_a_submission_that_no_run_requested_belongs_to_the_last_run(contract: Contract) -> None:
    trace = overlapping(contract, {"input": {"prompt": "something else"}}, {"input": {}})
    assert [trace.run_of(step) for step in trace.submits] == [1, 1]


def test_in_recorded_traffic_the_same_body_is_a_new_order_after_a_success(contract: Contract) -> None:
    role = "result" if "result" in contract.operations else "status"
    names = contract.operations[role].situations
    kinds = {stage.kind: stage.name for stage in contract.graph if stage.name in names}
    told = Teller(contract).submit().submit().call(role, kinds["success"])
    told.submit(job="another").submit(job="another")
    annotated = AnnotatedTrace(contract, replace(told.trace(), runs=()))
    assert [[step.number for step in order] for order in annotated.orders] == [[1, 2], [4, 5]]
    failed = Teller(contract).submit().call(role, kinds["failure"]).submit(job="another")
    assert [len(order) for order in AnnotatedTrace(contract, replace(failed.trace(), runs=())).orders] == [2]


@pytest.mark.parametrize("address", ["http://[x", "http://[::1", "//[", "\x00", "http://a:b:c/"])
def test_a_broken_url_in_a_response_makes_no_rule_raise(contract: Contract, address: str) -> None:
    told = Teller(contract)
    told.video = address
    told.submit(answer=_with_links(told, "submit", address))
    for role in ("status", "result"):
        for situation in contract.operations[role].situations if role in contract.operations else ():
            told.call(role, situation)
    trace = told.media(url="http://127.0.0.1:1/x").end("failed").trace()
    assert len(judge(contract, [trace], rules())) == len(rules())


def _with_links(told: Teller, role: str, address: str) -> bytes:
    """Return a response in which every operation URL is replaced."""
    operation = told.contract.operations[role]
    links = {name: address for name in operation.bindings if name.endswith("_url")} | {"job": JOB}
    return operation.situations["accepted"].template.write(lambda name: links.get(name, MISSING))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://API.example:443/x", "https://api.example"),
        ("http://api.example:80", "http://api.example"),
        ("http://api.example:443/x?y", "http://api.example:443"),
        ("https://api.example:8443/", "https://api.example:8443"),
        ("//", "://"),
    ],
)
def test_an_origin_has_no_default_port(url: str, expected: str) -> None:
    assert origin(url) == expected


def test_what_is_remembered_is_sought_once_for_each_trace_and_its_arguments(contract: Contract) -> None:
    sought: list[tuple[AnnotatedTrace, tuple[str, ...]]] = []

    @remembered
    def count(trace: AnnotatedTrace, *roles: str) -> int:
        sought.append((trace, roles))
        return len(trace.of(*roles))

    one, other = overlapping(contract, {"a": 1}), overlapping(contract)
    found = [count(trace, *roles) for _ in range(2) for trace in (one, other) for roles in (("submit",), ("media",))]
    assert found == [1, 0, 0, 0] * 2
    assert sought == [(trace, roles) for trace in (one, other) for roles in (("submit",), ("media",))]
    assert count.__name__ == "count"


def test_a_response_with_an_empty_id_is_used_against_no_client(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    told = Teller(contract, {"n": 1}).submit().status(running).status(running, job="")
    *_, whole, without = told.end("failed").story().steps
    assert (whole.clean, without.clean) == (True, False)
    assert without.ok
