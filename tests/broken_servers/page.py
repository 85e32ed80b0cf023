"""docs/server-rules.md: every rule for servers, and what broke it; made of the rules and of what the last run found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.client.rule import SEVERITIES
from hobbyhorse.conformance.server.rules import server_rules

from .mutants import MUTANTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "server-rules.md"
CAUGHT = Path(__file__).with_name("caught.json")
HEAD = """# The rules for servers

{count} sentences that [hobbyhorse conformance server](servers.md) holds an endpoint against. MUST is what clients rely
on; SHOULD is what most of them do. S1 is {S1}, S2 {S2}, S3 {S3}, S4 {S4}.

"""
MIDDLE = """
## The servers that break them

A check that has never failed proves nothing. So each rule has a server that breaks it on purpose: ours, with one thing
changed on the way. The suite runs on it and has to say that the rule is broken; or, where the contract only assumes
what the server does otherwise and no document says it, that it is a lesson. The last column has the rules that are
broken with it: whoever gives one id to two orders has a key that two orders share, too. Some of these are seen only
when requests that are sent at once meet, and not in every run.

`make broken-servers` runs the suite on all of them and writes this page anew. The changes are in
[mutants.py](../tests/broken_servers/mutants.py); the tests make them again each time. The suite accuses neither the
server
that they are made of nor [two that share no code with it](../tests/broken_servers/independent.py).

"""


def caught() -> dict[str, dict[str, Any]]:
    """Return what the last run found, by the names of the mutants."""
    found: dict[str, dict[str, Any]] = json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}
    return found


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return docs/server-rules.md."""
    lines = ["| rule | | | what it says |", "|---|---|---|---|"]
    for rule in server_rules():
        lines.append(f"| {rule.id} {rule.name} | {rule.level} | {rule.severity} | {_cell(rule.statement)} |")
    told = ["| rule | the server, and its bug | verdict | with it |", "|---|---|---|---|"]
    for mutant in sorted(MUTANTS, key=lambda mutant: mutant.rule):
        one = found.get(mutant.name, {"caught": False, "word": "not run", "others": []})
        word = one["word"] if one["caught"] else f"**{one['word']}**"
        with_it = ", ".join(one["others"])
        told.append(f"| {mutant.rule} | {_cell(f'{mutant.provider}: {mutant.says}')} | {word} | {with_it} |")
    tables = "\n".join(lines) + "\n" + MIDDLE + "\n".join(told)
    return HEAD.format(count=len(server_rules()), **SEVERITIES) + tables + f"\n\n{summary(found)}\n"


def summary(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how many were caught."""
    hits = [mutant for mutant in MUTANTS if found.get(mutant.name, {}).get("caught")]
    shown = {mutant.rule for mutant in hits}
    lessons = sum(mutant.lesson for mutant in hits)
    return (
        f"Caught: {len(hits)} of {len(MUTANTS)} broken servers, of {len(shown)} of {len(server_rules())} rules; "
        f"{lessons} of them as lessons."
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
