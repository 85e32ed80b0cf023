"""The output of the server suite: the plan, breaches, lessons, skipped probes and the cost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.cli.server_verdicts import MOST_LISTED, show_plan, show_server_result
from hobbyhorse.cli.verdicts import MOST_MESSAGES
from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, PASSED, Finding, Lesson, Verdict
from hobbyhorse.conformance.rule import Breach
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.session import Note
from hobbyhorse.traces.trace import Trace
from tests.conftest import CONTRACTS

CONTRACT = CONTRACTS[0]
RULES = server_rules()
BREACHES = tuple(Breach(f"breach {number} [red]", ("openapi.json#/a", "b")) for number in range(MOST_MESSAGES + 2))
TAUGHT = Lesson(RULES[1].id, ("lifecycle.json#/x",), "It is assumed.", "It was 7.", 7, ())
VERDICTS = (
    Verdict(RULES[0], BROKEN, findings=(Finding(RULES[0].id, BREACHES, Trace("p", "http://x")),)),
    Verdict(RULES[1], LESSON, lessons=(TAUGHT,)),
    Verdict(RULES[2], PASSED),
    Verdict(RULES[3], NOT_APPLICABLE),
)


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


def result(**changes: Any) -> ServerResult:
    values = dict[str, Any](provider="p", model="m", base_url="http://x", seed=7, budget=Decimal(2))
    values |= {"spent": Decimal("0.42"), "seconds": 1.5, "verdicts": VERDICTS, "trace": Trace("p", "http://x")}
    return ServerResult(**values | changes)


def test_a_plan_lists_the_cost_of_each_probe_and_the_bound(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("list", "shape", Decimal(0), "lists [all]"), ("order", "money", Decimal("0.5"), "orders")]
    show_plan(rows, Decimal("0.5"), None)
    free = capsys.readouterr().out
    assert [line.split() for line in free.splitlines()[3:5]] == [
        ["list", "shape", "lists", "[all]"],
        ["order", "money", "0.50", "orders"],
    ]
    assert "2 probes, 0.50 USD at most, if every billable request is billed\n" in free
    assert "without --budget, only the free probes are sent (1), for 0.00 USD\n" in free
    for budget, bound in (("0.20", "0.20"), ("3", "0.50")):
        show_plan(rows, Decimal("0.5"), Decimal(budget))
        assert f"never more than {bound} USD\n" in capsys.readouterr().out


def test_breaches_lessons_and_the_cost_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_server_result(result(), CONTRACT, Path("folder"))
    printed = capsys.readouterr().out
    first = RULES[0]
    assert printed.startswith("1 rule broken: 1 security\n\nSecurity\n")
    assert f"{first.id} {first.name} MUST, S1\n  {first.says}\n" in printed
    assert f"  fix: {first.fix}\n" in printed
    assert printed.count("  server: breach ") == MOST_MESSAGES
    assert "  server: breach 0 [red]\n    openapi.json#/a\n" in printed
    assert "  and 2 more\n" in printed
    assert f"  {RULES[1].id} It was 7.\n    lifecycle.json#/x: It is assumed.\n" in printed
    assert f"not applicable: {RULES[3].id}\n" in printed
    assert "0 requests in 1.5 s, seed 7; at most 0.42 USD spent, of 2.00 USD\n" in printed
    assert "report: folder/index.html\n" in printed
    assert printed.endswith("1 rule broken\n")


def test_an_accepted_rule_is_marked_and_its_breaches_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_server_result(result(accepted={RULES[0].id: "known"}), CONTRACT, None)
    printed = capsys.readouterr().out
    assert f"{RULES[0].id} is accepted: known\n" in printed
    assert "breach 0" not in printed
    assert printed.endswith("nothing broken\n")


def test_an_endpoint_that_cannot_be_judged_has_a_reason_and_no_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    show_server_result(result(unjudged="no [server] there", verdicts=(), budget=None), CONTRACT, None)
    printed = capsys.readouterr().out
    assert printed.startswith("nothing could be judged: no [server] there\n")
    assert printed.endswith("0.42 USD spent, no budget was given\n")


def test_skipped_probes_are_grouped_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    notes = tuple(Note(f"probe-{number}", "no budget") for number in range(MOST_LISTED + 2))
    show_server_result(result(notes=(*notes, Note("other", "no callbacks"))), CONTRACT, None)
    lines = capsys.readouterr().out.splitlines()
    names = ", ".join(f"probe-{number}" for number in range(MOST_LISTED))
    assert f"left out: {names} and 2 more: no budget" in lines
    assert "left out: other: no callbacks" in lines
