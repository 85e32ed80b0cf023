"""Writes docs/server-rules.md: every rule for servers, and the broken servers that the last run caught."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.rule import SEVERITIES
from hobbyhorse.conformance.server.rules import server_rules

from .mutants import MUTANTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "server-rules.md"
CAUGHT = Path(__file__).with_name("caught.json")
HEAD = """# The rules for servers

[hobbyhorse conformance server](servers.md) checks an endpoint against {count} rules. Clients rely on the MUST rules;
the SHOULD rules are common practice. Severities: S1 is {S1}, S2 {S2}, S3 {S3}, S4 {S4}.

"""
MIDDLE = """
## The servers that break them

A check that has never failed proves nothing. Therefore each rule has at least one server that breaks it on purpose:
hobbyhorse's own server with one bug added. The suite must report the rule as broken. If the contract only assumes the
fact that the server contradicts, without documentation, the verdict must be `lesson` instead. The last column lists
other rules that the same bug breaks. For example, a server that ignores idempotency keys breaks all three rules about
keys. Some of these depend on how concurrent requests overlap, and do not appear in every run.

`make broken-servers` runs the suite on all these servers and regenerates this page. The bugs are in
[mutants.py](../tests/broken_servers/mutants.py); the tests repeat them in each run. The suite reports no broken rule
for the unchanged server, or for [two servers that share no code with it](../tests/broken_servers/independent.py).

"""


def caught() -> dict[str, dict[str, Any]]:
    """Return the results of the last run, by mutant name."""
    found: dict[str, dict[str, Any]] = json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}
    return found


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return docs/server-rules.md."""
    lines = ["| rule | level | severity | requirement |", "|---|---|---|---|"]
    for rule in server_rules():
        lines.append(f"| {rule.id} {rule.name} | {rule.level} | {rule.severity} | {_cell(rule.says)} |")
    broken = ["| rule | the server and its bug | verdict | also broken |", "|---|---|---|---|"]
    for mutant in sorted(MUTANTS, key=lambda mutant: mutant.rule):
        one = found.get(mutant.name, {"caught": False, "word": "not run", "others": []})
        word = one["word"] if one["caught"] else f"**{one['word']}**"
        also_broken = ", ".join(one["others"])
        broken.append(f"| {mutant.rule} | {_cell(f'{mutant.provider}: {mutant.bug}')} | {word} | {also_broken} |")
    tables = "\n".join(lines) + "\n" + MIDDLE + "\n".join(broken)
    return HEAD.format(count=len(server_rules()), **SEVERITIES) + tables + f"\n\n{summary(found)}\n"


def summary(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how many broken servers were caught, as a sentence."""
    hits = [mutant for mutant in MUTANTS if found.get(mutant.name, {}).get("caught")]
    shown = {mutant.rule for mutant in hits}
    lessons = sum(mutant.lesson for mutant in hits)
    return (
        f"Caught: {len(hits)} of {len(MUTANTS)} broken servers, {lessons} of them as lessons; "
        f"they break {len(shown)} of {len(server_rules())} rules."
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
