"""A result as a short page of Markdown: the first line, the findings, and how to repeat the first one."""

from __future__ import annotations

from hobbyhorse.conformance.reports.summary import (
    MOST_CHARACTERS,
    MOST_ROWS,
    Summary,
    SummaryRow,
    counts_in_words,
    first_line,
    markdown,
)
from tests.conformance.reports.test_sarif import GRAVE, LIGHT, VERDICTS

LIGHT_ROW = SummaryRow(LIGHT, "a happy server", "light", "replay light")
GRAVE_ROW = SummaryRow(GRAVE, "submit: accept_then_drop", "grave", "replay grave", "2 jobs for 1 click: 1.40 USD")


def test_a_finding_has_its_harm_cost_and_fix_and_the_first_one_can_be_repeated() -> None:
    summary = Summary(verdict="2 rules broken", runs="9 runs", rows=[GRAVE_ROW, LIGHT_ROW])
    assert markdown(summary).splitlines() == [
        "## hobbyhorse: 2 rules broken",
        "",
        "9 runs",
        "",
        "| rule | harm | finding | situation | fix |",
        "|---|---|---|---|---|",
        r"| AAA-01 name-of-AAA-01 | Money, MUST: 2 jobs for 1 click: 1.40 USD | grave "
        r"| submit: accept\_then\_drop | Do it once. |",
        "| AAA-02 name-of-AAA-02 | Other, SHOULD | light | a happy server |  |",
        "",
        "To repeat the first one:",
        "",
        "```console",
        "replay grave",
        "```",
    ]


def test_a_result_without_findings_has_no_table() -> None:
    summary = Summary(verdict="no finding", runs="9 runs", notes=["a note"])
    assert markdown(summary) == "## hobbyhorse: no finding\n\n9 runs\n\n* a note\n"


def test_data_is_never_markup() -> None:
    row = SummaryRow(LIGHT, "<b>|", "line\nbreak `x` [y](z) *w*", "run ```")
    page = markdown(Summary(verdict="<script>", runs="a|b", rows=[row]))
    assert r"## hobbyhorse: \<script\>" in page
    assert r"| line break \`x\` \[y\](z) \*w\* | \<b\>\| |" in page
    assert page.endswith("\n````console\nrun ```\n````\n")


def test_a_long_table_and_a_long_cell_are_cut() -> None:
    row = SummaryRow(LIGHT, "x" * (MOST_CHARACTERS + 1), "light", "again")
    page = markdown(Summary(verdict="v", runs="r", rows=[row] * (MOST_ROWS + 3)))
    assert page.count("| AAA-02") == MOST_ROWS
    assert "3 more findings are in the report." in page
    assert f" {'x' * MOST_CHARACTERS}... |" in page


def test_the_first_line_has_the_stale_entries_and_the_reason_for_an_early_end() -> None:
    assert first_line("no finding", (), None) == "no finding"
    assert first_line("no finding", ("AAA-01",), "it stopped") == "no finding, 1 stale in the baseline; it stopped"


def test_the_rules_are_counted_by_their_verdicts() -> None:
    assert counts_in_words(VERDICTS) == "2 broken, 1 passed, 1 not observed"
