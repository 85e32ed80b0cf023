"""The parts of the HTML reports: the frame, the filters, links to requests, and the table of all rules."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from hobbyhorse.conformance.impact import Amount, grouped
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, PASSED, Finding, Verdict
from hobbyhorse.conformance.page import (
    cells,
    document,
    facts,
    fix_part,
    folded_part,
    harm_filter,
    harm_section,
    headline_part,
    linked,
    numbers_in,
    overview_part,
    pre,
    rule_head,
    rules_part,
    table,
)
from hobbyhorse.conformance.rule import HARMS, MONEY, OTHER, VIDEO, Breach
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Trace
from tests.judging import made_up


def verdict(id: str, word: str = BROKEN, harm: str = MONEY) -> Verdict:
    findings = (Finding(id, (Breach("wrong"),), Trace("p", "http://x")),) if word == BROKEN else ()
    return Verdict(made_up(id, harm=harm, says=f"<{id}> holds."), word, 3, len(findings), findings)


def test_a_page_is_one_document_without_its_empty_parts() -> None:
    text = document("<title>", "kind", ["<p>one</p>", "", "<p>two</p>"])
    assert text.startswith("<!doctype html>\n<html lang=")
    assert "<h1>&lt;title&gt;</h1>" in text
    assert "<p>one</p>\n<p>two</p>" in text
    assert "prefers-color-scheme: dark" in text
    for harm in HARMS:
        assert f"body:has(#harm-{harm}:checked) .harm:not(.harm-{harm}) {{ display: none }}" in text


@pytest.mark.parametrize(("clean", "classes"), [(True, "headline clean"), (False, "headline")])
def test_the_first_line_begins_with_a_capital_and_has_a_remark(clean: bool, classes: str) -> None:
    assert headline_part("no <finding>", clean) == f'<p class="{classes}">No &lt;finding&gt;</p>'
    assert headline_part("x", clean, "a <note>").endswith('<p class="dim">a &lt;note&gt;</p>')
    assert headline_part("x; y", clean) == f'<p class="{classes}">X</p><p>Y</p>'


def test_the_filter_has_a_button_for_each_group_unless_there_is_only_one() -> None:
    groups = grouped([verdict("AAA-01"), verdict("AAA-02"), verdict("AAA-03", harm=VIDEO)])
    text = harm_filter(groups)
    assert re.findall(r'id="harm-(\w+)"( checked)?', text) == [("all", " checked"), ("money", ""), ("video", "")]
    assert "Money (2)" in text
    assert harm_filter(groups[:1]) == ""
    assert harm_section(groups[0], ["<p>"]) == '<section class="harm harm-money"><h2>Money</h2><p></section>'


def test_the_overview_links_to_each_finding_and_has_its_cost() -> None:
    text = overview_part(
        grouped([verdict("AAA-01"), verdict("AAA-02", harm=VIDEO)]), {"AAA-02": Amount("1 <video>", Decimal(1))}
    )
    assert re.findall(r'href="#(AAA-\d+)"', text) == ["AAA-01", "AAA-02"]
    assert '<a href="#AAA-02">AAA-02 name-AAA-02</a> <span class="cost">1 &lt;video&gt;</span>' in text
    assert "<strong>Lost or wrong video</strong>" in text
    assert overview_part((), {}) == ""


def test_messages_link_only_to_requests_that_are_shown() -> None:
    message = "request 1 & request 12, not request 3; requests 4"
    assert numbers_in([message], 12) == {1, 3, 12}
    assert numbers_in([message, "request 0"], 3) == {1, 3}
    expected = '<a href="#A-request-1">request 1</a> &amp; <a href="#A-request-12">request 12</a>, not request 3'
    assert linked(message, "A", {1, 12}) == f"{expected}; requests 4"


def test_a_rule_has_its_sentence_its_rank_and_its_fix(contract: Contract) -> None:
    rule = made_up("XXX-01", says="Do <it>.", fix="Mend <it>.")
    head = rule_head(rule, " (during poll)")
    assert head.startswith("<h3>XXX-01 name-XXX-01 (during poll) ")
    assert "MUST, S2" in head
    assert "<p>Do &lt;it&gt;.</p>" in head
    assert fix_part(rule, contract) == '<p class="fix"><strong>Fix:</strong> Mend &lt;it&gt;.</p>'
    assert fix_part(made_up("XXX-01"), contract) == ""


def test_texts_are_escaped_and_can_be_scrolled_with_the_keyboard() -> None:
    assert pre("<a>") == '<pre tabindex="0">&lt;a&gt;</pre>'
    assert folded_part("<s>", "<a>").startswith("<details><summary>&lt;s&gt;</summary><pre")
    assert facts([("<n>", "<v>")]) == "<dl><dt>&lt;n&gt;</dt><dd>&lt;v&gt;</dd></dl>"
    assert cells("<a>", "b") == "<tr><td>&lt;a&gt;</td><td>b</td></tr>"
    assert '<th scope="col">&lt;h&gt;</th>' in table(("<h>",), [])


def test_the_table_has_broken_rules_first_with_links_reasons_and_a_filter() -> None:
    unseen = Verdict(made_up("AAA-03", harm=OTHER), NOT_OBSERVED, why="give <more>")
    text = rules_part([verdict("AAA-01", PASSED), unseen, verdict("AAA-02")], [("AAA-02", "known <bug>")])
    assert re.findall(r"<td>(?:<a[^>]*>)?(AAA-\d+)", text) == ["AAA-02", "AAA-01", "AAA-03"]
    assert '<a href="#AAA-02">AAA-02 name-AAA-02</a>' in text
    assert "broken (accepted: known &lt;bug&gt;)" in text
    assert '<span class="dim">give &lt;more&gt;</span>' in text
    assert "&lt;AAA-01&gt; holds." in text
    assert re.findall(r'id="verdict-([a-z-]+)"', text) == ["all", "broken", "passed", "not-observed"]
    assert "passed (1)" in text
