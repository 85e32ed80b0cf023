"""The files of a report: JSON, JUnit, the patch and the trace, without secrets."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
import xmlschema

from hobbyhorse.conformance.impact import Amount
from hobbyhorse.conformance.rule import MONEY, OBSERVED, VIDEO, Breach, Observed, Rule
from hobbyhorse.conformance.server.report import (
    again,
    lessons_patch,
    server_amounts,
    server_headline,
    server_junit,
    server_report_json,
    server_sarif,
    server_summary,
    write_server_report,
)
from hobbyhorse.conformance.server.results import ServerResult, concluded
from hobbyhorse.conformance.server.session import BudgetEntry
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.traces.trace import read_trace
from tests.conformance.reports.test_sarif import validated
from tests.conformance.server.test_suite import KEY, MODELS, at, fakes, session_on
from tests.conftest import CONTRACTS, ROOT, Run
from tests.judging import assuming, made_up

CONTRACT, MODEL = MODELS[0]
PLACE = "lifecycle.json#/job_id/form"
PATCH = ({"file": "lifecycle.json", "op": "replace", "path": "/job_id/form", "value": "uuid4"},)


@pytest.fixture
def run(run: Run) -> Run:
    """Run the command in this process."""
    return partial(run, "conformance", "server")


def test_the_report_has_the_verdicts_the_ledger_and_the_trace(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = next(one for one in CONTRACTS if one.key == "vtrix")
    with fakes(contract) as url:
        done = run(*at(url, "--budget", "0.5", "--report", tmp_path, "--callback-secret", DEFAULT_SECRET))
    assert done.status == 0, done.out
    assert "nothing broken" in done.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == {"format", "rules", "lessons", "ledger", "summary"}
    assert {"id", "family", "verdict", "findings"} <= set(report["rules"][0])
    billed = sum(Decimal(line["price"]) for line in report["ledger"] if line["billed"])
    assert billed == Decimal(report["summary"]["spent_at_most"]) == Decimal("0.42")
    trace = read_trace(json.loads((tmp_path / "trace.json").read_text()))
    assert trace.exchanges
    assert trace.secret is None
    whole = "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in whole
    assert DEFAULT_SECRET not in whole
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert suite.get("tests") == str(len(report["rules"]))
    assert suite.get("failures") == "0"
    assert 'class="timeline"' in (tmp_path / "index.html").read_text()


def rule(name: str, *evidence: Observed | Breach) -> Rule:
    return made_up(name, *evidence, says=f"{name} holds <always>.")


def result(*rules: Rule, known: dict[str, str] | None = None, **more: Any) -> ServerResult:
    """Judge two reads of a job; the contract only assumes PLACE."""
    contract = assuming(CONTRACT, PLACE)
    not_found = httpx.MockTransport(lambda request: httpx.Response(404, json={}))
    session = session_on(contract, MODEL, not_found)
    for _ in range(2):
        session.call("status", probe="job", path={"job": "job-1"})
    return replace(concluded(session, contract, rules, 1.25, known=known), **more)


BREACH = Breach("request 1 is <wrong>", ("openapi.json#/paths",), 404)
LEARNED = Breach("the form differs", (PLACE,), "uuid4", PATCH)
EACH_KIND = (
    rule("SHA-90", BREACH),
    rule("SHA-91", OBSERVED),
    rule("SHA-92"),
    rule("SHA-93", LEARNED),
    rule("SHA-94", LEARNED),
)


def test_the_summary_counts_each_verdict_and_names_what_was_skipped() -> None:
    found = server_report_json(result(*EACH_KIND))
    assert found["summary"]["rules"] == {"broken": 1, "lesson": 2, "not-observed": 1, "passed": 1}
    assert (found["summary"]["requests"], found["summary"]["seconds"], found["summary"]["clean"]) == (2, 1.25, False)
    assert found["summary"]["budget"] is None
    assert found["rules"][0]["findings"] == [
        {"message": "request 1 is <wrong>", "places": ["openapi.json#/paths"], "seen": 404}
    ]
    assert found["lessons"][0]["why"] == "the documents do not say"


def test_an_accepted_rule_carries_the_reason_of_the_baseline() -> None:
    found = server_report_json(result(*EACH_KIND, known={"SHA-90": "known", "SHA-91": "gone"}))
    assert found["rules"][0]["accepted"] == "known"
    assert "accepted" not in found["rules"][1]
    assert found["summary"]["stale"] == ["SHA-91"]


def test_two_lessons_about_one_place_are_one_operation_of_the_patch() -> None:
    assert lessons_patch(result(*EACH_KIND)) == list(PATCH)


@pytest.mark.parametrize(
    ("price", "written"), [("0.42", "0.42"), ("5", "5.00"), ("0.1425", "0.1425"), ("0.14250", "0.1425")]
)
def test_prices_have_cents_and_more_only_where_they_need_it(price: str, written: str) -> None:
    entry = BudgetEntry("job", Decimal(price), True, 200, "job-1")
    found = server_report_json(result(ledger=(entry,), spent=Decimal(price), budget=Decimal(price)))
    assert found["ledger"] == [{"probe": "job", "price": written, "billed": True, "status": 200, "job": "job-1"}]
    assert found["summary"]["spent_at_most"] == found["summary"]["budget"] == written


def junit(found: ServerResult) -> ElementTree.Element:
    return ElementTree.fromstring(server_junit(found))[0]


def test_junit_has_a_failure_for_a_broken_rule_and_skips_what_was_not_observed() -> None:
    suite = junit(result(*EACH_KIND))
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["5", "1", "0", "1"]
    cases = {case.get("name"): [child.tag for child in case] for case in suite}
    assert cases == {
        "SHA-90 name-SHA-90": ["failure"],
        "SHA-91 name-SHA-91": [],
        "SHA-92 name-SHA-92": ["skipped"],
        "SHA-93 name-SHA-93": ["system-out"],
        "SHA-94 name-SHA-94": ["system-out"],
    }


def test_junit_fails_for_a_stale_entry_and_has_an_error_where_nothing_was_judged() -> None:
    stale = junit(result(rule("SHA-90", OBSERVED), known={"SHA-90": "known"}))
    assert (stale.get("tests"), stale.get("failures")) == ("2", "1")
    unjudged = junit(result(unjudged="no server", verdicts=()))
    assert (unjudged.get("tests"), unjudged.get("errors")) == ("1", "1")


def test_every_file_is_written_and_the_trace_has_no_secret(tmp_path: Path) -> None:
    found = result(*EACH_KIND)
    found = replace(found, trace=replace(found.trace, secret="whsec-top"))
    write_server_report(found, tmp_path / "new" / "folder")
    written = {path.name: path.read_text() for path in (tmp_path / "new" / "folder").iterdir()}
    assert set(written) == {
        "report.json",
        "junit.xml",
        "report.sarif",
        "summary.md",
        "lessons.patch.json",
        "trace.json",
    }
    assert not [name for name, text in written.items() if "whsec-top" in text]
    assert json.loads(written["lessons.patch.json"]) == list(PATCH)
    assert read_trace(json.loads(written["trace.json"])).secret is None


def test_junit_is_valid_by_its_schema() -> None:
    schema = xmlschema.XMLSchema(ROOT / "tests" / "schemas" / "junit.xsd")
    schema.validate(server_junit(result(*EACH_KIND, known={"SHA-91": "gone"}, interrupted=True)).decode())


def test_a_broken_rule_is_a_result_at_the_trace_and_at_the_place_in_the_contract() -> None:
    many = rule("SHA-95", *(Breach(f"request {number}", ("openapi.json#/paths",)) for number in range(9)))
    found = result(*EACH_KIND, many, known={"SHA-90": "known", "SHA-91": "gone"})
    run = validated(json.loads(json.dumps(server_sarif(found))))
    assert [one["ruleId"] for one in run["results"]] == ["SHA-90", "SHA-95"]
    place = run["results"][0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "trace.json"
    assert place["logicalLocations"] == [{"fullyQualifiedName": "openapi.json#/paths"}]
    assert run["results"][0]["suppressions"][0]["justification"] == "known"
    assert run["results"][1]["message"]["text"] == "request 0; request 1; request 2; and 6 more"
    assert run["invocations"][0]["exitCode"] == 1
    unjudged = validated(server_sarif(result(unjudged="no server", verdicts=())))["invocations"][0]
    assert unjudged["toolExecutionNotifications"][0]["message"]["text"] == "no server"


def test_the_summary_begins_with_the_headline_and_has_the_money_spent() -> None:
    found = replace(result(*EACH_KIND), base_url="https://api.example.com")
    page = server_summary(replace(found, budget=Decimal(2), spent=Decimal("0.42")))
    lines = [line for line in page.splitlines() if line]
    assert lines[0] == "## hobbyhorse: 1 rule broken: 1 other"
    assert lines[1].startswith("https://api.example.com and the contract of ")
    assert lines[1].endswith("; at most 0.42 USD spent, of a budget of 2.00 USD.")
    assert "* 2 lessons about the contract are in the report" in lines
    assert "request 1 is \\<wrong\\>" in page
    first = found.verdicts[0].rule
    assert page.endswith(f"\n{again(replace(found, budget=Decimal(2)), first)}\n```\n")
    assert server_summary(result(unjudged="no server", verdicts=())).startswith("## hobbyhorse: no server\n")


@pytest.mark.parametrize("is_there", [True, False])
def test_the_login_of_a_base_url_is_in_no_file_and_not_on_the_terminal(
    is_there: bool, run: Run, tmp_path: Path
) -> None:
    with fakes(CONTRACT) as url:
        words = at(url.replace("://", "://someone:pass%2Fword@"), "--report", tmp_path, provider=CONTRACT.key)
        done = run(*words) if is_there else None
    done = done or run(*words)
    assert {path.name for path in tmp_path.iterdir()} >= {"report.json", "junit.xml", "report.sarif", "index.html"}
    whole = "".join(path.read_text() for path in tmp_path.iterdir()) + done.out + done.err
    assert url in whole
    assert "someone" not in whole
    assert "word@" not in whole
    assert "pass/word" not in whole


def paying(harm: str) -> ServerResult:
    """Return a result in which the first of two requests broke a rule, and was billed."""
    entry = BudgetEntry("job", Decimal("0.42"), True, 200, "job-1")
    return result(made_up("SHA-90", BREACH, harm=harm), ledger=(entry, replace(entry, billed=False)))


def test_the_first_line_has_the_price_of_the_requests_that_broke_a_rule_about_money() -> None:
    found = paying(MONEY)
    assert server_amounts(found) == {"SHA-90": Amount("up to 0.42 USD billed for 1 request", Decimal("0.42"))}
    assert server_amounts(replace(found, accepted={"SHA-90": "known"})) == {}
    assert server_headline(found) == "up to 0.42 USD billed for 1 request (SHA-90); 1 rule broken: 1 money"
    assert server_report_json(found)["summary"]["headline"] == server_headline(found)
    assert server_summary(found).startswith(f"## hobbyhorse: {server_headline(found)}\n")
    assert "| Money, MUST: up to 0.42 USD billed for 1 request |" in server_summary(found)
    assert server_sarif(found)["runs"][0]["properties"]["headline"] == server_headline(found)
    assert server_headline(paying(VIDEO)) == "1 rule broken: 1 lost or wrong video"
    assert server_headline(result(rule("SHA-90", OBSERVED))) == "no finding"


def test_a_broken_rule_has_the_command_that_checks_it_again_without_secrets() -> None:
    found = result(*EACH_KIND, budget=Decimal("0.5"))
    expected = ["--provider", CONTRACT.key, "--model", MODEL.id, "--seed", "--budget", "0.50", "--rule", "SHA-90"]
    assert set(expected) <= set(shlex.split(again(found, found.verdicts[0].rule)))
    assert KEY not in again(found, found.verdicts[0].rule)
    given = replace(found, options=("--provider", "p", "--image", "a b.png"))
    assert again(given, given.verdicts[0].rule).endswith("server --provider p --image 'a b.png' --rule SHA-90")
    written = server_report_json(given)["rules"]
    assert written[0]["again"] == again(given, given.verdicts[0].rule)
    assert "again" not in written[1]
