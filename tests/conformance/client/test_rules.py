"""The rules for clients: what each has, and that a rule is found because its module is there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hobbyhorse.cli.main import app
from hobbyhorse.conformance.client import rules as package
from hobbyhorse.conformance.client.report import judged
from hobbyhorse.conformance.client.rules import FAMILY_ORDER, rules
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import CHANNELS, HARMS, OTHER, SEVERITIES, Judgement, Rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.tracing import Teller

# A family of one rule, which is broken by the second submission.
MADE_UP = '''"""Rules that are made up."""

from hobbyhorse.conformance.rule import MUST, OBSERVED, Breach, Evidence, rule
from hobbyhorse.traces.annotated import AnnotatedTrace


@rule("ZZZ-01", "submit-once", level=MUST, severity="S4", says="Submit once.", because="It is made up: a/b#1.")
def submit_once(trace: AnnotatedTrace) -> Evidence:
    for step in trace.submits:
        yield OBSERVED
        if step is not trace.submits[0]:
            yield Breach(f"request {step.number} submits again")
'''


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_each_rule_has_a_sentence_a_reason_and_known_classes(rule: Rule) -> None:
    assert re.fullmatch(r"[A-Z]{3}-\d\d", rule.id)
    assert rule.family == rule.id[:3]
    assert rule.family in FAMILY_ORDER
    assert rule.level in ("MUST", "SHOULD")
    assert rule.severity in SEVERITIES
    # The most severe rules are about money, security or a video.
    assert (rule.harm in HARMS, rule.harm != OTHER or rule.severity != "S1") == (True, True)
    assert rule.fix.endswith(".")
    assert rule.channel in CHANNELS
    assert rule.says.endswith(".")
    assert rule.because.endswith(".")
    assert re.search(r"[\w.-]+/[\w.-]+#\d+|RFC \d+, section", rule.because), "the reason names no issue and no standard"


def test_ids_and_names_are_unique_and_families_are_in_order() -> None:
    assert set(Counter(rule.id for rule in rules()).values()) == {1}
    assert set(Counter(rule.name for rule in rules()).values()) == {1}
    families = list(dict.fromkeys(rule.family for rule in rules()))
    assert families == list(FAMILY_ORDER)
    assert [rule.id for rule in rules()] == sorted(
        (rule.id for rule in rules()), key=lambda id: (FAMILY_ORDER.index(id[:3]), id)
    )


@pytest.mark.parametrize("one", rules(), ids=lambda one: one.id)
def test_no_rule_finds_anything_in_an_empty_trace(one: Rule, contract: Contract) -> None:
    assert not check(one, AnnotatedTrace(contract, Trace(contract.key, "http://127.0.0.1:1"))).breaches


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Add a folder with one module to the folder of the rules."""
    (tmp_path / "made_up.py").write_text(MADE_UP)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, f"{package.__name__}.made_up", raising=False)
    rules.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    rules.cache_clear()


def reported(contract: Contract, told: Teller) -> dict[str, Any]:
    (found,) = [rule for rule in judged(contract, told.trace())["rules"] if rule["id"] == "ZZZ-01"]
    return dict(found)


@pytest.mark.usefixtures("made_up")
def test_a_rule_that_is_only_put_into_the_folder_is_found_judged_listed_and_reported(contract: Contract) -> None:
    assert [rule.id for rule in rules()][-1] == "ZZZ-01", "a family without a place comes last"
    rule = rules()[-1]
    assert not check(rule, Teller(contract).story()).observed
    assert check(rule, Teller(contract).submit().story()) == Judgement(observed=True)

    found = reported(contract, Teller(contract).submit().submit())
    assert (found["verdict"], found["statement"]) == ("broken", "Submit once.")
    assert [finding["message"] for finding in found["findings"]] == ["request 2 submits again"]
    assert reported(contract, Teller(contract).submit())["verdict"] == "passed"

    listed = CliRunner().invoke(app, ["rules"])
    assert "ZZZ-01 submit-once (MUST, S4, wire): Submit once.\n" in listed.output
    (shown,) = json.loads(CliRunner().invoke(app, ["rules", "ZZZ", "--json"]).output)
    assert shown["why"] == "It is made up: a/b#1."


def test_a_rule_goes_with_its_module() -> None:
    assert "ZZZ-01" not in {rule.id for rule in rules()}
