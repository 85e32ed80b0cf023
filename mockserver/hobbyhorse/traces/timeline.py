"""A trace as a time line in HTML: one row for each event, runs of equal requests folded. Knows no server.

The rows are plain HTML with `details` elements, so the time line needs no script and fits any width. A page that shows
one includes PALETTE and TIMELINE_STYLE once. The meaning of a colour also stands in the row, as a sign and as a status.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.trace import Delivery, Run, Trace

GOOD, ODD, BAD, PLAIN = "good", "odd", "bad", "plain"
SIGNS = {GOOD: "\N{CHECK MARK}", ODD: "!", BAD: "\N{MULTIPLICATION X}", PLAIN: "\N{BULLET}"}
# Fewer equal events are shorter as rows of their own than folded.
LEAST_FOLDED = 3
# Rows of a time line: about two screens. Of more, the first and last are shown; the middle is mostly polls.
MOST_ROWS = 60
# Moments that an unfolded row lists; the rest repeats them.
MOST_MOMENTS = 100
# Characters of a body, and of a URL, in a row: enough for a job's state, and for an ordinary URL.
MOST_BODY, MOST_URL = 500, 120
# The order of events of one moment: the last requests of a run, its end, the start of the next run, its first requests.
REQUEST_RANK, END_RANK, START_RANK, LATER_RANK = range(4)
# Seconds from which moments are shown in minutes, and in hours.
MINUTES, HOURS = 600, 36_000

# Each colour of text has a contrast of at least 4.5 on both of its backgrounds (WCAG 2.2, level AA).
PALETTE = """
:root { color-scheme: light dark; --page: #ffffff; --panel: #f4f6f8; --text: #1b1f24; --dim: #545d68; --line: #cfd6dd;
  --link: #0a53a8; --good: #11632b; --odd: #7a4b00; --bad: #a40e26 }
@media (prefers-color-scheme: dark) { :root { --page: #10151b; --panel: #1a212a; --text: #e6eaef; --dim: #a9b3be;
  --line: #3a4552; --link: #86bdff; --good: #74d492; --odd: #f0c263; --bad: #ff9c95 } }
"""

TIMELINE_STYLE = """
.timeline, .timeline ol { list-style: none; margin: 0; padding: 0 }
.timeline { border: 1px solid var(--line); border-radius: 6px; font-size: .875rem }
.timeline > li { display: grid; grid-template-columns: 5.5rem 5.5rem minmax(0, 1fr); gap: 0 .75rem;
  padding: .25rem .6rem }
.timeline > li + li { border-top: 1px solid var(--line) }
.timeline .at { text-align: right; font-variant-numeric: tabular-nums }
.timeline .at, .timeline .lane, .timeline .gap, .timeline .note { color: var(--dim) }
.timeline .what { overflow-wrap: anywhere } .timeline ol { padding-left: 1.2rem }
.timeline .sign { display: inline-block; width: 1.1em; font-weight: 700 }
.timeline .good .sign { color: var(--good) } .timeline .odd .sign { color: var(--odd) }
.timeline .bad .sign { color: var(--bad) } .timeline .plain .sign { color: var(--dim) }
.timeline .named { background: var(--panel); box-shadow: inset 3px 0 var(--bad) }
.timeline .named .what > span:first-child, .timeline .named summary { font-weight: 600 }
.timeline pre { margin: .3rem 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .8125rem/1.4 ui-monospace, monospace }
.timeline summary { cursor: pointer } .timeline details { margin: 0 }
@media (max-width: 40rem) { .timeline > li { grid-template-columns: auto minmax(0, 1fr) }
  .timeline .at { text-align: left } .timeline .what { grid-column: 1 / -1 } }
"""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event: its lane, its tone (GOOD, ODD, BAD or PLAIN), one line, the applied fault or probe, and the bodies.

    `number` is that of a request in its trace, from 1; 0 for other events.
    """

    moment: float
    lane: str
    tone: str
    label: str
    note: str = ""
    detail: str = ""
    number: int = 0

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """The fields that equal events share."""
        return self.lane, self.tone, self.label, self.note


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One event, or several consecutive events that are equal but for their times and details."""

    events: tuple[TimelineEvent, ...]

    @property
    def first(self) -> TimelineEvent:
        """The first event."""
        return self.events[0]

    def names(self, numbers: Collection[int]) -> bool:
        """Whether the row has a request with one of some numbers."""
        return any(event.number in numbers for event in self.events)


def events(contract: Contract, trace: Trace) -> list[TimelineEvent]:
    """Return the starts and ends of the runs, the requests and the callbacks, oldest first."""
    runs = [event for run in trace.runs for event in _run(run)]
    requests = [_request(trace, step) for step in AnnotatedTrace(contract, trace).steps]
    callbacks = [_callback(delivery) for delivery in trace.deliveries]
    # In virtual time, many events have one moment. Sorting is stable, so requests of one moment keep their order.
    ranked = [(event.moment, rank, event) for rank, event in (*runs, *_ranked(requests, trace))]
    ranked += [(event.moment, REQUEST_RANK, event) for event in callbacks]
    return [event for *_, event in sorted(ranked, key=lambda one: one[:2])]


def _run(run: Run) -> Iterator[tuple[int, TimelineEvent]]:
    """Yield the start and the end of a run, each with its rank."""
    yield START_RANK, TimelineEvent(run.started, "client", PLAIN, "starts again" if run.resumed else "starts")
    if run.outcome is not None:
        tone, said = GOOD if run.outcome.kind == "success" else ODD, run.outcome.message[:MOST_BODY]
        ended = f"ends: {run.outcome.kind}"
        yield END_RANK, TimelineEvent(run.outcome.ended, "client", tone, ended, detail=said)


def _ranked(requests: Sequence[TimelineEvent], trace: Trace) -> Iterator[tuple[int, TimelineEvent]]:
    """Yield the requests with their ranks among the events of one moment.

    If one run ends and the next one starts at a moment, the requests from the first submission on are the next run's.
    """
    starts = {run.started for run in trace.runs}
    ends = {run.outcome.ended for run in trace.runs if run.outcome is not None}
    begun: set[float] = starts - ends
    for event in requests:
        if event.lane in SUBMISSIONS and event.moment in starts:
            begun.add(event.moment)
        yield LATER_RANK if event.moment in begun else REQUEST_RANK, event


def _request(trace: Trace, step: Step) -> TimelineEvent:
    exchange = step.exchange
    url = exchange.url.removeprefix(trace.base) or "/"
    url = url if len(url) <= MOST_URL else f"{url[:MOST_URL]}..."
    notes = [f"fault: {exchange.move}"] if exchange.move else []
    notes += [f"probe: {exchange.probe}"] if exchange.probe else []
    label = f"{exchange.method} {url} \N{RIGHTWARDS ARROW} {_response(step)}"
    bodies = [("request", exchange.body), ("response", exchange.answer)]
    detail = "\n".join(f"{name}: {_text(body)}" for name, body in bodies if body)
    return TimelineEvent(
        step.arrived, step.role or "elsewhere", _tone(step), label, "; ".join(notes), detail, step.number
    )


def _response(step: Step) -> str:
    if not step.status:
        return "no response"
    stage = f" {step.stage}" if isinstance(step.stage, str) else ""
    return f"{step.status}{stage}" + ("" if step.delivered else ", not complete")


def _tone(step: Step) -> str:
    # A 4xx is often right: the server suite provokes most of them.
    if not step.delivered or step.status >= 500:
        return BAD
    return GOOD if step.clean or (step.role == "media" and step.ok) else ODD


def _callback(delivery: Delivery) -> TimelineEvent:
    response = str(delivery.status) if delivery.status is not None else "no response"
    kind = "" if delivery.kind == "genuine" else f"{delivery.kind} "
    notes = [f"fault: {delivery.note}"] if delivery.note else []
    label = f"{kind}callback \N{RIGHTWARDS ARROW} {response}"
    tone = GOOD if delivery.acknowledged else BAD
    return TimelineEvent(delivery.sent, "callback", tone, label, "; ".join(notes), f"body: {_text(delivery.body)}")


def _text(body: bytes) -> str:
    return body[:MOST_BODY].decode("utf-8", "replace") + ("..." if len(body) > MOST_BODY else "")


def folded(found: Sequence[TimelineEvent], named: Collection[int] = frozenset()) -> list[TimelineRow]:
    """Return the rows of a time line; requests with a number in `named` have rows of their own."""
    rows: list[TimelineRow] = []
    # A named event has a key that no neighbour shares.
    for _, group in groupby(found, key=lambda event: (event.kind, event.number if event.number in named else 0)):
        equal = tuple(group)
        rows += [TimelineRow(equal)] if len(equal) >= LEAST_FOLDED else [TimelineRow((one,)) for one in equal]
    return rows


def timeline(
    contract: Contract, trace: Trace, named: Collection[int] = frozenset(), *, prefix: str = "", only: bool = False
) -> str:
    """Return a trace as an HTML list. The requests in `named` stand out; with `only`, no others are shown.

    The row of a named request has the id `PREFIX-request-NUMBER`.
    """
    found = events(contract, trace)
    start = found[0].moment if found else 0.0
    rows = folded(found, named)
    rows = [row for row in rows if row.names(named)] if only else rows
    items = [
        f'<li><span class="gap">{row} more events</span></li>'
        if isinstance(row, int)
        else _item(row, start, named, prefix)
        for row in _shortened(rows, named)
    ]
    return f'<ol class="timeline">{"".join(items)}</ol>' if items else ""


def _shortened(rows: Sequence[TimelineRow], named: Collection[int]) -> Iterator[TimelineRow | int]:
    """Yield the first and last rows and those of named requests; in place of others, the number of their events."""
    half, left_out = MOST_ROWS // 2, 0
    for number, row in enumerate(rows):
        if number < half or number >= len(rows) - half or row.names(named):
            if left_out:
                yield left_out
            left_out = 0
            yield row
        else:
            left_out += len(row.events)


def _item(row: TimelineRow, start: float, named: Collection[int], prefix: str) -> str:
    event = row.first
    is_named = row.names(named)
    identity = f' id="{escape(prefix)}-request-{event.number}"' if is_named else ""
    classes = f"{event.tone} named" if is_named else event.tone
    return (
        f'<li class="{classes}"{identity}><span class="at">{since(event.moment - start)}</span>'
        f'<span class="lane">{escape(event.lane)}</span><div class="what">{_what(row, start)}</div></li>'
    )


def _what(row: TimelineRow, start: float) -> str:
    event, count = row.first, len(row.events)
    number = f"{event.number}. " if event.number and count == 1 else ""
    note = f' <span class="note">({escape(event.note)})</span>' if event.note else ""
    line = f'<span class="sign" aria-hidden="true">{SIGNS[event.tone]}</span>{number}{escape(event.label)}{note}'
    if count > 1:
        last = row.events[-1].moment
        times = f"<b>{count} times</b>, about every {since((last - event.moment) / (count - 1))}"
        summary = f"{line} {times}, until {since(last - start)}"
        return f"<details><summary>{summary}</summary><ol>{_moments(row.events, start)}</ol></details>"
    if event.detail:
        return f"<details><summary>{line}</summary><pre>{escape(event.detail)}</pre></details>"
    return f"<span>{line}</span>"


def _moments(found: Iterable[TimelineEvent], start: float) -> str:
    shown = list(found)
    items = [f"<li>{since(one.moment - start)}{f': request {one.number}' if one.number else ''}</li>" for one in shown]
    more = f"<li>and {len(shown) - MOST_MOMENTS} more</li>" if len(shown) > MOST_MOMENTS else ""
    return "".join(items[:MOST_MOMENTS]) + more


def since(seconds: float) -> str:
    """Return a duration in the unit in which it is easy to read."""
    if seconds < MINUTES:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < HOURS else f"{seconds / 3600:.1f} h"
