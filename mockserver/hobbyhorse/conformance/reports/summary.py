"""A result as a short page of Markdown, for the summary of a CI job. Knows no suite."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hobbyhorse.conformance.rule import SEVERITIES, Rule

# Findings in the table: a reader of a summary opens the report for more.
MOST_ROWS = 20
# Characters of a message or a scenario: about two lines of a table on a wide screen.
MOST_CHARACTERS = 200
# The severity of the rules about money and security.
GRAVEST = "S1"
# The characters that GitHub's Markdown takes for markup, a link or the end of a cell.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&@$])")


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A finding: its rule, its situation, its message, and the command that repeats it (`again`)."""

    rule: Rule
    situation: str
    message: str
    again: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A verdict in a few words, a sentence about the runs, a sentence about the money, remarks, and the findings."""

    verdict: str
    runs: str
    money: str | None = None
    notes: Sequence[str] = ()
    rows: Sequence[SummaryRow] = ()


def markdown(summary: Summary) -> str:
    """Return a summary as Markdown. Findings are in the order of severity, money and security first."""
    rows = sorted(summary.rows, key=lambda row: row.rule.severity)
    lines = [f"## hobbyhorse: {_escaped(summary.verdict)}", "", _escaped(summary.runs), ""]
    if summary.money is not None:
        lines += [f"**{_escaped(summary.money)}**", ""]
    lines += [*(f"* {_escaped(note)}" for note in summary.notes), *([""] if summary.notes else [])]
    if rows:
        lines += [*_table(rows[:MOST_ROWS]), ""]
        if len(rows) > MOST_ROWS:
            lines += [f"{len(rows) - MOST_ROWS} more findings are in the report.", ""]
        lines += ["To repeat the first one:", "", *_fenced(rows[0].again), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def found_in_words(broken: int, stale: int) -> str:
    """Return the numbers of broken rules and of stale entries of the baseline."""
    words = [f"{broken} rule{'s' if broken != 1 else ''} broken" if broken else "no finding"]
    return ", ".join([*words, *([f"{stale} stale in the baseline"] if stale else [])])


def about_gravest(rows: Sequence[SummaryRow]) -> str:
    """Return a sentence that names the broken rules about money and security."""
    gravest = list(dict.fromkeys(row.rule.id for row in rows if row.rule.severity == GRAVEST))
    broken = f"broken: {', '.join(gravest)}" if gravest else "no rule broken"
    return f"{SEVERITIES[GRAVEST].capitalize()}: {broken}"


def _table(rows: Sequence[SummaryRow]) -> list[str]:
    cells = [
        (
            f"{row.rule.id} {row.rule.name}",
            f"{row.rule.level}, {SEVERITIES[row.rule.severity]}",
            row.message,
            row.situation,
        )
        for row in rows
    ]
    lines = ["| rule | severity | finding | situation |", "|---|---|---|---|"]
    return lines + [f"| {' | '.join(_escaped(_short(cell)) for cell in row)} |" for row in cells]


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
