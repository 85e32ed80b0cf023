"""The result of a run: its exit status, the baseline, and why an endpoint cannot be judged."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hobbyhorse.cli.server_verdicts import show_server_result
from hobbyhorse.conformance.judge import BROKEN
from hobbyhorse.conformance.rule import OBSERVED, Breach, Rule
from hobbyhorse.conformance.server.probes import OnProbe, run_probes
from hobbyhorse.conformance.server.report import server_report_json
from hobbyhorse.conformance.server.results import ServerResult, concluded, why_unjudged
from hobbyhorse.conformance.server.session import Session
from hobbyhorse.conformance.server.suite import examine
from hobbyhorse.contract.values import Contract
from tests.conformance.server.test_suite import MODELS, fakes, session_on, suite_options
from tests.judging import made_up

CONTRACT, MODEL = MODELS[0]


def rule(name: str, *breaches: Breach) -> Rule:
    return made_up(name, OBSERVED, *breaches)


ALWAYS = made_up("SHA-99", Breach("it is"), says="It is broken.")


def test_a_known_finding_is_accepted_and_a_missing_one_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    contract, model = MODELS[0]
    with fakes(contract) as url:
        found = examine(contract, model, suite_options(url), (ALWAYS,))
        accepted = examine(contract, model, suite_options(url), (ALWAYS,), known={"SHA-99": "known"})
        stale = examine(contract, model, suite_options(url), (), known={"SHA-99": "known"})
    assert (found.status, accepted.status, stale.status) == (1, 0, 1)
    assert [one.verdict for one in found.verdicts] == [BROKEN]
    assert stale.stale == ("SHA-99",)
    said = []
    for result in (found, accepted, stale):
        show_server_result(result, contract, None)
        said.append(capsys.readouterr().out)
    assert ("  It is broken." in said[0], said[0].endswith("1 rule broken\n")) == (True, True)
    assert ("SHA-99 is accepted: known" in said[1], said[1].endswith("nothing broken\n")) == (True, True)
    assert "It is broken." not in said[1]
    assert ("SHA-99 is stale" in said[2], said[2].endswith("1 stale in the baseline\n")) == (True, True)


def called(respond: Any, *, probe: str = "job", contract: Contract = CONTRACT, **more: Any) -> Session:
    """Return a session that has read a job twice."""
    session = session_on(contract, contract.models[0], httpx.MockTransport(respond))
    for _ in range(2):
        session.call("status", probe=probe, path={"job": "job-1"}, **more)
    return session


def not_found(request: httpx.Request) -> httpx.Response:
    return httpx.Response(404, json={"message": "not found"})


def result(*rules: Rule, **known: str) -> ServerResult:
    return concluded(called(not_found), CONTRACT, rules, 1.0, known=known)


def test_an_unbroken_run_is_clean_and_exits_with_0() -> None:
    found = result(rule("SHA-90"))
    assert (found.clean, found.status, found.broken, found.stale) == (True, 0, (), ())
    assert found.spent == 0
    assert len(found.trace.exchanges) == 2


def test_a_broken_rule_exits_with_1_unless_the_baseline_accepts_it() -> None:
    breach = Breach("request 1 is wrong")
    broken = result(rule("SHA-90", breach), rule("SHA-91"))
    assert (broken.status, [one.rule.id for one in broken.broken]) == (1, ["SHA-90"])
    accepted = result(rule("SHA-90", breach), rule("SHA-91"), **{"SHA-90": "known"})
    assert (accepted.status, accepted.broken, accepted.accepted) == (0, (), {"SHA-90": "known"})


def test_a_baseline_entry_that_is_not_found_any_more_exits_with_1() -> None:
    found = result(rule("SHA-90"), **{"SHA-90": "known", "SHA-91": "known"})
    assert (found.status, found.stale, found.clean) == (1, ("SHA-90", "SHA-91"), False)


def test_an_endpoint_that_cannot_be_judged_exits_with_2_and_makes_nothing_stale() -> None:
    session = called(lambda request: httpx.Response(200, text="<html>"))
    found = concluded(session, CONTRACT, (rule("SHA-90", Breach("x")),), 1.0, known={"SHA-90": "known"})
    assert (found.status, found.verdicts, found.stale, found.clean) == (2, (), (), False)
    assert found.unjudged is not None


UNJUDGED = {
    "HTML": (lambda request: httpx.Response(200, text=" <!doctype html>"), "responds with HTML"),
    "text": (lambda request: httpx.Response(200, text="hello"), "never responds with JSON"),
    "a refused key": (lambda request: httpx.Response(401, json={}), "refuses the key: every request with it got 401"),
    "redirects": (
        lambda request: httpx.Response(307, headers={"location": "https://elsewhere.example"}),
        "redirects every request to 'https://elsewhere.example'",
    ),
}


@pytest.mark.parametrize("name", UNJUDGED)
def test_the_reason_why_nothing_is_judged_is_one_sentence(name: str) -> None:
    respond, reason = UNJUDGED[name]
    found = why_unjudged(called(respond))
    assert reason in found
    assert "http://endpoint.test" in found
    assert "\n" not in found


def test_a_server_without_the_paths_of_the_contract_is_taken_for_another_base_url() -> None:
    session = called(not_found)
    session.call("status", probe="auth:none", path={"job": "job-1"}, key=None)
    assert "responds 404 to every request: is it the base URL of the API?" in why_unjudged(session)


def test_without_a_response_the_diagnosis_is_the_reason() -> None:
    session = session_on(CONTRACT, MODEL, httpx.MockTransport(not_found))
    assert why_unjudged(session, "no server at http://x") == "no server at http://x"
    assert why_unjudged(session) == "http://endpoint.test gave no response"


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (RuntimeError("boom"), 3)])
def test_a_suite_that_is_stopped_is_judged_until_then(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contract, model = MODELS[0]
    probe = run_probes

    def stopping(session: Session, on_probe: OnProbe) -> None:
        probe(session, on_probe)
        raise error

    monkeypatch.setattr("hobbyhorse.conformance.server.suite.run_probes", stopping)
    # A real interruption arrives in the main thread, which waits for the probes.
    monkeypatch.setattr("hobbyhorse.conformance.server.suite.run_within", lambda seconds, work: work())
    with fakes(contract) as url:
        found = examine(contract, model, suite_options(url), (made_up("SHA-98", OBSERVED), made_up("SHA-97")))
    assert (found.status, [one.verdict for one in found.verdicts]) == (status, ["passed", "not-observed"])
    assert found.verdicts[1].why == "the suite was stopped before a probe showed it: run it to its end"
    show_server_result(found, contract, None)
    printed = capsys.readouterr().out
    assert ("interrupted: " in printed, "RuntimeError: boom" in printed) == (status == 130, status == 3)
    summary = server_report_json(found)["summary"]
    assert (summary["interrupted"], bool(summary["errors"]), summary["clean"]) == (status == 130, status == 3, False)


def test_a_rule_without_evidence_says_what_would_show_it_and_may_be_required() -> None:
    contract, model = MODELS[0]
    with fakes(contract) as url:
        found = examine(contract, model, suite_options(url), (made_up("SHA-97"),))
    assert found.verdicts[0].why == "no job was submitted: give --budget"
    assert (found.status, found.status_with(frozenset({"SHA-97"})), found.status_with(frozenset({"X"}))) == (0, 4, 0)
