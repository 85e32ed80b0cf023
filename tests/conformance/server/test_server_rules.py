"""The rules for servers: found by listing, judged with the contract's assumptions, and named by family in reports."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.rule import HARMS, MUST, OBSERVED, OTHER, SEVERITIES, SHOULD, WIRE, Breach, rules_in
from hobbyhorse.conformance.server.report import write_server_report
from hobbyhorse.conformance.server.results import concluded
from hobbyhorse.conformance.server.rules import FAMILIES, family_of, server_rules
from hobbyhorse.conformance.server_page import write_server_page
from hobbyhorse.contract.values import Contract
from tests.conformance.server.test_suite import MODELS, session_on
from tests.judging import assuming, judged, knowing, made_up, teller, verdict

MADE_UP = """
from hobbyhorse.conformance.rule import OBSERVED, SHOULD, Breach, Evidence, rule
from hobbyhorse.traces.annotated import AnnotatedTrace


@rule("XYZ-01", "no-teapots", level=SHOULD, severity="S4", says="No response is a teapot.", because="RFC 2324.")
def no_teapots(trace: AnnotatedTrace) -> Evidence:
    for step in trace.steps:
        yield OBSERVED
        if step.status == 418:
            yield Breach(f"request {step.number} gets 418", ("openapi.json#/paths",), 418)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a package with one made-up module of rules."""
    folder = tmp_path / "made_up_rules"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "teapots.py").write_text(MADE_UP)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("made_up_rules")


def test_a_rule_is_found_judged_and_reported_because_its_module_is_there(package: ModuleType, tmp_path: Path) -> None:
    contract, model = MODELS[0]
    session = session_on(contract, model, httpx.MockTransport(lambda request: httpx.Response(418, json={})))
    for _ in range(2):
        session.call("status", probe="job", path={"job": "job-1"})
    result = concluded(session, contract, rules_in(package), 1.0)
    assert [(one.rule.id, one.verdict) for one in result.verdicts] == [("XYZ-01", BROKEN)]
    write_server_report(result, tmp_path / "report")
    write_server_page(result, contract, tmp_path / "report")
    (shown,) = json.loads((tmp_path / "report" / "report.json").read_text())["rules"]
    assert (shown["id"], shown["family"], shown["statement"]) == ("XYZ-01", "XYZ", "No response is a teapot.")
    assert [finding["message"] for finding in shown["findings"]] == ["request 1 gets 418", "request 2 gets 418"]
    for name in ("index.html", "junit.xml"):
        assert "No response is a teapot." in (tmp_path / "report" / name).read_text()


def test_each_outcome_of_a_check_has_its_verdict(contract: Contract) -> None:
    told = teller(knowing(contract))
    breach = Breach("x", ("openapi.json#/paths",))
    assert verdict(made_up("SHA-90", OBSERVED), told) == PASSED
    assert verdict(made_up("SHA-90"), told) == NOT_OBSERVED
    assert verdict(made_up("SHA-90", breach), told) == BROKEN
    assert verdict(made_up("SHA-90", breach, applies=lambda contract: False), told) == NOT_APPLICABLE


def test_a_breach_of_an_assumption_is_a_lesson_with_the_assumptions_place_and_reason(contract: Contract) -> None:
    patch = ({"file": "lifecycle.json", "op": "replace", "path": "/job_id/form", "value": "uuid4"},)
    breach = Breach("the form differs", ("lifecycle.json#/job_id/form/x",), "uuid4", patch)
    found = judged(made_up("SHA-90", breach), teller(assuming(contract, "lifecycle.json#/job_id/form")))
    assert (found.verdict, found.breaches) == (LESSON, ())
    (lesson,) = found.lessons
    assert (lesson.rule, lesson.places, lesson.why) == (
        "SHA-90",
        ("lifecycle.json#/job_id/form",),
        "the documents do not say",
    )
    assert (lesson.message, lesson.seen, lesson.patch) == ("the form differs", "uuid4", patch)


def test_one_documented_breach_among_lessons_breaks_the_rule(contract: Contract) -> None:
    breaches = Breach("assumed", ("lifecycle.json#/a",)), Breach("documented", ("lifecycle.json#/b",))
    found = judged(made_up("SHA-90", *breaches), teller(assuming(contract, "lifecycle.json#/a")))
    assert found.verdict == BROKEN
    assert [one.message for one in found.breaches] == ["documented"]
    assert [one.message for one in found.lessons] == ["assumed"]


@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("lifecycle.json#/a/status", LESSON),
        ("lifecycle.json#/a/status/deeper", LESSON),
        ("lifecycle.json#/a/status2", BROKEN),
        ("lifecycle.json#/a", BROKEN),
        ("openapi.json#/a/status", BROKEN),
    ],
)
def test_an_assumption_covers_its_place_and_everything_below(contract: Contract, place: str, word: str) -> None:
    told = teller(assuming(contract, "lifecycle.json#/a/status"))
    assert verdict(made_up("SHA-90", Breach("x", ("elsewhere#/x", place))), told) == word


def test_each_rule_belongs_to_a_family_and_has_a_sentence_and_a_reason() -> None:
    for rule in server_rules():
        assert family_of(rule) == FAMILIES[rule.family]
        assert rule.says.endswith(".")
        assert rule.because.endswith(".")
        assert rule.level in (MUST, SHOULD)
        assert rule.severity in SEVERITIES
        assert (rule.harm in HARMS, rule.harm != OTHER or rule.severity != "S1") == (True, True), rule.id
        assert rule.fix.endswith("."), rule.id
        assert ". " not in rule.fix, rule.id
        assert rule.channel == WIRE
    assert len({rule.id for rule in server_rules()}) == len(server_rules())
    assert {rule.family for rule in server_rules()} == set(FAMILIES)


def test_the_rules_of_a_family_are_numbered_in_their_order() -> None:
    for letters in FAMILIES:
        ids = [rule.id for rule in server_rules() if rule.family == letters]
        assert ids == [f"{letters}-{number:02}" for number in range(1, len(ids) + 1)]
