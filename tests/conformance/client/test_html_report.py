"""A result as one HTML page: self-contained, escaped, with pictures of the traces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from hobbyhorse.conformance.client.html_report import MOST_EVENTS, MOST_LINES, curls, events, page, picture, write_page
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import InternalError
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Trace
from tests.conformance.client.test_report import NASTY, result, several
from tests.tracing import Teller


def test_the_page_is_self_contained_and_escapes_everything(contract: Contract) -> None:
    text = page(result(contract), contract)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http-equiv" not in text
    for outside in ('src="', "url(", "@import", "<link"):
        assert outside not in text
    assert f'id="{rules()[0].id}"' in text
    assert "accept_then_drop" in text


def test_a_picture_of_many_events_shows_both_ends(contract: Contract) -> None:
    teller = Teller(contract).submit()
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    for _ in range(MOST_EVENTS * 3):
        teller.wait(1).status(running)
    drawn = picture(contract, teller.end("timeout").trace())
    assert drawn.count("<circle") == MOST_EVENTS
    assert f"{MOST_EVENTS * 2 + 3} more" in drawn
    assert "timeout" in drawn
    ElementTree.fromstring(drawn)


def test_a_picture_of_few_events_shows_each_of_them_once(contract: Contract) -> None:
    trace = Teller(contract).submit().status("found").end("timeout").trace()
    assert picture(contract, trace).count("<circle") == len(list(events(contract, trace)))


def test_a_picture_of_an_empty_trace_is_valid(contract: Contract) -> None:
    ElementTree.fromstring(picture(contract, Trace(contract.key, "http://x")))


def test_broken_rules_come_first_and_link_to_their_findings(contract: Contract) -> None:
    text = page(result(contract), contract)
    broken = rules()[0].id
    assert text.index(f'<a href="#{broken}">') < text.index(rules()[1].name)
    assert text.count("<section") == 1


def test_the_summary_names_unmet_untried_and_stale(contract: Contract) -> None:
    text = page(replace(result(contract), stale=("SUB-02",)), contract)
    assert "1 of 4 met" in text
    assert "2 single faults that the client did not meet" in text
    assert "1 single faults without a run left for them" in text
    assert "<dt>stale in the baseline</dt><dd>SUB-02</dd>" in text


def test_an_accepted_finding_shows_its_reason(contract: Contract) -> None:
    text = page(replace(result(contract), accepted={rules()[0].id: "the gateway does it"}), contract)
    assert "broken (accepted: the gateway does it)" in text
    assert "<dd>no finding</dd>" in text


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


def test_events_are_runs_requests_and_deliveries(contract: Contract) -> None:
    told = Teller(contract).submit().nothing("status")
    if contract.callbacks is not None:
        told.callback(next(iter(contract.callbacks.situations)), status=None)
    found = list(events(contract, told.end("failed", message="gave up").trace()))
    assert [(event.lane, event.label) for event in found if event.lane == "client"] == [
        ("client", "starts"),
        ("client", "failed"),
    ]
    assert [event.says for event in found if event.label == "failed"] == ["gave up"]
    assert [event.label for event in found if event.lane == "status"] == ["no response"]
    assert [event.label for event in found if event.lane == "callback"] == ["no response"] * (
        contract.callbacks is not None
    )


def test_the_page_is_written_with_a_question_mark_for_a_lone_surrogate(contract: Contract, tmp_path: Path) -> None:
    write_page(replace(result(contract), client="caf\udce9 client"), tmp_path, contract)
    assert "caf? client" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_page_escapes_the_name_of_the_client(contract: Contract) -> None:
    assert NASTY not in page(result(contract), contract)


def test_each_finding_has_a_section_that_says_when_it_occurs(contract: Contract) -> None:
    text, first = page(several(contract), contract), rules()[0].id
    for number, operation in enumerate(("download", "poll", "submit"), 1):
        name = first if number == 1 else f"{first}-{number}"
        section = text.partition(f'<section id="{name}">')[2].partition("</section>")[0]
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
