"""docs/rules.md: every rule and the clients that break it, generated from the rules and the last hunt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.rule import SEVERITIES

from .hunt import MOST
from .mutants import MUTANTS, NOT_SHOWN, ROOT, Mutant

PAGE = ROOT / "docs" / "rules.md"
CAUGHT = Path(__file__).with_name("caught.json")
HEAD = """# The rules for clients

The suite checks clients against {count} rules. Each rule would have prevented a real bug; `hobbyhorse rules ID` shows
the bug. Breaking a MUST rule costs the user money, a video or time. The SHOULD rules are good practice.

Severities: S1 is {S1}, S2 {S2}, S3 {S3}, S4 {S4}.

"""
MIDDLE = """
## The clients that break them

A check that has never failed proves nothing. Therefore each rule has at least one client that breaks it on purpose:
a client from [examples/python](../examples/python) with one bug added. The suite must report the rule as broken. The
table shows the number of runs until the suite found the bug, and the faults of that run. A happy server has no faults.

`make mutants` runs each of these clients at most {most} times and regenerates this page. The bugs are in
[mutants.py](../tests/broken_clients/mutants.py), the findings of the last hunt in
[caught.json](../tests/broken_clients/caught.json). The tests replay each finding: the same scenario must still catch
the broken client, and must not accuse the working client.

"""


def caught() -> dict[str, dict[str, Any]]:
    """Return the findings of the last hunt by the names of the mutants."""
    found: dict[str, dict[str, Any]] = json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}
    return found


def case_from(stored: Mapping[str, Any]) -> Case:
    """Return a case that was stored as JSON."""
    return Case(
        stored["scenario"], stored["drill"], stored.get("point", 0), stored.get("order"), stored.get("second", {})
    )


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return docs/rules.md."""
    lines = ["| rule | level | severity | requirement |", "|---|---|---|---|"]
    for rule in rules():
        lines.append(f"| {rule.id} {rule.name} | {rule.level} | {rule.severity} | {_cell(rule.says)} |")
    mutants = ["| rule | the client and its bug | runs | faults | the server |", "|---|---|---|---|---|"]
    mutants += [_row(mutant, found[mutant.name]) for mutant in MUTANTS if mutant.name in found]
    mutants += [f"| {rule} | | | | not shown: {why} |" for rule, why in NOT_SHOWN.items()]
    return (
        HEAD.format(count=len(rules()), **SEVERITIES)
        + "\n".join(lines)
        + "\n"
        + MIDDLE.format(most=MOST)
        + "\n".join([*mutants[:2], *sorted(mutants[2:])])
        + "\n\n"
        + summary(found)
        + "\n"
    )


def summary(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how many mutants were caught, and after how many runs, as a sentence."""
    hits = [one for one in found.values() if one["caught"]]
    shown = {name.rpartition("-")[0] for name, one in found.items() if one["caught"]}
    runs, moves = (sorted(get(one) for one in hits) for get in (_runs, _moves))
    return (
        f"Caught: {len(hits)} of {len(MUTANTS)} broken clients, for {len(shown)} of {len(rules())} rules. Median: "
        f"{median(runs):g} runs, {median(moves):g} faults. Maximum: {max(runs)} runs."
        if hits
        else "Caught: none."
    )


def _runs(one: Mapping[str, Any]) -> int:
    return int(one["runs"])


def _moves(one: Mapping[str, Any]) -> int:
    return case_from(one["drill"]).moves


def _row(mutant: Mutant, one: Mapping[str, Any]) -> str:
    client = f"{mutant.client}: {mutant.bug}"
    if not one["caught"]:
        return f"| {mutant.rule} | {_cell(client)} | {one['runs']} | | **not caught** |"
    case = case_from(one["drill"])
    words = "happy" if str(case) == "a happy server" else str(case)
    return f"| {mutant.rule} | {_cell(client)} | {one['runs']} | {case.moves} | {_cell(words)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
