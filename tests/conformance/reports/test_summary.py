"""A result as a short page of Markdown: the verdict, the money, the findings, and how to repeat the first one."""

from __future__ import annotations

from hobbyhorse.conformance.reports.summary import (
    MOST_CHARACTERS,
    MOST_ROWS,
    Summary,
    SummaryRow,
    about_gravest,
    found_in_words,
    markdown,
)
from tests.conformance.reports.test_sarif import GRAVE, LIGHT

LIGHT_ROW = SummaryRow(LIGHT, "a happy server", "light", "replay light")
GRAVE_ROW = SummaryRow(GRAVE, "submit: accept_then_drop", "grave", "replay grave")


def test_findings_about_money_are_first_and_the_first_one_can_be_repeated() -> None:
    summary = Summary(verdict="2 rules broken", runs="9 runs", money="Money: AAA-01", rows=[LIGHT_ROW, GRAVE_ROW])
    assert markdown(summary).splitlines() == [
        "## hobbyhorse: 2 rules broken",
        "",
        "9 runs",
        "",
        "**Money: AAA-01**",
        "",
        "| rule | severity | finding | situation |",
        "|---|---|---|---|",
        r"| AAA-01 name-of-AAA-01 | MUST, money or security | grave | submit: accept\_then\_drop |",
        "| AAA-02 name-of-AAA-02 | SHOULD, hygiene | light | a happy server |",
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


def test_the_gravest_findings_and_the_numbers_are_named() -> None:
    assert about_gravest([LIGHT_ROW, GRAVE_ROW, GRAVE_ROW]) == "Money or security: broken: AAA-01"
    assert about_gravest([LIGHT_ROW]) == "Money or security: no rule broken"
    assert [found_in_words(*counts) for counts in ((0, 0), (1, 0), (2, 1))] == [
        "no finding",
        "1 rule broken",
        "2 rules broken, 1 stale in the baseline",
    ]
