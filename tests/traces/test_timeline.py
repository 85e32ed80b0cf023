"""A trace as a time line: rows, folds, named requests, and HTML that escapes everything."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.timeline import (
    BAD,
    GOOD,
    LEAST_FOLDED,
    MOST_BODY,
    MOST_MOMENTS,
    MOST_ROWS,
    MOST_URL,
    ODD,
    PALETTE,
    PLAIN,
    SIGNS,
    TimelineEvent,
    events,
    folded,
    since,
    timeline,
)
from hobbyhorse.traces.trace import Trace
from tests.tracing import Teller

# The contrast that WCAG 2.2 requires of text at level AA.
LEAST_CONTRAST = 4.5


def polled(contract: Contract, times: int) -> Teller:
    """Return a trace with equal polls, one each second."""
    told = Teller(contract).submit()
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    for _ in range(times):
        told.wait(0.998).status(running)
    return told


def test_events_are_runs_requests_and_callbacks_in_the_order_of_time(contract: Contract) -> None:
    told = Teller(contract).submit().nothing("status", move="drop")
    if contract.callbacks is not None:
        told.callback(next(iter(contract.callbacks.situations)), status=None, kind="forged", note="late")
    told.end("failed", message="gave up").restart().status("found").end("success")
    found = events(contract, told.trace())
    assert [event.moment for event in found] == sorted(event.moment for event in found)
    client = [(event.label, event.tone, event.detail) for event in found if event.lane == "client"]
    assert client == [
        ("starts", PLAIN, ""),
        ("ends: failed", ODD, "gave up"),
        ("starts again", PLAIN, ""),
        ("ends: success", GOOD, ""),
    ]
    lost = next(event for event in found if event.lane == "status")
    assert lost.label.endswith("\N{RIGHTWARDS ARROW} no response")
    assert (lost.tone, lost.note, lost.number) == (BAD, "fault: drop", 2)
    callbacks = [(event.label, event.tone, event.note) for event in found if event.lane == "callback"]
    assert callbacks == [("forged callback \N{RIGHTWARDS ARROW} no response", BAD, "fault: late")] * (
        contract.callbacks is not None
    )


def test_of_one_moment_the_end_of_a_run_follows_its_requests_and_precedes_the_next_run(contract: Contract) -> None:
    told = Teller(contract, {"n": 1}).submit().status("found").end("success").again({"n": 2}).submit().end("success")
    trace = told.trace()
    # As in virtual time: the first submission at 0, all else at 1.
    exchanges = tuple(replace(one, arrived=float(number > 0)) for number, one in enumerate(trace.exchanges))
    runs = tuple(
        replace(run, started=float(number), outcome=replace(run.outcome, ended=1.0 + number))
        for number, run in enumerate(trace.runs)
        if run.outcome is not None
    )
    found = events(contract, replace(trace, exchanges=exchanges, runs=runs))
    shown = [event.lane if event.number else event.label for event in found]
    assert shown == ["starts", "submit", "status", "ends: success", "starts", "submit", "ends: success"]


def test_a_request_shows_its_path_its_status_its_stage_and_its_bodies(contract: Contract) -> None:
    told = Teller(contract, {"prompt": "x" * MOST_BODY}).submit().media(probe="job:media")
    told.call(None, None, url="http://elsewhere/" + "y" * MOST_URL, status=302, answer=b"away", whole=False)
    _, submitted, media, away = events(contract, told.trace())
    assert submitted.label.startswith(f"{contract.operations['submit'].method} /")
    assert submitted.detail.startswith('request: {"prompt":"xxx')
    assert "...\nresponse: " in submitted.detail
    assert (media.tone, media.note) == (GOOD, "probe: job:media")
    assert away.lane == "elsewhere"
    assert away.tone == BAD
    assert away.label.endswith("...  302, not complete".replace("  ", " \N{RIGHTWARDS ARROW} "))
    assert away.detail == "response: away"


@pytest.mark.parametrize(("status", "tone"), [(200, ODD), (302, ODD), (404, ODD), (500, BAD), (503, BAD)])
def test_the_tone_of_an_undocumented_response_depends_on_its_status(status: int, tone: str, contract: Contract) -> None:
    trace = Teller(contract).status(None, status=status, answer=b"<html>").trace()
    assert events(contract, trace)[1].tone == tone


def test_equal_polls_are_one_row_and_two_of_them_are_not(contract: Contract) -> None:
    few = folded(events(contract, polled(contract, LEAST_FOLDED - 1).trace()))
    assert [len(row.events) for row in few] == [1, 1] + [1] * (LEAST_FOLDED - 1)
    many = folded(events(contract, polled(contract, 9).status("found", status=500).trace()))
    assert [len(row.events) for row in many] == [1, 1, 9, 1]


def test_a_named_request_has_a_row_of_its_own(contract: Contract) -> None:
    trace = polled(contract, 9).trace()
    rows = folded(events(contract, trace), {6})
    assert [len(row.events) for row in rows] == [1, 1, 4, 1, 4]
    drawn = timeline(contract, trace, {6}, prefix="AAA-01")
    assert drawn.count(" named") == 1
    assert 'id="AAA-01-request-6"' in drawn
    assert "<b>4 times</b>, about every 1.0 s" in drawn


def test_only_the_named_requests_are_shown_on_demand(contract: Contract) -> None:
    trace = polled(contract, 9).trace()
    drawn = timeline(contract, trace, {1, 6}, prefix="x", only=True)
    assert re.findall(r'id="([^"]*)"', drawn) == ["x-request-1", "x-request-6"]
    assert drawn.count("<li class=") == 2
    assert timeline(contract, trace, only=True) == ""


def test_a_long_time_line_shows_both_ends_and_the_named_requests(contract: Contract) -> None:
    told = Teller(contract).submit()
    for number in range(MOST_ROWS * 2):
        told.wait(1).status("found", status=200 + number)
    drawn = timeline(contract, told.end("timeout").trace(), {MOST_ROWS + 1})
    assert drawn.count("<li class=") == MOST_ROWS + 1
    gaps = [int(number) for number in re.findall(r'class="gap">(\d+) more events', drawn)]
    assert len(gaps) == 2
    # A start, an end, a submission and the polls; all but the shown ones.
    assert sum(gaps) == MOST_ROWS * 2 + 3 - (MOST_ROWS + 1)
    assert "ends: timeout" in drawn


def test_a_fold_lists_only_some_of_its_moments(contract: Contract) -> None:
    drawn = timeline(contract, polled(contract, MOST_MOMENTS + 7).trace())
    assert f"<b>{MOST_MOMENTS + 7} times</b>" in drawn
    assert drawn.count(": request ") == MOST_MOMENTS
    assert "<li>and 7 more</li>" in drawn


def test_the_html_is_well_formed_and_escapes_everything(contract: Contract) -> None:
    nasty = '<script>"&</script>'
    told = Teller(contract, {"prompt": nasty}).submit(move=nasty).media(url=f"http://x/{nasty}")
    told.end("failed", message=nasty)
    drawn = timeline(contract, told.trace(), {1}, prefix='"<')
    ElementTree.fromstring(drawn)
    assert "<script" not in drawn


def test_an_empty_trace_has_no_time_line(contract: Contract) -> None:
    assert timeline(contract, Trace(contract.key, "http://x")) == ""


def test_each_tone_has_a_sign_so_that_no_meaning_is_in_the_colour_alone() -> None:
    assert len(set(SIGNS.values())) == len({GOOD, ODD, BAD, PLAIN}) == len(SIGNS)


def test_an_event_is_equal_to_another_but_for_its_time_its_bodies_and_its_number() -> None:
    one = TimelineEvent(1.0, "status", GOOD, "GET /", "note", "a", 1)
    assert one.kind == TimelineEvent(2.0, "status", GOOD, "GET /", "note", "b", 2).kind
    assert one.kind != TimelineEvent(1.0, "status", GOOD, "GET /", "other", "a", 1).kind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (599.9, "599.9 s"), (600.0, "10.0 min"), (35_999.0, "600.0 min"), (36_000.0, "10.0 h")],
)
def test_a_moment_has_a_unit_that_is_easy_to_read(seconds: float, text: str) -> None:
    assert since(seconds) == text


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_each_colour_of_text_has_the_contrast_of_wcag_aa_on_both_backgrounds(scheme: int) -> None:
    blocks = PALETTE.split("@media")
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    assert {"page", "panel", "text", "dim", "link", "good", "odd", "bad"} <= set(colours)
    for name in ("text", "dim", "link", "good", "odd", "bad"):
        for ground in ("page", "panel"):
            one, other = sorted((luminance(colours[name]), luminance(colours[ground])))
            assert (other + 0.05) / (one + 0.05) >= LEAST_CONTRAST, (name, ground)
