"""The stored results of the hunt for mutants keep their bound, fit the page, and come from tests that run the line."""

from __future__ import annotations

import textwrap
from pathlib import Path

from coverage import CoverageData

from tests.mutation.covering import FAILED, Covering, read, statement_lines
from tests.mutation.hunt import chosen, killed
from tests.mutation.page import LEAST_SCORE, PAGE, REASONS, RESULTS, page, score, stored
from tests.mutation.plan import PACKAGE, Mutant, mutants_of, sample

# The sample must have mutants of all four folders; fewer would say nothing about the code.
LEAST_MUTANTS = 150


def a_mutant_of(line: str) -> Mutant:
    """Return the first mutant of the line with a text in a small module."""
    path = PACKAGE / "conformance" / "judge.py"
    number = next(n for n, text in enumerate(path.read_text().splitlines(), start=1) if line in text)
    return next(one for one in mutants_of(path) if one.line == number)


def test_the_stored_score_keeps_its_bound() -> None:
    results, reasons = stored(RESULTS), stored(REASONS)
    assert len(results) >= LEAST_MUTANTS
    assert score(results, reasons) >= LEAST_SCORE


def test_each_survivor_has_a_reason_and_each_reason_a_survivor() -> None:
    survivors = {key for key, one in stored(RESULTS).items() if not one["noticed"]}
    assert set(stored(REASONS)) == survivors


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(stored(RESULTS), stored(REASONS)), "run `make mutation`"


def test_a_survivor_without_a_reason_lowers_the_score() -> None:
    results = {"a": {"noticed": True}, "b": {"noticed": False}, "c": {"noticed": False}}
    assert score(results, {}) == 1 / 3
    assert score(results, {"b": "changes a message only"}) == 1 / 3
    assert score(results, {"b": "equivalent: changes a comment only"}) == 1 / 2


def test_a_statement_has_all_its_lines_and_a_compound_one_only_its_head() -> None:
    source = textwrap.dedent(
        """\
        def f(
            one,
        ):
            if one:
                return (
                    1,
                    2,
                )
            return 3
        """
    )
    assert list(statement_lines(source, 2)) == [1, 2, 3]
    assert list(statement_lines(source, 4)) == [4]
    assert list(statement_lines(source, 7)) == [5, 6, 7, 8]


def test_a_test_that_fails_without_a_mutant_notices_none(tmp_path: Path) -> None:
    covered = CoverageData(str(tmp_path / "coverage"))
    for test in ("tests/test_x.py::good", "tests/test_x.py::flaky[a b - c]"):
        covered.set_context(f"{test}|run")
        covered.add_lines({str(tmp_path / "a.py"): [1]})
    covered.write()
    failed = FAILED.findall("FAILED tests/test_x.py::flaky[a b - c] - assert 1 == 2\nERROR tests/test_y.py::broken\n")
    assert failed == ["tests/test_x.py::flaky[a b - c]", "tests/test_y.py::broken"]
    covering = read(tmp_path / "coverage", tmp_path, "1.50s call     tests/test_x.py::good\n", frozenset(failed))
    assert covering == Covering({"a.py": {1: frozenset({"tests/test_x.py::good"})}}, {"tests/test_x.py::good": 1.5})


def test_the_tests_that_cover_a_mutant_are_chosen_with_those_of_its_module_first() -> None:
    mutant = a_mutant_of("        if documented:")
    slow, fast = "tests/test_x.py::slow", "tests/test_x.py::fast"
    own = "tests/conformance/test_judge.py::own"
    by_line = {mutant.line: frozenset({slow, fast, own, ""})}
    covering = Covering({mutant.path: by_line}, {slow: 50.0, fast: 1.0, own: 2.0})
    assert chosen(mutant, covering) == ((own, fast, slow), 53.0)
    # A constant runs only while its module is imported.
    assert chosen(mutant, Covering({}, {}))[0] == ("tests/conformance/test_judge.py",)


def test_a_mutant_is_killed_by_a_test_that_fails_and_its_file_is_restored(tmp_path: Path) -> None:
    mutant = a_mutant_of("        if documented:")
    path = tmp_path / mutant.path
    path.parent.mkdir(parents=True)
    path.write_text("unchanged\n")
    own = "tests/conformance/test_judge.py::test_it"
    (tmp_path / "tests/conformance").mkdir(parents=True)
    covering = Covering({mutant.path: {mutant.line: frozenset({own})}}, {})
    for body, expected in (("'unchanged' in", True), ("'unchanged' not in", False)):
        text = f"from pathlib import Path\ndef test_it(): assert {body} Path({str(path)!r}).read_text()\n"
        (tmp_path / "tests/conformance/test_judge.py").write_text(text)
        assert killed(tmp_path, mutant, covering) is expected
        assert path.read_text() == "unchanged\n"


def test_a_sample_has_each_stratum_and_stays_the_same() -> None:
    everything = list(mutants_of(PACKAGE / "conformance" / "judge.py"))
    few = sample(everything, 5, seed=1)
    assert few == sample(everything, 5, seed=1) != sample(everything, 5, seed=2)
    assert {one.stratum for one in few} == {one.stratum for one in everything}
