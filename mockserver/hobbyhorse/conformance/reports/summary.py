"""A result as a short page of Markdown, for the summary of a CI job. Knows no suite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, PASSED, Verdict
from hobbyhorse.conformance.report import counted
from hobbyhorse.conformance.rule import HARMS, Rule

# Findings in the table: a reader of a summary opens the report for more.
MOST_ROWS = 20
# Characters of a message or a scenario: about two lines of a table on a wide screen.
MOST_CHARACTERS = 200
# The characters that GitHub's Markdown takes for markup, a link or the end of a cell.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&@$])")


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A finding: its rule, its situation, its message, the command that repeats it (`again`), and its cost if any."""

    rule: Rule
    situation: str
    message: str
    again: str
    cost: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The first line of the report, a sentence about the runs, remarks, and the findings, the gravest ones first."""

    verdict: str
    runs: str
    notes: Sequence[str] = ()
    rows: Sequence[SummaryRow] = ()


def markdown(summary: Summary) -> str:
    """Return a summary as Markdown."""
    rows = summary.rows
    lines = [f"## hobbyhorse: {_escaped(summary.verdict)}", "", _escaped(summary.runs), ""]
    lines += [*(f"* {_escaped(note)}" for note in summary.notes), *([""] if summary.notes else [])]
    if rows:
        lines += [*_table(rows[:MOST_ROWS]), ""]
        if len(rows) > MOST_ROWS:
            lines += [f"{len(rows) - MOST_ROWS} more findings are in the report.", ""]
        lines += ["To repeat the first one:", "", *_fenced(rows[0].again), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def first_line(headline: str, stale: Sequence[str], unfinished: str | None) -> str:
    """Return the headline of a report with the number of stale entries and the reason for an early end."""
    found = f"{headline}, {len(stale)} stale in the baseline" if stale else headline
    return found if unfinished is None else f"{found}; {unfinished}"


def counts_in_words(verdicts: Iterable[Verdict]) -> str:
    """Return the numbers of broken, passed and unobserved rules."""
    words = counted(verdicts)
    return ", ".join(f"{words.get(word, 0)} {word.replace('-', ' ')}" for word in (BROKEN, PASSED, NOT_OBSERVED))


def _table(rows: Sequence[SummaryRow]) -> list[str]:
    cells = [(f"{row.rule.id} {row.rule.name}", _harm(row), row.message, row.situation, row.rule.fix) for row in rows]
    lines = ["| rule | harm | finding | situation | fix |", "|---|---|---|---|---|"]
    return lines + [f"| {' | '.join(_escaped(_short(cell)) for cell in row)} |" for row in cells]


def _harm(row: SummaryRow) -> str:
    words = f"{HARMS[row.rule.harm]}, {row.rule.level}"
    return words if row.cost is None else f"{words}: {row.cost}"


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _escaped(text: str) -> str:
    """Return a text in one line, without markup."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _fenced(command: str) -> list[str]:
    # A fence that is longer than any run of backticks in the command ends after it.
    longest = max((len(found) for found in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}console", command, fence]
