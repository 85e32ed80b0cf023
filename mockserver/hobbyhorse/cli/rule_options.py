"""The options that choose rules, for the commands that judge clients and servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.rule import Rule

RuleOption = Annotated[
    list[str] | None, typer.Option("--rule", metavar="ID", help="Judge only this rule (repeatable).")
]
AllowNotObservedOption = Annotated[
    bool, typer.Option("--allow-not-observed", help="Exit with 0, not 4, if a chosen rule was not observed.")
]


def chosen_rules(rules: Sequence[Rule], names: Sequence[str] | None) -> list[Rule]:
    """Return the rules of the given ids, or all. Raises UsageError."""
    if unknown := sorted(set(names or ()) - {one.id for one in rules}):
        raise UsageError(f"--rule: unknown rule {unknown[0]!r}; `hobbyhorse rules` lists all")
    return [one for one in rules if not names or one.id in names]
