"""The page about mutants of correct clients: the counts, and each survivor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.mutation.page import stored
from tests.mutation.plan import ROOT

from .hunt import EQUIVALENT, FOUND, SURVIVED, UNTESTABLE

RESULTS = Path(__file__).with_name("results.json")
BY_HAND = Path(__file__).with_name("equivalent.json")
PAGE = ROOT / "docs" / "client-mutation.md"
# found / (found + survived + equivalent by hand). It may only rise.
LEAST_SCORE = 0.9
# The share of these mutants that may be listed by hand.
MOST_BY_HAND = 0.1


def counts(results: Mapping[str, Any], by_hand: Mapping[str, str]) -> Counter[str]:
    """Return how many mutants have each result; survivors that are listed by hand count as `listed`."""
    return Counter("listed" if key in by_hand else one["result"] for key, one in results.items())


def score(results: Mapping[str, Any], by_hand: Mapping[str, str]) -> float:
    """Return the share of mutants found among those that change what a client does."""
    found = counts(results, by_hand)
    judged = found[FOUND] + found[SURVIVED] + found["listed"]
    return found[FOUND] / judged if judged else 0.0


def page(results: Mapping[str, Any], by_hand: Mapping[str, str]) -> str:
    """Return the page in Markdown."""
    number = counts(results, by_hand)
    rows = [
        f"| {one['path'].rpartition('/')[2]}:{one['line']} | `{one['change'].replace('|', '∣')}` | "
        f"{by_hand.get(key, 'not found yet')} |"
        for key, one in sorted(results.items(), key=lambda item: (item[1]["path"], item[1]["line"]))
        if one["result"] == SURVIVED
    ]
    return "\n".join(
        [
            "# Mutants of correct clients",
            "",
            "`make mutation-clients` changes correct clients in one place at a time: a comparison, a boolean, a",
            "number, an exception class, a statement or keyword argument left out. A number that is large, a fraction",
            "or a scale (a factor, a base, a setting) changes by a factor of a hundred, because a sixth try is as",
            "right as a fifth; any other by one. The suite runs on each mutant until its first finding. A mutant that",
            "survives shows a rule, a scenario or an observation that is missing, unless nobody could see the change.",
            "",
            "| result | mutants |",
            "|---|---|",
            f"| found by a rule | {number[FOUND]} |",
            f"| could not be tested (no video from a server without faults, or no end) | {number[UNTESTABLE]} |",
            f"| equivalent: the same requests, times and outcomes in 500 runs | {number[EQUIVALENT]} |",
            f"| survived, but listed with a reason | {number['listed']} |",
            f"| survived | {number[SURVIVED]} |",
            "",
            f"Score: {score(results, by_hand):.3f} (at least {LEAST_SCORE}).",
            "",
            "| place | change | why it may survive |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def known() -> dict[str, Any]:
    """Return the stored results."""
    return stored(RESULTS)
