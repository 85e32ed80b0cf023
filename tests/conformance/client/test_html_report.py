"""A result as one HTML page: self-contained, escaped, the worst cost first, and a time line for each finding."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest

from hobbyhorse.conformance.client.html_report import MOST_LINES, curls, page, write_page
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.examples import example_for
from hobbyhorse.conformance.judge import BROKEN, Finding, InternalError, Verdict
from hobbyhorse.conformance.rule import Breach
from hobbyhorse.contract.values import Contract
from tests.conformance.client.test_report import NASTY, result, several
from tests.conftest import CONTRACTS
from tests.judging import named, teller
from tests.tracing import Teller


def costly(contract: Contract) -> Result:
    """Return a result with a second job for one click, and a lost video."""
    twice = teller(contract).nothing("submit", made="one").submit(job="two").end("success")
    lost = teller(contract).submit().end("timeout").made()
    told = {"SUB-01": twice.made(job="one").made(job="two"), "TMO-02": lost}
    found = {id: (Finding(id, (Breach("wrong"),), one.trace()),) for id, one in told.items()}
    verdicts = tuple(Verdict(named(rules(), id), BROKEN, 1, 1, findings) for id, findings in reversed(found.items()))
    return replace(result(contract), verdicts=verdicts)


def test_the_page_is_self_contained_and_escapes_everything(contract: Contract) -> None:
    text = page(result(contract), contract)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http-equiv" not in text
    for outside in ('src="', "url(", "@import", "<link"):
        assert outside not in text
    assert f'id="{rules()[0].id}"' in text
    assert "accept_then_drop" in text


def test_broken_rules_come_first_and_the_table_of_all_links_to_their_findings(contract: Contract) -> None:
    text = page(result(contract), contract)
    broken = rules()[0].id
    assert text.index(f'<a href="#{broken}">') < text.index(f'<article id="{broken}">') < text.index(rules()[1].name)
    assert text.count("<article") == 1


def test_the_first_line_is_the_worst_cost(contract: Contract) -> None:
    text = page(costly(contract), contract)
    cost = re.search(r'<p class="headline">(2 jobs for 1 click: [0-9.]+ USD) \(SUB-01\)', text)
    assert cost is not None
    assert f'<p class="cost">{cost[1]}</p>' in text
    assert text.index('class="headline"') < text.index("<dl>") < text.index("<article")


def test_findings_are_grouped_by_harm_and_can_be_filtered_without_a_script(contract: Contract) -> None:
    text = page(costly(contract), contract)
    places = [text.index(f'<section class="harm harm-{harm}">') for harm in ("money", "video")]
    assert places == sorted(places)
    assert re.findall(r'id="harm-([a-z]+)"', text) == ["all", "money", "video"]
    assert "body:has(#harm-money:checked) .harm:not(.harm-money) { display: none }" in text
    assert 'id="harm-all"' not in page(result(contract), contract)


def test_a_finding_has_its_fix_with_an_example_and_the_command_that_replays_it(contract: Contract) -> None:
    found = replace(result(contract), options=("--python", "my client.py:generate"))
    text, first = page(found, contract, folder=Path("report")), rules()[0]
    example = example_for(first, contract)
    assert f"<strong>Fix:</strong> {escape(first.fix)}" in text
    assert example is not None
    assert f"Done right: <code>{escape(str(example))}</code>" in text
    assert escape(example.code) in text
    command = f"replay report/findings/{first.id}.scenario.json --python 'my client.py:generate'"
    assert escape(command) in text
    assert f"findings/{first.id}.scenario.json -- COMMAND" in page(result(contract), contract)


def test_a_message_links_to_the_request_in_the_time_line(contract: Contract) -> None:
    found = result(contract)
    broken = found.verdicts[0]
    finding = replace(broken.findings[0], breaches=(Breach("request 2 repeats request 1, not request 99"),))
    text = page(replace(found, verdicts=(replace(broken, findings=(finding,)),)), contract)
    assert f'<a href="#{broken.rule.id}-request-2">request 2</a> repeats' in text
    assert f'<li class="good named" id="{broken.rule.id}-request-2">' in text
    assert "not request 99<" in text


def test_the_summary_names_unmet_untried_and_stale(contract: Contract) -> None:
    text = page(replace(result(contract), stale=("SUB-02",)), contract)
    assert "1 of 4 met" in text
    assert "2 single faults that the client did not meet" in text
    assert "1 single faults without a run left for them" in text
    assert "<dt>stale in the baseline</dt><dd>SUB-02</dd>" in text


def test_an_accepted_finding_shows_its_reason(contract: Contract) -> None:
    text = page(replace(result(contract), accepted={rules()[0].id: "the gateway does it"}), contract)
    assert "broken (accepted: the gateway does it)" in text
    assert '<p class="headline clean">No finding</p>' in text
    known = text.partition("Accepted in the baseline")[2]
    assert f"<strong>{rules()[0].id}</strong>: the gateway does it" in known
    assert f'<article id="{rules()[0].id}">' in known


def test_curl_lines_have_a_variable_in_place_of_the_key_and_end_after_some(contract: Contract) -> None:
    told = Teller(contract, {"prompt": "a horse"}).submit()
    (line,) = curls(told.trace())
    assert "'authorization: Bearer '$KEY''" in line
    assert "[key]" not in line
    assert '--data-binary \'{"prompt":"a horse"}\'' in line
    for _ in range(MOST_LINES + 2):
        told.media()
    lines = list(curls(told.trace()))
    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == "# and 3 more"


def test_the_page_is_written_with_a_question_mark_for_a_lone_surrogate(contract: Contract, tmp_path: Path) -> None:
    write_page(replace(result(contract), client="caf\udce9 client"), tmp_path, contract)
    assert "caf? client" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_page_escapes_the_name_of_the_client(contract: Contract) -> None:
    assert NASTY not in page(result(contract), contract)


def test_each_finding_has_a_section_that_says_when_it_occurs(contract: Contract) -> None:
    text, first = page(several(contract), contract), rules()[0].id
    for number, operation in enumerate(("download", "poll", "submit"), 1):
        name = first if number == 1 else f"{first}-{number}"
        section = text.partition(f'<article id="{name}">')[2].partition("</article>")[0]
        assert f"(during {operation})" in section
        assert f"findings/{name}.scenario.json" in section
        assert ("only after 2 other runs" in section, "did not recur" in section) == (number == 2, number == 3)


def test_the_summary_says_that_a_suite_did_not_finish(contract: Contract) -> None:
    stopped = replace(result(contract), interrupted=True, errors=(InternalError("judging", "<b>"),), unfit="no <video>")
    text = page(stopped, contract)
    assert "<dt>interrupted</dt>" in text
    assert "<dd>judging: &lt;b&gt;</dd>" in text
    assert "<dd>no &lt;video&gt;</dd>" in text
    assert "<dt>interrupted</dt>" not in page(result(contract), contract)


@pytest.mark.skipif(len(CONTRACTS) < 2, reason="needs two providers")
def test_a_client_with_two_providers_has_a_time_line_for_each() -> None:
    first, second = CONTRACTS[:2]
    trace = teller(first).submit().end("failed").trace()
    partner = replace(teller(second).submit().status("found").end("failed").trace(), rank=1)
    found = result(first)
    broken = found.verdicts[0]
    finding = replace(broken.findings[0], trace=replace(trace, partner=partner), breaches=(Breach("request 1"),))
    text = page(replace(found, verdicts=(replace(broken, findings=(finding,)),)), first, second)
    titles = [f"<h4>Time line: {one.name}</h4>" for one in (first, second)]
    assert text.index(titles[0]) < text.index(titles[1])
    assert text.count(f'id="{broken.rule.id}-request-1"') == 1
