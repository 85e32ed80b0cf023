"""A result as one self-contained HTML page: verdicts, scenarios, and diagrams of the traces. Knows no server."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hobbyhorse.conformance.client.cases import case_of
from hobbyhorse.conformance.client.report import file_names, preconditions
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, Verdict
from hobbyhorse.conformance.report import counted
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.trace import KEY, Trace

# The verdicts that need attention are first.
VERDICT_ORDER = (BROKEN, PASSED, NOT_OBSERVED, NOT_APPLICABLE)
# Events in a diagram; of more, the first and last are shown. 60 columns are about three screens wide.
MOST_EVENTS = 60
# Messages and curl lines of a finding: the rest repeats them, and is in the trace's file.
MOST_LINES = 12
# Pixels: the width of an event's column, the height of a lane, and the margins for the lanes' names and the labels. A
# label of 12 characters just fits a column.
STEP, LANE, LEFT, TOP = 46, 34, 96, 34

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --odd: #9a6700; --dim: #767676 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .6rem; vertical-align: top }
tr { border-bottom: 1px solid var(--line) } code, pre { font: 13px/1.45 ui-monospace, monospace }
pre { overflow-x: auto; padding: .6rem; border: 1px solid var(--line); border-radius: 6px; white-space: pre-wrap }
.passed { color: var(--good) } .broken { color: var(--bad); font-weight: 600 } .not-observed { color: var(--odd) }
td:nth-child(-n+4) { white-space: nowrap }
.not-applicable, .dim { color: var(--dim) } section { border-top: 2px solid var(--line); margin-top: 2rem }
.picture { overflow-x: auto } svg text { font: 11px ui-monospace, monospace; fill: currentColor }
summary { cursor: pointer } dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem }
dt { color: var(--dim) } dd { margin: 0 }
"""


@dataclass(frozen=True, slots=True)
class TimelineMark:
    """One mark in a diagram; `says` is its tooltip."""

    moment: float
    lane: str
    colour: str
    label: str
    says: str


def write_page(result: Result, folder: Path, *contracts: Contract) -> None:
    """Write index.html into a folder. `contracts` are those of the client's providers."""
    # A client's name or message may contain lone surrogates, which UTF-8 cannot encode.
    (folder / "index.html").write_text(page(result, *contracts), encoding="utf-8", errors="replace")


def page(result: Result, *contracts: Contract) -> str:
    """Return the page. `contracts` are those of the client's providers."""
    title = f"{result.client} and the rules for clients of {' and '.join(one.name for one in contracts)}"
    findings = [(one, *named) for one in result.verdicts for named in file_names(one)]
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>',
            f"<h1>{escape(title)}</h1>",
            _summary(result),
            "<table><thead><tr><th>rule</th><th>level</th><th>verdict</th><th>observed</th><th>statement</th></tr></thead>",
            "<tbody>",
            *(_row(one, result) for one in sorted(result.verdicts, key=lambda one: VERDICT_ORDER.index(one.verdict))),
            "</tbody></table>",
            *(_section(one, name, finding, contracts) for one, name, finding in findings),
            "</body></html>",
            "",
        ]
    )


def _summary(result: Result) -> str:
    met = result.coverage
    rows = [
        ("verdict", "no finding" if not (result.broken or result.stale) else f"{len(result.broken)} broken"),
        *(("interrupted", "only the runs until then were judged") for _ in range(result.interrupted)),
        *(("internal error", str(error)) for error in result.errors),
        *(("not tested further", reason) for reason in (result.unfit,) if reason is not None),
        ("rules", ", ".join(f"{count} {word}" for word, count in counted(result.verdicts).items())),
        ("runs", f"{result.runs} in {result.seconds:.1f} s, seed {result.seed}"),
        ("single faults", f"{met.met} of {met.total} met"),
        ("model", result.model),
    ]
    if result.stale:
        rows.append(("stale in the baseline", ", ".join(result.stale)))
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    left = [(met.unmet, "that the client did not meet"), (met.untried, "without a run left for them")]
    return f"<dl>{lines}</dl>" + "".join(_faults(names, which) for names, which in left if names)


def _faults(names: Sequence[str], which: str) -> str:
    items = "".join(f"<li><code>{escape(name)}</code></li>" for name in names)
    return f"<details><summary>{len(names)} single faults {which}</summary><ul>{items}</ul></details>"


def _row(one: Verdict, result: Result) -> str:
    rule = one.rule
    name = f"{rule.id} {rule.name}"
    linked = f'<a href="#{rule.id}">{escape(name)}</a>' if one.findings else escape(name)
    accepted = result.accepted.get(rule.id)
    word = one.verdict + (f" (accepted: {accepted})" if one.verdict == BROKEN and accepted else "")
    why = f'<br><span class="dim">{escape(one.why)}</span>' if one.why is not None else ""
    return (
        f'<tr><td>{linked}</td><td>{rule.level}</td><td class="{one.verdict}">{escape(word)}</td>'
        f"<td>{one.observed or ''}</td><td>{escape(rule.says)}{why}</td></tr>"
    )


def _section(one: Verdict, name: str, finding: Finding, contracts: Sequence[Contract]) -> str:
    rule, case = one.rule, case_of(finding.trace)
    messages = "".join(f"<li>{escape(message)}</li>" for message in finding.messages[:MOST_LINES])
    scenario = json.dumps(case.to_json(), indent=2, ensure_ascii=False)
    requests = "\n".join(curls(finding.trace))
    again = f"hobbyhorse conformance replay findings/{name}.scenario.json -- COMMAND"
    doing = f" (during {finding.during})" if finding.during is not None else ""
    only = "".join(f"<li>{escape(sentence)}</li>" for sentence in preconditions(finding))
    return "\n".join(
        [
            f'<section id="{name}"><h2>{rule.id} {escape(rule.name)}{doing}</h2><p>{escape(rule.says)}</p>',
            f'<p class="dim">{escape(rule.because)}</p>',
            f"<p>Against <strong>{escape(str(case))}</strong>:</p><ul>{messages}</ul>",
            f"<ul>{only}</ul>" if only else "",
            *_pictures(contracts, finding.trace),
            f"<details><summary>the scenario</summary><pre>{escape(scenario)}</pre></details>",
            f"<details><summary>the requests</summary><pre>{escape(requests)}</pre></details>",
            f"<p>Again: <code>{escape(again)}</code></p></section>",
        ]
    )


def curls(trace: Trace) -> Iterator[str]:
    """Yield a curl line for each of the first requests of a trace, with $KEY in place of the key."""
    for exchange in trace.exchanges[:MOST_LINES]:
        words = ["curl", "-i", "-X", exchange.method]
        for name, value in exchange.headers:
            if name in ("authorization", "content-type", "x-api-key") or "idempotency" in name:
                words += ["-H", f"{name}: {value}"]
        if exchange.body:
            words += ["--data-binary", exchange.body[:2_000].decode("utf-8", "replace")]
        yield shlex.join([*words, exchange.url]).replace(KEY, "'$KEY'")
    if len(trace.exchanges) > MOST_LINES:
        yield f"# and {len(trace.exchanges) - MOST_LINES} more"


def _pictures(contracts: Sequence[Contract], trace: Trace) -> Iterator[str]:
    """Yield a diagram of a trace; if the client has two providers, one for each, with its name."""
    halves = (trace,) if trace.partner is None else (trace, trace.partner)
    for half in sorted(halves, key=lambda one: one.rank):
        contract = next(one for one in contracts if one.key == half.provider)
        yield "" if trace.partner is None else f"<p>{escape(contract.name)}:</p>"
        yield f'<div class="picture">{picture(contract, half)}</div>'


def picture(contract: Contract, trace: Trace) -> str:
    """Return a trace as an SVG diagram: a column for each event, a lane for each role."""
    found = sorted(events(contract, trace), key=lambda event: event.moment)
    left_out = max(len(found) - MOST_EVENTS, 0)
    # The beginning and the end explain a finding; the middle is mostly polls.
    if left_out:
        found = [*found[: MOST_EVENTS // 2], *found[-MOST_EVENTS // 2 :]]
    lanes = list(dict.fromkeys(event.lane for event in found))
    width, height = LEFT + STEP * (len(found) + 1), TOP + LANE * (len(lanes) + 1)
    start = found[0].moment if found else 0.0
    parts = [f'<svg width="{width}" height="{height}" role="img" aria-label="the trace">']
    for number, lane in enumerate(lanes):
        y = TOP + LANE * number + LANE // 2
        parts.append(f'<text x="0" y="{y + 4}">{escape(lane)}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{width}" y1="{y}" y2="{y}" stroke="#8886"/>')
    for number, event in enumerate(found):
        x, y = LEFT + STEP * number + STEP // 2, TOP + LANE * lanes.index(event.lane) + LANE // 2
        parts.append(
            f'<g><title>{escape(event.says)}</title><circle cx="{x}" cy="{y}" r="6" fill="{event.colour}"/>'
            f'<text x="{x}" y="{y - 10}" text-anchor="middle">{escape(event.label)}</text>'
            f'<text x="{x}" y="{height - 12}" text-anchor="middle">{_since(event.moment - start)}</text></g>'
        )
    if left_out:
        x = LEFT + STEP * (MOST_EVENTS // 2)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{height - 24}" stroke="#888" stroke-dasharray="4 4"/>')
        parts.append(f'<text x="{x}" y="{TOP - 18}" text-anchor="middle">{left_out} more</text>')
    return "".join([*parts, "</svg>"])


def events(contract: Contract, trace: Trace) -> Iterator[TimelineMark]:
    """Yield a mark for each start and end of a run, each request and each delivery."""
    for run in trace.runs:
        yield TimelineMark(run.started, "client", "#8888", "resumed" if run.resumed else "starts", "the client starts")
        if run.outcome is not None:
            colour = "#1a7f37" if run.outcome.kind == "success" else "#9a6700"
            yield TimelineMark(
                run.outcome.ended, "client", colour, run.outcome.kind, run.outcome.message or run.outcome.kind
            )
    for step in AnnotatedTrace(contract, trace).steps:
        yield TimelineMark(step.arrived, step.role or "elsewhere", _colour(step), _label(step), _says(step))
    for delivery in trace.deliveries:
        colour = "#1a7f37" if delivery.acknowledged else "#cf222e"
        label = str(delivery.status or "no response") + ("" if delivery.kind == "genuine" else f" {delivery.kind}")
        yield TimelineMark(delivery.sent, "callback", colour, label, delivery.body[:500].decode("utf-8", "replace"))


def _colour(step: Step) -> str:
    if not step.delivered:
        return "#cf222e"
    return (
        "#1a7f37" if step.clean or (step.role == "media" and step.ok) else "#9a6700" if step.status < 400 else "#cf222e"
    )


def _label(step: Step) -> str:
    return str(step.stage or step.status or "no response")[:12]


def _says(step: Step) -> str:
    move = f"\nscenario: {step.exchange.move}" if step.exchange.move else ""
    answer = step.exchange.answer[:500].decode("utf-8", "replace")
    return f"{step.number}. {step.exchange.method} {step.exchange.url}\n{step.status}{move}\n{answer}"


def _since(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 100 else f"{seconds:.0f}s" if seconds < 10_000 else f"{seconds / 3600:.0f}h"
