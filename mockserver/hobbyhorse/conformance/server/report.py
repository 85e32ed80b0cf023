"""The result of a server suite run as files: JSON, JUnit, SARIF, Markdown, a patch, and the trace."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.impact import Amount, grouped, headline, money, number_of
from hobbyhorse.conformance.judge import BROKEN, Lesson, Verdict
from hobbyhorse.conformance.page import numbers_in
from hobbyhorse.conformance.report import JUnitSuite, counted, dump, junit, open_verdicts, verdict_json
from hobbyhorse.conformance.reports.sarif import SarifFinding, SarifRun, sarif
from hobbyhorse.conformance.reports.summary import Summary, SummaryRow, counts_in_words, first_line, markdown
from hobbyhorse.conformance.rule import MONEY, Rule
from hobbyhorse.conformance.server.expected import merged_patch
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rules import FAMILIES, family_of
from hobbyhorse.traces.trace import to_json

# Raised when a field of report.json changes or goes, so that readers can refuse a format that they do not know.
SERVER_REPORT_FORMAT = 1
# Messages of a rule in SARIF and Markdown, which show one line for each rule.
MOST_MESSAGES = 3
TRACE = "trace.json"


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
        "budget": None if result.budget is None else money(result.budget),
        "spent_at_most": money(result.spent),
        "clean": result.clean,
        "unjudged": result.unjudged,
        "interrupted": result.interrupted,
        "errors": [str(error) for error in result.errors],
        "rules": counted(result.verdicts),
        "skipped": [{"probe": note.probe, "why": note.why} for note in result.notes],
        "accepted": dict(result.accepted),
        "stale": list(result.stale),
        "headline": server_headline(result),
    }
    return {
        "format": SERVER_REPORT_FORMAT,
        "rules": [_verdict(one, result) for one in result.verdicts],
        "lessons": [_lesson(lesson) for lesson in result.lessons],
        "ledger": list(ledger_json(result)),
        "summary": summary,
    }


def _verdict(one: Verdict, result: ServerResult) -> dict[str, Any]:
    why = {"why": one.why} if one.why is not None else {}
    why |= {"again": again(result, one.rule)} if one.findings else {}
    return verdict_json(one, result.accepted.get(one.rule.id)) | {
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


def ledger_json(result: ServerResult) -> Iterator[dict[str, Any]]:
    """Yield the requests with a price, as JSON."""
    for entry in result.ledger:
        yield {
            "probe": entry.probe,
            "price": money(entry.price),
            "billed": entry.billed,
            "status": entry.status,
            "job": entry.job,
        }


def lessons_patch(result: ServerResult) -> list[dict[str, Any]]:
    """Return the patch that adapts the contract to the endpoint: operations of RFC 6902, each with its file."""
    return merged_patch(operation for lesson in result.lessons for operation in lesson.patch)


def server_headline(result: ServerResult) -> str:
    """Return the first line of the report: the cost of requests that broke rules about money, and the broken rules."""
    count = headline(open_verdicts(result.verdicts, result.accepted), {})
    amounts = server_amounts(result)
    if not amounts:
        return count
    rule = max(amounts, key=lambda rule: amounts[rule].usd)
    return f"{amounts[rule].clause} ({rule}); {count}"


def server_amounts(result: ServerResult) -> dict[str, Amount]:
    """Return the highest prices of the billed requests that broke rules about money, by rule."""
    found: dict[str, Amount] = {}
    exchanges = result.trace.exchanges
    for one in open_verdicts(result.verdicts, result.accepted):
        numbers = numbers_in((breach.message for breach in one.breaches), len(exchanges))
        probes = {exchanges[number - 1].probe for number in numbers}
        prices = [entry.price for entry in result.ledger if entry.billed and entry.price and entry.probe in probes]
        if prices and one.rule.harm == MONEY:
            usd = sum(prices, Decimal(0))
            clause = f"up to {money(usd)} USD billed for {number_of(len(prices), 'request')}"
            found[one.rule.id] = Amount(clause, usd)
    return found


def again(result: ServerResult, rule: Rule) -> str:
    """Return the command that checks a rule again; the key comes from HOBBYHORSE_API_KEY."""
    budget = [] if result.budget is None else ["--budget", money(result.budget)]
    own = ["--provider", result.provider, "--base-url", result.base_url, "--model", result.model]
    words = result.options or (*own, "--seed", str(result.seed), *budget)
    return shlex.join(["hobbyhorse", "conformance", "server", *words, "--rule", rule.id])


def server_junit(result: ServerResult) -> bytes:
    """Return the verdicts as JUnit XML."""
    suite = JUnitSuite(
        name=f"hobbyhorse {result.provider} {result.base_url}",
        seconds=result.seconds,
        accepted=result.accepted,
        stale=result.stale,
        families=FAMILIES,
        error=unfinished(result),
    )
    return junit(suite, result.verdicts)


def unfinished(result: ServerResult) -> str | None:
    """Return why nothing, or not everything, was judged."""
    words = [result.unjudged] if result.unjudged is not None else []
    words += ["the suite was interrupted"] if result.interrupted else []
    return "; ".join([*words, *(f"internal error: {error}" for error in result.errors)]) or None


def server_sarif(result: ServerResult) -> dict[str, Any]:
    """Return the broken rules as SARIF; each is at the recorded traffic, and at the contract's places."""
    run = SarifRun(
        name=f"{result.provider}/{result.base_url}",
        status=result.status,
        headline=server_headline(result),
        error=unfinished(result),
        stale=result.stale,
    )
    findings = [
        SarifFinding(
            rule=one.rule,
            name=one.rule.id,
            message=_few(one),
            file=TRACE,
            places=list(dict.fromkeys(place for breach in one.breaches for place in breach.places)),
            accepted=result.accepted.get(one.rule.id),
        )
        for one in result.verdicts
        if one.verdict == BROKEN
    ]
    return sarif(run, result.verdicts, findings)


def _few(one: Verdict) -> str:
    """Return the first messages of a rule's breaches, and the number of the others."""
    words = [breach.message for breach in one.breaches[:MOST_MESSAGES]]
    more = len(one.breaches) - len(words)
    return "; ".join([*words, *([f"and {more} more"] if more else [])])


def server_summary(result: ServerResult) -> str:
    """Return the result as a short page of Markdown."""
    budget = "without a budget" if result.budget is None else f"of a budget of {money(result.budget)} USD"
    lessons = [f"{len(result.lessons)} lessons about the contract are in the report"] if result.lessons else []
    return markdown(
        Summary(
            verdict=result.unjudged or first_line(server_headline(result), result.stale, unfinished(result)),
            runs=f"{result.base_url} and the contract of {result.provider} ({result.model}): "
            f"{counts_in_words(result.verdicts)}; {len(result.trace.exchanges)} requests, seed {result.seed}; "
            f"at most {money(result.spent)} USD spent, {budget}.",
            notes=[
                *(f"{name} is accepted: {why}" for name, why in result.accepted.items()),
                *(f"{name} is stale in the baseline: remove it" for name in result.stale),
                *lessons,
            ],
            rows=list(_rows(result)),
        )
    )


def _rows(result: ServerResult) -> Iterator[SummaryRow]:
    """Yield the broken rules that the baseline does not accept, in the order of the other reports."""
    amounts = server_amounts(result)
    for group in grouped(open_verdicts(result.verdicts, result.accepted), amounts):
        for one in group.verdicts:
            amount = amounts.get(one.rule.id)
            place = ", ".join(one.breaches[0].places[:1]) or "-"
            cost = None if amount is None else amount.clause
            yield SummaryRow(one.rule, place, _few(one), again(result, one.rule), cost)


def write_server_report(result: ServerResult, folder: Path) -> None:
    """Write report.json, junit.xml, report.sarif, summary.md, lessons.patch.json and trace.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    dump(folder / "report.json", server_report_json(result), default=str)
    dump(folder / "lessons.patch.json", lessons_patch(result), default=str)
    # The callback secret signs real callbacks; the trace may be attached to an issue.
    dump(folder / TRACE, to_json(replace(result.trace, secret=None)), default=str)
    (folder / "junit.xml").write_bytes(server_junit(result))
    dump(folder / "report.sarif", server_sarif(result))
    (folder / "summary.md").write_text(server_summary(result), encoding="utf-8", errors="replace")
