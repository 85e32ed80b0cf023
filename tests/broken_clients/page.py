"""docs/rules.md: every rule, and what broke it; made of the rules and of what the last hunt found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.rule import SEVERITIES
from hobbyhorse.conformance.client.rules import rules

from .hunt import MOST
from .mutants import MUTANTS, NOT_SHOWN, ROOT, Mutant

PAGE = ROOT / "docs" / "rules.md"
CAUGHT = Path(__file__).with_name("caught.json")
HEAD = """# The rules for clients

{count} sentences, each behind a bug that somebody has paid for. `hobbyhorse rules ID` tells everything about one. MUST
is what a client owes whoever pays for it; SHOULD is what a careful one does. S1 is {S1}, S2 {S2}, S3 {S3},
S4 {S4}.

"""
MIDDLE = """
## The clients that break them

A check that has never failed proves nothing. So each rule has a client that breaks it on purpose: one of those in
[examples/python](../examples/python), changed in one place as the bug behind the rule would have it. The suite runs
on it as it would on yours, and has to say that the rule is broken. The table says after how many runs it did, with how
many moves of the server, and which; a happy server does everything right.

`make mutants` runs the suite on all of them, at most {most} times each, and writes this page anew. The changes are in
[mutants.py](../tests/broken_clients/mutants.py), what the last hunt found is in
[caught.json](../tests/broken_clients/caught.json),
and the tests play it again: what caught a broken client catches it still, and does not accuse the client that it was
made of.

"""


def caught() -> dict[str, dict[str, Any]]:
    """Return what the last hunt found, by the names of the mutants."""
    found: dict[str, dict[str, Any]] = json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}
    return found


def drill_from(said: Mapping[str, Any]) -> Case:
    """Return a drill that was kept as JSON."""
    return Case(said["scenario"], said["drill"], said.get("point", 0))


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return docs/rules.md."""
    lines = ["| rule | | | what it asks |", "|---|---|---|---|"]
    for rule in rules():
        lines.append(f"| {rule.id} {rule.name} | {rule.level} | {rule.severity} | {_cell(rule.statement)} |")
    told = ["| rule | the client, and its bug | runs | moves | the server |", "|---|---|---|---|---|"]
    told += [_row(mutant, found[mutant.name]) for mutant in MUTANTS if mutant.name in found]
    told += [f"| {rule} | | | | not shown: {why} |" for rule, why in NOT_SHOWN.items()]
    return (
        HEAD.format(count=len(rules()), **SEVERITIES)
        + "\n".join(lines)
        + "\n"
        + MIDDLE.format(most=MOST)
        + "\n".join(sorted(told[2:]) and [*told[:2], *sorted(told[2:])])
        + "\n\n"
        + summary(found)
        + "\n"
    )


def summary(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how many were caught, and how."""
    hits = [one for one in found.values() if one["caught"]]
    shown = {name.rpartition("-")[0] for name, one in found.items() if one["caught"]}
    runs, moves = (sorted(get(one) for one in hits) for get in (_runs, _moves))
    return (
        f"Caught: {len(hits)} of {len(MUTANTS)} broken clients, of {len(shown)} of {len(rules())} rules. In the middle "
        f"(median) after {median(runs):g} runs, by {median(moves):g} moves; at most after {max(runs)} runs."
        if hits
        else "Caught: none."
    )


def _runs(one: Mapping[str, Any]) -> int:
    return int(one["runs"])


def _moves(one: Mapping[str, Any]) -> int:
    return drill_from(one["drill"]).moves


def _row(mutant: Mutant, one: Mapping[str, Any]) -> str:
    client = f"{mutant.client}: {mutant.bug}"
    if not one["caught"]:
        return f"| {mutant.rule} | {_cell(client)} | {one['runs']} | | **not caught** |"
    drill = drill_from(one["drill"])
    words = "happy" if str(drill) == "a happy server" else str(drill)
    return f"| {mutant.rule} | {_cell(client)} | {one['runs']} | {drill.moves} | {_cell(words)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
