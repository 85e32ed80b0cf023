"""The result of a server suite run as one HTML page: self-contained, escaped, with the contract's own words."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from hobbyhorse.conformance.rule import MONEY, SECURITY, Breach
from hobbyhorse.conformance.server.session import BudgetEntry, Note
from hobbyhorse.conformance.server_page import (
    MOST_BREACHES,
    MOST_REQUESTS,
    server_page,
    write_server_page,
)
from tests.conformance.server.test_report import BREACH, CONTRACT, EACH_KIND, LEARNED, result, rule
from tests.judging import assuming, made_up


def test_the_page_escapes_what_the_endpoint_sent_and_bounds_the_findings() -> None:
    many = rule("SHA-90", *(Breach(f"request {number} is <wrong>") for number in range(MOST_BREACHES + 5)))
    page = server_page(result(many, rule("SHA-93", LEARNED)), CONTRACT)
    assert "<wrong>" not in page
    assert page.count("is &lt;wrong&gt;") == MOST_BREACHES
    assert "the form differs" in page
    assert "<always>" not in page
    assert "<p>and 5 more</p>" in page


def test_the_page_is_self_contained() -> None:
    page = server_page(result(*EACH_KIND), CONTRACT)
    for outside in ("<script", 'src="', "url(", "@import", "<link", "http-equiv"):
        assert outside not in page


def test_a_finding_shows_its_requests_its_fix_and_its_command() -> None:
    many = Breach(" ".join(f"request {number}" for number in range(1, MOST_REQUESTS + 3)))
    found = result(made_up("SHA-90", BREACH, many, fix="Mend <it>."))
    found = replace(found, trace=replace(found.trace, exchanges=found.trace.exchanges * MOST_REQUESTS))
    article = server_page(found, CONTRACT).partition('<article id="SHA-90">')[2].partition("</article>")[0]
    assert article.count('id="SHA-90-request-') == MOST_REQUESTS
    assert '<a href="#SHA-90-request-1">request 1</a> is &lt;wrong&gt;' in article
    assert f'href="#SHA-90-request-{MOST_REQUESTS + 1}"' not in article
    assert "Mend &lt;it&gt;." in article
    assert "--rule SHA-90" in article


def test_a_finding_quotes_the_contract_and_its_assumptions() -> None:
    contract = assuming(CONTRACT, "lifecycle.json#/name")
    page = server_page(result(made_up("SHA-90", Breach("wrong", ("lifecycle.json#/name", "x#/nowhere")))), contract)
    assert (
        f'<code>&quot;{contract.name}&quot;</code> <span class="dim">assumed: the documents do not say</span> <code'
        in page
    )
    assert '<li><code class="dim">x#/nowhere</code></li>' in page


def test_money_comes_first_with_its_price_and_accepted_rules_come_last() -> None:
    entry = BudgetEntry("job", Decimal("0.42"), True, 200, "job-1")
    rules = (
        made_up("SHA-90", Breach("closed"), harm=SECURITY),
        made_up("SHA-91", BREACH, harm=MONEY),
        made_up("SHA-92", Breach("old"), harm=MONEY),
    )
    page = server_page(result(*rules, known={"SHA-92": "since <ever>"}, ledger=(entry,)), CONTRACT)
    assert (
        '<p class="headline">Up to 0.42 USD billed for 1 request (SHA-91)</p><p>2 rules broken: 1 money, 1 sec' in page
    )
    assert '<p class="cost">up to 0.42 USD billed for 1 request</p>' in page
    places = [page.index(f'<article id="{name}">') for name in ("SHA-91", "SHA-90", "SHA-92")]
    assert places == sorted(places)
    assert "<strong>SHA-92</strong>: since &lt;ever&gt;" in page
    assert 'id="harm-money"' in page


def test_the_page_says_why_nothing_was_judged_and_what_was_left_out() -> None:
    page = server_page(result(unjudged="no <server>", verdicts=(), notes=(Note("job", "no <money>"),)), CONTRACT)
    assert '<p class="headline">Not everything was judged: no &lt;server&gt;</p>' in page
    assert "<td>no &lt;money&gt;</td>" in page
    assert 'class="headline clean"' in server_page(result(), CONTRACT)


def test_the_page_is_written_with_a_question_mark_for_a_lone_surrogate(tmp_path: Path) -> None:
    write_server_page(result(base_url="http://caf\udce9"), CONTRACT, tmp_path)
    assert "http://caf?" in (tmp_path / "index.html").read_text(encoding="utf-8")
