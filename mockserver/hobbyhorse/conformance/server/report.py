"""The result of a server suite run as files: JSON, JUnit, HTML, a patch of the contract, and the trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.client.html_report import STYLE, picture
from hobbyhorse.conformance.judge import BROKEN, Lesson, Verdict
from hobbyhorse.conformance.report import JUnitSuite, counted, dump, junit, verdict_json
from hobbyhorse.conformance.server.expected import merged_patch
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rules import FAMILIES, family_of
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import to_json

# Raised when a field of report.json changes or goes, so that readers can refuse a format that they do not know.
SERVER_REPORT_FORMAT = 1
# A server that breaks a rule breaks it in every response; after twenty findings nothing new is learned.
MOST_TRACE_LINES = 20
MORE_STYLE = ".lesson { color: var(--odd); font-weight: 600 } td.sum { text-align: right }"


def server_report_json(result: ServerResult) -> dict[str, Any]:
    """Return the report: a verdict for each rule, the lessons, the ledger, and a summary."""
    summary = {
        "provider": result.provider,
        "model": result.model,
        "base_url": result.base_url,
        "seed": result.seed,
        "requests": len(result.trace.exchanges),
        "deliveries": len(result.trace.deliveries),
        "seconds": round(result.seconds, 3),
        "budget": None if result.budget is None else _money(result.budget),
        "spent_at_most": _money(result.spent),
        "clean": result.clean,
        "unjudged": result.unjudged,
        "interrupted": result.interrupted,
        "errors": [str(error) for error in result.errors],
        "rules": counted(result.verdicts),
        "skipped": [{"probe": note.probe, "why": note.why} for note in result.notes],
        "accepted": dict(result.accepted),
        "stale": list(result.stale),
    }
    return {
        "format": SERVER_REPORT_FORMAT,
        "rules": [_verdict(one, result.accepted.get(one.rule.id)) for one in result.verdicts],
        "lessons": [_lesson(lesson) for lesson in result.lessons],
        "ledger": list(_ledger(result)),
        "summary": summary,
    }


def _verdict(one: Verdict, accepted: str | None) -> dict[str, Any]:
    why = {"why": one.why} if one.why is not None else {}
    return verdict_json(one, accepted) | {
        **why,
        "family": family_of(one.rule),
        "findings": [
            {"message": breach.message, "places": list(breach.places), "seen": breach.seen} for breach in one.breaches
        ],
    }


def _lesson(lesson: Lesson) -> dict[str, Any]:
    return {
        "rule": lesson.rule,
        "places": list(lesson.places),
        "why": lesson.why,
        "message": lesson.message,
        "seen": lesson.seen,
        "patch": list(lesson.patch),
    }


def _ledger(result: ServerResult) -> Iterator[dict[str, Any]]:
    for entry in result.ledger:
        yield {
            "probe": entry.probe,
            "price": _money(entry.price),
            "billed": entry.billed,
            "status": entry.status,
            "job": entry.job,
        }


def _money(sum_: Decimal) -> str:
    # A price per second may have fractions of a cent; rounding them would hide the sum that was reserved.
    return f"{sum_:.2f}" if sum_ == sum_.quantize(Decimal("0.01")) else format(sum_.normalize(), "f")


def lessons_patch(result: ServerResult) -> list[dict[str, Any]]:
    """Return the patch that adapts the contract to the endpoint: operations of RFC 6902, each with its file."""
    return merged_patch(operation for lesson in result.lessons for operation in lesson.patch)


def server_junit(result: ServerResult) -> bytes:
    """Return the verdicts as JUnit XML."""
    suite = JUnitSuite(
        name=f"hobbyhorse {result.provider} {result.base_url}",
        seconds=result.seconds,
        accepted=result.accepted,
        stale=result.stale,
        families=FAMILIES,
        error=_unjudged(result),
    )
    return junit(suite, result.verdicts)


def _unjudged(result: ServerResult) -> str | None:
    """Return why nothing, or not everything, was judged."""
    words = [result.unjudged] if result.unjudged is not None else []
    words += ["the suite was interrupted"] if result.interrupted else []
    return "; ".join([*words, *(f"internal error: {error}" for error in result.errors)]) or None


def server_page(result: ServerResult, contract: Contract) -> str:
    """Return the report as one self-contained HTML page."""
    title = f"{result.base_url} and the contract of {contract.name}"
    shown = [one for one in result.verdicts if one.verdict == BROKEN]
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}{MORE_STYLE}</style></head><body>',
            f"<h1>{escape(title)}</h1>",
            _summary(result),
            _table(("rule", "level", "verdict", "statement"), [_row(one, result) for one in result.verdicts]),
            *(_section(one) for one in shown),
            _lessons(result),
            "<section><h2>trace</h2>",
            f'<div class="picture">{picture(contract, result.trace)}</div></section>',
            "<section><h2>ledger</h2>",
            _table(("probe", "USD at most", "billed", "status"), [_line(entry) for entry in _ledger(result)]),
            "</section><section><h2>left out</h2>",
            _table(("probe", "why"), [_cells(note.probe, note.why) for note in result.notes]),
            "</section></body></html>",
            "",
        ]
    )


def _summary(result: ServerResult) -> str:
    verdict = _unjudged(result) or ("nothing broken" if result.clean else f"{len(result.broken)} broken")
    budget = "no budget" if result.budget is None else f"of {_money(result.budget)} USD"
    rows = [
        ("verdict", verdict),
        ("rules", ", ".join(f"{count} {word}" for word, count in counted(result.verdicts).items()) or "none judged"),
        ("requests", f"{len(result.trace.exchanges)} in {result.seconds:.1f} s, seed {result.seed}"),
        ("spent at most", f"{_money(result.spent)} USD, {budget}"),
        ("model", result.model),
    ]
    if result.stale:
        rows.append(("stale in the baseline", ", ".join(result.stale)))
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows) + "</dl>"


def _table(names: tuple[str, ...], rows: list[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cells(*values: str) -> str:
    return "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in values) + "</tr>"


def _row(one: Verdict, result: ServerResult) -> str:
    rule, accepted = one.rule, result.accepted.get(one.rule.id)
    name = escape(f"{rule.id} {rule.name}")
    name = f'<a href="#{rule.id}">{name}</a>' if one.breaches else name
    word = one.verdict + (f" (accepted: {accepted})" if accepted else "")
    return (
        f'<tr><td>{name}</td><td>{rule.level}</td><td class="{one.verdict}">{escape(word)}</td>'
        f"<td>{escape(rule.says)}</td></tr>"
    )


def _line(entry: dict[str, Any]) -> str:
    billed = "yes, as far as known" if entry["billed"] else "no"
    return _cells(entry["probe"], entry["price"], billed, str(entry["status"] or "no response"))


def _section(one: Verdict) -> str:
    rule = one.rule
    found = "".join(
        f"<li>{escape(breach.message)}<br>{_places(breach.places)}</li>" for breach in one.breaches[:MOST_TRACE_LINES]
    )
    return (
        f'<section id="{rule.id}"><h2>{rule.id} {escape(rule.name)}</h2><p>{escape(rule.says)}</p>'
        f'<p class="dim">{escape(rule.because)}</p><ul>{found}</ul></section>'
    )


def _places(places: tuple[str, ...]) -> str:
    return " ".join(f"<code>{escape(place)}</code>" for place in places)


def _lessons(result: ServerResult) -> str:
    if not result.lessons:
        return ""
    items = "".join(
        f"<li>{escape(lesson.message)} <span class='dim'>{escape(lesson.rule)}</span><br>{_places(lesson.places)}<br>"
        f"<span class='dim'>assumed: {escape(lesson.why)}</span></li>"
        for lesson in result.lessons
    )
    patch = json.dumps(lessons_patch(result), indent=2, ensure_ascii=False, default=str)
    return (
        "<section><h2>lessons</h2><p>Assumptions of the contract that this endpoint contradicts.</p>"
        f"<ul>{items}</ul><details><summary>patch</summary><pre>{escape(patch)}</pre></details></section>"
    )


def write_server_report(result: ServerResult, contract: Contract, folder: Path) -> None:
    """Write report.json, junit.xml, index.html, lessons.patch.json and trace.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    dump(folder / "report.json", server_report_json(result), default=str)
    dump(folder / "lessons.patch.json", lessons_patch(result), default=str)
    # The callback secret signs real callbacks; the trace may be attached to an issue.
    dump(folder / "trace.json", to_json(replace(result.trace, secret=None)), default=str)
    (folder / "junit.xml").write_bytes(server_junit(result))
    (folder / "index.html").write_text(server_page(result, contract), encoding="utf-8", errors="replace")
