"""The result of a server suite run as one HTML page: the worst cost first, then the findings by harm.

Each finding quotes the contract and shows the requests that it is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hobbyhorse.conformance.impact import grouped, money, price_note
from hobbyhorse.conformance.judge import Verdict
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
    rule_head,
    rules_part,
    table,
)
from hobbyhorse.conformance.promise import promise_at
from hobbyhorse.conformance.report import counted, open_verdicts
from hobbyhorse.conformance.rule import Breach
from hobbyhorse.conformance.server.report import (
    again,
    ledger_json,
    lessons_patch,
    server_amounts,
    server_headline,
    unfinished,
)
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.timeline import timeline

# A server that breaks a rule breaks it in every response; after twenty findings nothing new is learned.
MOST_BREACHES = 20
# Requests that a finding shows; each is a row with its bodies.
MOST_REQUESTS = 6
# Places that a breach quotes: the most specific ones come first.
MOST_PLACES = 3


def write_server_page(result: ServerResult, contract: Contract, folder: Path) -> None:
    """Write index.html into a folder."""
    (folder / "index.html").write_text(server_page(result, contract), encoding="utf-8", errors="replace")


def server_page(result: ServerResult, contract: Contract) -> str:
    """Return the report as one self-contained HTML page."""
    return _ServerPage(result, contract).text()


@dataclass(frozen=True, slots=True)
class _ServerPage:
    result: ServerResult
    contract: Contract

    def text(self) -> str:
        """Return the page."""
        result = self.result
        broken = open_verdicts(result.verdicts, result.accepted)
        amounts = server_amounts(result)
        groups = grouped(broken, amounts)
        accepted = [one for one in result.verdicts if one.rule.id in result.accepted and one.findings]
        why = unfinished(result)
        head = f"Not everything was judged: {why}" if why is not None and not broken else server_headline(result)
        return document(
            f"{result.base_url} and the contract of {self.contract.name}",
            "Server report of hobbyhorse",
            [
                headline_part(head, result.clean, price_note(self.contract) if broken else None),
                overview_part(groups, amounts),
                self._summary(),
                harm_filter(groups),
                *(harm_section(group, map(self._finding, group.verdicts)) for group in groups),
                self._accepted(accepted),
                self._lessons(),
                rules_part(result.verdicts, list(result.accepted.items())),
                self._requests(),
                self._ledger(),
            ],
        )

    def _summary(self) -> str:
        result = self.result
        budget = "no budget" if result.budget is None else f"of {money(result.budget)} USD"
        why = unfinished(result)
        rows = [
            *(("not finished", reason) for reason in (why,) if reason is not None),
            (
                "rules",
                ", ".join(f"{count} {word}" for word, count in counted(result.verdicts).items()) or "none judged",
            ),
            ("requests", f"{len(result.trace.exchanges)} in {result.seconds:.1f} s, seed {result.seed}"),
            ("spent at most", f"{money(result.spent)} USD, {budget}"),
            ("model", result.model),
            ("documents", "; ".join(self.contract.documents) or "none named"),
        ]
        if result.stale:
            rows.append(("stale in the baseline", ", ".join(result.stale)))
        return facts(rows)

    def _finding(self, one: Verdict) -> str:
        rule, trace = one.rule, self.result.trace
        breaches = one.breaches[:MOST_BREACHES]
        named = numbers_in((breach.message for breach in breaches), len(trace.exchanges))
        shown = frozenset(sorted(named)[:MOST_REQUESTS])
        amount = server_amounts(self.result).get(rule.id)
        rows = timeline(self.contract, trace, shown, prefix=rule.id, only=True) if shown else ""
        left = len(one.breaches) - len(breaches)
        return "\n".join(
            [
                f'<article id="{rule.id}">{rule_head(rule)}',
                f'<p class="cost">{escape(amount.clause)}</p>' if amount is not None else "",
                f"<h4>Found</h4><ul>{''.join(self._breach(one, breach, shown) for breach in breaches)}</ul>",
                f"<p>and {left} more</p>" if left else "",
                fix_part(rule, self.contract),
                f"<h4>Requests</h4>{rows}" if rows else "",
                f"<h4>Run it again</h4><p>With the key in <code>HOBBYHORSE_API_KEY</code>: "
                f"<code>{escape(again(self.result, rule))}</code></p>",
                folded_part("Why this is a rule", rule.because),
                "</article>",
            ]
        )

    def _breach(self, one: Verdict, breach: Breach, shown: frozenset[int]) -> str:
        quotes = "".join(f"<li>{part}</li>" for part in self._quotes(breach))
        inner = f"<ul>{quotes}</ul>" if quotes else ""
        return f"<li>{linked(breach.message, one.rule.id, shown)}{inner}</li>"

    def _quotes(self, breach: Breach) -> Iterator[str]:
        """Yield the contract's words at the places that a breach rests on."""
        for place in breach.places[:MOST_PLACES]:
            found = promise_at(self.contract, place)
            words = [f"<q>{escape(found.sentence)}</q>"] if found.sentence is not None else []
            words += [f"<code>{escape(found.value)}</code>"] if found.value is not None else []
            words += [f'<span class="dim">assumed: {escape(found.assumed)}</span>'] if found.assumed is not None else []
            yield " ".join([*words, f'<code class="dim">{escape(place)}</code>'])

    def _accepted(self, verdicts: list[Verdict]) -> str:
        parts = [
            f"<p><strong>{one.rule.id}</strong>: {escape(self.result.accepted[one.rule.id])}</p>{self._finding(one)}"
            for one in verdicts
        ]
        return f"<section><h2>Accepted in the baseline</h2>{''.join(parts)}</section>" if parts else ""

    def _lessons(self) -> str:
        if not self.result.lessons:
            return ""
        items = "".join(
            f"<li>{escape(lesson.message)} <span class='dim'>({escape(lesson.rule)})</span><br>"
            f"<code>{escape(', '.join(lesson.places))}</code> "
            f"<span class='dim'>assumed: {escape(lesson.why)}</span></li>"
            for lesson in self.result.lessons
        )
        patch = json.dumps(lessons_patch(self.result), indent=2, ensure_ascii=False, default=str)
        return (
            "<section><h2>Lessons</h2><p>The contract assumes these facts without a document, and this endpoint "
            f"contradicts them.</p><ul>{items}</ul>{folded_part('Patch of the contract', patch)}</section>"
        )

    def _requests(self) -> str:
        rows = timeline(self.contract, self.result.trace)
        summary = f"{len(self.result.trace.exchanges)} requests"
        inner = f"<details><summary>{summary}</summary>{rows}</details>" if rows else "<p>none</p>"
        return f"<section><h2>All requests</h2>{inner}</section>"

    def _ledger(self) -> str:
        lines = [
            cells(
                entry["probe"],
                entry["price"],
                "yes, as far as known" if entry["billed"] else "no",
                str(entry["status"] or "no response"),
            )
            for entry in ledger_json(self.result)
        ]
        left_out = table(("probe", "why"), [cells(note.probe, note.why) for note in self.result.notes])
        ledger = table(("probe", "USD at most", "billed", "status"), lines)
        return (
            f"<section><h2>Cost of this run</h2><details><summary>{len(lines)} requests with a price</summary>{ledger}"
            f"</details></section><section><h2>Left out</h2><details><summary>{len(self.result.notes)} probes</summary>"
            f"{left_out}</details></section>"
        )
