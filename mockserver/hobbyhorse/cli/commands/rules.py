"""`hobbyhorse rules`: the rules for clients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.rule import CHANNELS, HARMS, SEVERITIES, Rule


def command(
    rule: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Explain this rule, or list this family, such as SUB.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List the rules for clients; with an id, explain one."""
    found = [one for one in rules() if rule is None or one.id == rule.upper() or one.family == rule.upper()]
    if not found:
        raise UsageError(f"unknown rule {rule!r}; `hobbyhorse rules` lists all")
    if as_json:
        typer.echo(json.dumps([_rule_json(one) for one in found]))
    elif len(found) == 1:
        _show_rule(found[0])
    else:
        _list_rules(found)


def _rule_json(rule: Rule) -> dict[str, str]:
    return {
        "id": rule.id,
        "name": rule.name,
        "level": rule.level,
        "severity": rule.severity,
        "channel": rule.channel,
        "statement": rule.says,
        "why": rule.because,
        "harm": rule.harm,
        "fix": rule.fix,
    }


def _list_rules(found: Sequence[Rule]) -> None:
    """Print each rule; in one line if stdout is not a terminal, so that grep shows a whole rule."""
    console = Console(highlight=False)
    for rule in found:
        head = f"{rule.id} {rule.name}"
        if not console.is_terminal:
            console.print(
                f"{head} ({rule.level}, {rule.severity}, {rule.channel}): {escape(rule.says)}", soft_wrap=True
            )
            continue
        console.print(f"[bold]{head}[/bold] [dim]{rule.level}, {SEVERITIES[rule.severity]}, {rule.channel}[/dim]")
        console.print(Padding(escape(rule.says), (0, 0, 0, 2)))


def _show_rule(rule: Rule) -> None:
    """Print everything about a rule."""
    console = Console(highlight=False, soft_wrap=False)
    console.print(f"[bold]{rule.id} {rule.name}[/bold]")
    console.print(escape(rule.says))
    console.print(f"\nwhy       {escape(rule.because)}")
    console.print(f"fix       {escape(rule.fix)}")
    console.print(f"level     {rule.level}")
    console.print(f"severity  {rule.severity}: {SEVERITIES[rule.severity]}")
    console.print(f"harm      {HARMS[rule.harm].lower()}")
    console.print(f"channel   {rule.channel}: judged from {CHANNELS[rule.channel]}")
    if rule.timing:
        console.print("timing    a finding counts only if it occurs in three runs out of three")
