"""A result as one HTML page: the worst cost first, the findings by harm, each with its fix and its time line.

Knows no server.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hobbyhorse.conformance.client.cases import case_of
from hobbyhorse.conformance.client.report import file_names, preconditions, replay_command
from hobbyhorse.conformance.client.results import Result, is_accepted, why_accepted
from hobbyhorse.conformance.impact import Cost, amounts_of, cost_of, costs_of, grouped, headline, price_note
from hobbyhorse.conformance.judge import Finding, Verdict
from hobbyhorse.conformance.page import (
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
)
from hobbyhorse.conformance.report import counted, open_verdicts
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.timeline import timeline
from hobbyhorse.traces.trace import KEY, Trace

# Messages and curl lines of a finding: the rest repeats them, and is in the trace's file.
MOST_LINES = 12


def write_page(result: Result, folder: Path, *contracts: Contract) -> None:
    """Write index.html into a folder. `contracts` belong to the client's providers."""
    # A client's name or message may contain lone surrogates, which UTF-8 cannot encode.
    text = page(result, *contracts, folder=folder)
    (folder / "index.html").write_text(text, encoding="utf-8", errors="replace")


def page(result: Result, *contracts: Contract, folder: Path | None = None) -> str:
    """Return the page. `contracts` belong to the client's providers, `folder` is the report's."""
    return _ClientPage(result, contracts, folder, costs_of(contracts, result.verdicts)).text()


@dataclass(frozen=True, slots=True)
class _ClientPage:
    result: Result
    contracts: Sequence[Contract]
    folder: Path | None
    costs: Mapping[str, Cost]

    def text(self) -> str:
        """Return the page."""
        result, name = self.result, " and ".join(one.name for one in self.contracts)
        broken = open_verdicts(result.verdicts, result.accepted)
        amounts = amounts_of(self.costs)
        groups = grouped(broken, amounts)
        accepted = [(one, *named) for one in result.verdicts for named in file_names(one) if self._accepted(named[1])]
        is_clean = result.clean and result.unfit is None
        return document(
            f"{result.client} as a client of {name}",
            "Client report of hobbyhorse",
            [
                headline_part(
                    headline(broken, self.costs), is_clean, price_note(self.contracts[0]) if broken else None
                ),
                overview_part(groups, amounts),
                _summary(result),
                harm_filter(groups),
                *(harm_section(group, map(self._rule, group.verdicts)) for group in groups),
                f"<section><h2>Accepted in the baseline</h2>{''.join(map(self._known, accepted))}</section>"
                if accepted
                else "",
                rules_part(result.verdicts, list(result.accepted.items())),
                _coverage(result),
            ],
        )

    def _accepted(self, finding: Finding) -> bool:
        return is_accepted(finding, self.result.accepted)

    def _rule(self, one: Verdict) -> str:
        """Return the findings of a rule that are not accepted; `one` may have lost its accepted ones."""
        whole = next(verdict for verdict in self.result.verdicts if verdict.rule.id == one.rule.id)
        shown = [(name, finding) for name, finding in file_names(whole) if not self._accepted(finding)]
        return "".join(self._finding(one, name, finding) for name, finding in shown)

    def _known(self, known: tuple[Verdict, str, Finding]) -> str:
        one, name, finding = known
        reason = why_accepted(finding, self.result.accepted) or ""
        return f"<p><strong>{escape(finding.name)}</strong>: {escape(reason)}</p>" + self._finding(one, name, finding)

    def _finding(self, one: Verdict, name: str, finding: Finding) -> str:
        case, messages = case_of(finding.trace), finding.messages[:MOST_LINES]
        named = numbers_in(messages, len(finding.trace.exchanges))
        found = "".join(f"<li>{linked(message, name, named)}</li>" for message in messages)
        cost = cost_of(self.contracts, one.rule, finding)
        doing = f" (during {finding.during})" if finding.during is not None else ""
        only = "".join(f"<li>{escape(sentence)}</li>" for sentence in preconditions(finding))
        again = replay_command(self.result, name, self.folder)
        return "\n".join(
            [
                f'<article id="{name}">{rule_head(one.rule, doing)}',
                f'<p class="cost">{escape(str(cost))}</p>' if cost is not None else "",
                f"<h4>Found</h4><p>Against <strong>{escape(str(case))}</strong>:</p><ul>{found}</ul>",
                f"<ul>{only}</ul>" if only else "",
                fix_part(one.rule, self.contracts[0]),
                *self._timelines(finding.trace, named, name),
                f"<h4>Run it again</h4><p><code>{escape(again)}</code></p>",
                folded_part("Why this is a rule", one.rule.because),
                folded_part("The scenario", json.dumps(case.to_json(), indent=2, ensure_ascii=False)),
                folded_part("The requests", "\n".join(curls(finding.trace))),
                "</article>",
            ]
        )

    def _timelines(self, trace: Trace, named: frozenset[int], prefix: str) -> Iterator[str]:
        """Yield the time line of a trace; if the client has two providers, one for each, with its name."""
        halves = (trace,) if trace.partner is None else (trace, trace.partner)
        for half in sorted(halves, key=lambda one: one.rank):
            contract = next(one for one in self.contracts if one.key == half.provider)
            title = "Time line" if trace.partner is None else f"Time line: {contract.name}"
            # Messages name the requests of the judged half.
            shown = named if half is trace else frozenset[int]()
            yield f"<h4>{escape(title)}</h4>{timeline(contract, half, shown, prefix=prefix)}"


def _summary(result: Result) -> str:
    met = result.coverage
    rows = [
        *(("interrupted", "only the runs until then were judged") for _ in range(result.interrupted)),
        *(("internal error", str(error)) for error in result.errors),
        *(("not tested further", reason) for reason in (result.unfit,) if reason is not None),
        ("rules", ", ".join(f"{count} {word}" for word, count in counted(result.verdicts).items())),
        ("runs", f"{result.runs} in {result.seconds:.1f} s, seed {result.seed}"),
        ("single faults", f"{met.met} of {met.total} met"),
        ("model", result.model),
        *(("note", note) for note in result.notes),
    ]
    if result.stale:
        rows.append(("stale in the baseline", ", ".join(result.stale)))
    return facts(rows)


def _coverage(result: Result) -> str:
    met = result.coverage
    left = [(met.unmet, "that the client did not meet"), (met.untried, "without a run left for them")]
    parts = "".join(_faults(names, which) for names, which in left if names)
    return f"<section><h2>Faults</h2>{parts}</section>" if parts else ""


def _faults(names: Sequence[str], which: str) -> str:
    items = "".join(f"<li><code>{escape(name)}</code></li>" for name in names)
    return f"<details><summary>{len(names)} single faults {which}</summary><ul>{items}</ul></details>"


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
