"""The rule about the delivery of the video, on traces written by hand."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.server.rules.outcomes import exclusive_places
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.judging import assuming, family, judged, knowing, named, verdict
from tests.judging import teller as ordered
from tests.tracing import HOME, Teller

RULE = named(family("MED"), "MED-12")
PROBE: dict[str, Any] = {"probe": "job:media"}
CUT: dict[str, Any] = {"whole": False, "answered": None, "answer_headers": (("content-length", "2000"),)}


def told(contract: Contract) -> Teller:
    return ordered(knowing(contract)).submit()


def test_one_complete_file_is_a_delivery(contract: Contract) -> None:
    assert verdict(RULE, told(contract).media(**PROBE)) == PASSED
    assert verdict(RULE, told(contract).media(503, **PROBE).media(**PROBE)) == PASSED


def test_only_the_end_of_a_chain_of_redirects_has_to_deliver(contract: Contract) -> None:
    def led(status: int) -> str:
        first = told(contract).media(status, url=f"{HOME}/redirects", **PROBE)
        return verdict(RULE, first.media(status, url=f"{HOME}/redirects", **PROBE).media(**PROBE))

    assert [led(status) for status in (299, 300, 399, 400)] == [BROKEN, PASSED, PASSED, BROKEN]
    alone = told(contract).media(302, **PROBE).media(302, **PROBE)
    assert verdict(RULE, alone) == BROKEN, "it leads nowhere"


def test_requests_of_clients_and_for_parts_prove_nothing(contract: Contract) -> None:
    assert verdict(RULE, told(contract).media(404).media(404)) == NOT_OBSERVED
    assert verdict(RULE, told(contract).media(404, probe="job:range").media(404, probe="job:range")) == NOT_OBSERVED


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_link_that_fails_twice_is_reported(contract: Contract, status: int) -> None:
    assert verdict(RULE, told(contract).media(status, **PROBE)) == NOT_OBSERVED
    found = judged(RULE, told(contract).media(status, **PROBE).media(status, **PROBE))
    assert found.verdict == BROKEN
    assert f"gets {status}" in found.breaches[0].message


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"broken_off": True}, "after 1000 of 2000 bytes"),
        ({"broken_off": True, "status": 0}, "broke off without a response"),
        ({"waited": 30.0}, "stopped after 1000 of 2000 bytes"),
        ({"waited": 30.0, "status": 0}, "no response within 30 s"),
    ],
)
def test_a_file_that_does_not_arrive_twice_is_reported(contract: Contract, how: dict[str, Any], words: str) -> None:
    annotated = told(contract).media(**PROBE | CUT | how).media(**PROBE | CUT | how)
    found = judged(RULE, annotated)
    assert found.verdict == BROKEN
    assert words in found.breaches[0].message


@pytest.mark.parametrize("how", [{"waited": 0.0}, {"waited": 1.0}, {"waited": 30.0, "size": 3_000_000}])
def test_a_file_that_the_suite_cut_itself_proves_nothing(contract: Contract, how: dict[str, Any]) -> None:
    assert verdict(RULE, told(contract).media(**PROBE | CUT | how).media(**PROBE | CUT | how)) == NOT_OBSERVED


def test_a_redirect_to_the_file_is_a_delivery_and_one_to_nowhere_is_not(contract: Contract) -> None:
    there: dict[str, Any] = {"url": "http://127.0.0.1:8001/elsewhere.mp4"}
    assert verdict(RULE, told(contract).media(302, **PROBE).media(**PROBE | there)) == PASSED
    annotated = told(contract)
    for _ in range(2):
        annotated.media(302, **PROBE).media(404, **PROBE | there)
    found = judged(RULE, annotated)
    assert [breach.seen for breach in found.breaches] == [there["url"]]


@contracts_that(lambda contract: "video_url" in contract.operations["status"].bindings)
def test_a_success_without_a_link_is_reported(contract: Contract) -> None:
    operation = contract.operations["status"]
    success = next(
        one.name
        for one in operation.situations.values()
        if one.stages and {contract.graph[stage].kind for stage in one.stages} == {"success"}
    )
    annotated = told(contract).status(success)
    assert verdict(RULE, annotated) == NOT_OBSERVED
    body = orjson.loads(annotated.exchanges[-1].answer)
    for at in exclusive_places(contract, operation, "video_url", "success"):
        body = replaced(body, at, None)
    annotated = told(contract).status(success, answer=orjson.dumps(body))
    assert verdict(RULE, annotated) == BROKEN
    annotated.contract = assuming(contract, "lifecycle.json#/operations/status/bindings/video_url")
    assert verdict(RULE, annotated) == LESSON


def test_each_link_is_judged_by_itself(contract: Contract) -> None:
    there: dict[str, Any] = {"url": "http://127.0.0.1:8001/other.mp4"}
    annotated = told(contract).media(**PROBE).media(404, **PROBE | there).media(404, **PROBE | there)
    found = judged(RULE, annotated)
    assert [breach.seen for breach in found.breaches] == [there["url"]]
