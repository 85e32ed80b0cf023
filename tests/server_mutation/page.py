"""The page about mutants of the contracts: the counts, the score, and each mutant that was not found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.mutation.page import stored
from tests.mutation.plan import ROOT

from .hunt import FOUND, LESSON, SURVIVED

RESULTS = Path(__file__).with_name("results.json")
INVISIBLE = Path(__file__).with_name("invisible.json")
PAGE = ROOT / "docs" / "server-mutation.md"
# found / (found + lessons + survived + listed), of the documented facts. It may only rise.
LEAST_SCORE = 0.9
# The share of these mutants that may be listed by hand.
MOST_LISTED = 0.1
LISTED = "listed"


def counts(results: Mapping[str, Any], invisible: Mapping[str, str], *, assumed: bool = False) -> Counter[str]:
    """Return how many mutants of documented, or of assumed, facts have each result.

    Mutants that are not found, but listed by hand, count as listed.
    """
    return Counter(
        LISTED if key in invisible and one["result"] != FOUND else one["result"]
        for key, one in results.items()
        if ("assumed" in one) is assumed
    )


def score(results: Mapping[str, Any], invisible: Mapping[str, str]) -> float:
    """Return the share of the mutants of documented facts that were found."""
    number = counts(results, invisible)
    return number[FOUND] / sum(number.values()) if number else 0.0


def share_listed(results: Mapping[str, Any], invisible: Mapping[str, str]) -> float:
    """Return the share of the mutants of documented facts that are listed by hand."""
    number = counts(results, invisible)
    return number[LISTED] / sum(number.values()) if number else 0.0


def page(results: Mapping[str, Any], invisible: Mapping[str, str]) -> str:
    """Return the page in Markdown."""
    number, other = counts(results, invisible), counts(results, invisible, assumed=True)
    return "\n".join(
        [
            "# Mutants of the contracts",
            "",
            "A contract drives both the fake and the server suite. So a contract with one fact changed, served by the",
            "fake and judged with the unchanged contract, is a broken server. `make mutation-servers` changes every",
            "fact that a client can see: each member, status, header and format, each stage and transition, each input",
            "constraint, the keys, ids, prices, links, callbacks and signatures, and the video. A filter in front of",
            "the fake makes the changes that a contract cannot express. The suite runs on each mutant until its",
            "first finding, in time that only its own pauses move. Links and stages last for seconds",
            "on both sides, so that the suite sees them end, and the jobs of one probe fail.",
            "The sample is seeded and stratified by provider, operator, and whether the fact is assumed; it has",
            f"{len(results)} mutants. Their results are kept by a hash of the mutant.",
            "",
            "| result | documented facts | assumed facts |",
            "|---|---|---|",
            f"| found: a rule is broken, or nothing can be judged | {number[FOUND]} | {other[FOUND]} |",
            f"| lesson: the suite blames the contract, not the server | {number[LESSON]} | {other[LESSON]} |",
            f"| survived | {number[SURVIVED]} | {other[SURVIVED]} |",
            f"| listed by hand as invisible | {number[LISTED]} | {other[LISTED]} |",
            "",
            f"Score, of the documented facts: {score(results, invisible):.3f} (at least {LEAST_SCORE}).",
            "A lesson is right only if the fact is assumed. A finding about an assumed fact means that the mutant",
            "contradicts a document, too, such as the schema that the response has in any case.",
            "",
            "| operator | found | lesson | survived | listed |",
            "|---|---|---|---|---|",
            *_operators(results, invisible),
            "",
            "## Not found, although documented",
            "",
            "| provider | operator | change | result | why it may be invisible |",
            "|---|---|---|---|---|",
            *_rows(results, invisible),
            "",
        ]
    )


def _operators(results: Mapping[str, Any], invisible: Mapping[str, str]) -> list[str]:
    """Return the rows of the documented facts' results by operator."""
    rows = []
    for operator in sorted({one["operator"] for one in results.values()}):
        some = {key: one for key, one in results.items() if one["operator"] == operator}
        number = counts(some, invisible)
        rows.append(
            f"| {operator} | " + " | ".join(str(number[one]) for one in (FOUND, LESSON, SURVIVED, LISTED)) + " |"
        )
    return rows


def _rows(results: Mapping[str, Any], invisible: Mapping[str, str]) -> list[str]:
    """Return the rows of the mutants of documented facts that were not found."""
    rows = []
    for key, one in sorted(
        results.items(), key=lambda item: tuple(item[1][name] for name in ("provider", "operator", "place", "change"))
    ):
        if "assumed" in one or one["result"] == FOUND:
            continue
        change = f"{_short(one['place'])}: {one['change']}".replace("|", "∣")
        why = invisible.get(key, "not found yet")
        rows.append(f"| {one['provider']} | {one['operator']} | `{change}` | {one['result']} | {why} |")
    return rows


def _short(place: str) -> str:
    """Return the last steps of a place, which are enough to recognise it."""
    return "/".join(place.rpartition("#")[2].split("/")[-2:])


def known() -> dict[str, Any]:
    """Return the stored results."""
    return stored(RESULTS)
