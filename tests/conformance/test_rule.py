"""Rules: the decorator, checks of each order separately, evidence, and the listing of a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hobbyhorse.conformance.rule import (
    MONEY,
    MUST,
    OBSERVED,
    OTHER,
    OUTCOME,
    WIRE,
    Breach,
    Evidence,
    Judgement,
    always,
    each_order,
    examine,
    rule,
    rules_in,
)
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.judging import messages
from tests.tracing import Teller


def numbers(trace: AnnotatedTrace) -> Evidence:
    """Accuse each submission of an order whose first one was accepted."""
    for step in trace.submits if trace.submits and trace.submits[0].accepted else ():
        yield Breach(str(step.number))


def test_the_decorator_makes_a_rule_of_the_generator_below_it(contract: Contract) -> None:
    made = rule("XXX-01", "x", level=MUST, severity="S1", says="One.", because="Two.")(numbers)
    assert (made.id, made.name, made.level, made.severity, made.says, made.because) == (
        "XXX-01",
        "x",
        "MUST",
        "S1",
        "One.",
        "Two.",
    )
    assert (made.family, made.channel, made.timing, made.check) == ("XXX", WIRE, False, numbers)
    assert (made.harm, made.fix, made.example) == (OTHER, "", None)
    assert made.applies is always
    assert always(contract)


def test_a_rule_has_its_harm_its_fix_and_its_example() -> None:
    decorate = rule(
        "XXX-01",
        "x",
        level=MUST,
        severity="S1",
        says="One.",
        because="Two.",
        harm=MONEY,
        fix="Mend it.",
        example="submit",
    )
    made = decorate(numbers)
    assert (made.harm, made.fix, made.example) == (MONEY, "Mend it.", "submit")


def test_each_order_is_checked_separately_and_orders_without_evidence_are_left_out(contract: Contract) -> None:
    made = rule("XXX-01", "x", level=MUST, severity="S1", channel=OUTCOME, says="One.", because="Two.")
    each = made(each_order(numbers))
    two = Teller(contract, {"n": 1}).submit(job="one").again({"n": 2}).submit(job="two").story()
    assert [len(part.submits) for part in two.by_order] == [1, 1]
    assert messages(each, two) == ["1", "2"]
    one = Teller(contract, {"n": 1}).submit(job="one").again({"n": 2}).submit(None, status=422, job=None).story()
    assert messages(each, one) == ["1"]
    assert messages(each, Teller(contract).submit(None, status=422, job=None).story()) is None


def test_a_check_of_each_order_keeps_its_name_and_docstring() -> None:
    check = each_order(numbers)
    assert (check.__name__, check.__doc__) == ("numbers", numbers.__doc__)


def test_silence_is_not_evidence_a_breach_is_and_equal_breaches_count_once() -> None:
    assert examine(()) == Judgement(observed=False)
    assert examine((OBSERVED, OBSERVED)) == Judgement(observed=True)
    first, second = Breach("a", ("x#/y",)), Breach("b")
    assert examine((first, second, Breach("a"))) == Judgement(observed=True, breaches=(first, second))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a package of two modules of rules; the first module by name defines its later id first."""
    package = tmp_path / "listed_rules"
    package.mkdir()
    (package / "__init__.py").write_text("")
    text = "from hobbyhorse.conformance.rule import rule\n\n{}\n"
    line = '{0} = rule("{1}", "{0}", level="MUST", severity="S1", says="{0}.", because="{0}.")(lambda trace: iter(()))'
    (package / "later.py").write_text(text.format(line.format("c", "AAA-01")))
    (package / "early.py").write_text(text.format(f"{line.format('b', 'BBB-02')}\n{line.format('a', 'BBB-01')}"))
    monkeypatch.syspath_prepend(tmp_path)
    yield package.name
    for name in [name for name in sys.modules if name.partition(".")[0] == package.name]:
        del sys.modules[name]


def test_the_rules_of_a_folder_come_module_by_module_in_the_order_in_which_they_stand(folder: str) -> None:
    package = __import__(folder)
    assert [found.id for found in rules_in(package)] == ["BBB-02", "BBB-01", "AAA-01"]
