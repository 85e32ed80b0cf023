"""`hobbyhorse scenarios`: the catalogue of scenarios, and the faults that a scenario can have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from hobbyhorse.cli.options import ContractsOption, load_contracts, load_scenarios, one_of, scenarios_option
from hobbyhorse.cli.tables import plain_table
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.scenarios import reference
from hobbyhorse.scenarios.fault import FAULT
from hobbyhorse.scenarios.scenario import Scenario, ScenarioError, find, misfits


def command(
    name: Annotated[str | None, typer.Argument(help="Show everything about this scenario.")] = None,
    *,
    directories: Annotated[list[Path] | None, scenarios_option()] = None,
    provider: Annotated[str | None, typer.Option(metavar="P", help="Show only scenarios that fit provider P.")] = None,
    faults: Annotated[bool, typer.Option("--faults", help="List the faults that a scenario can have.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    contracts: ContractsOption = None,
) -> None:
    """List the scenarios that can be armed; with a name, show one."""
    if faults:
        if name is not None or provider is not None:
            raise UsageError("--faults lists the faults of all scenarios; give neither NAME nor --provider with it")
        _list_faults(as_json)
        return
    loaded = load_contracts(contracts)
    if provider is not None:
        loaded = [one_of(loaded, provider)]
    catalogue = load_scenarios(directories or ())
    if name is not None:
        try:
            scenario = find(catalogue, name)
        except ScenarioError as error:
            raise UsageError(f"{error}; `hobbyhorse scenarios` lists all") from None
        _show_scenario(scenario, {contract.key: misfits(scenario, contract) for contract in loaded}, as_json)
        return
    fits = {
        scenario: [contract.key for contract in loaded if not misfits(found, contract)]
        for scenario, found in catalogue.items()
    }
    # Without --provider, a scenario that fits none is listed too: its author looks for the reason.
    found = [(catalogue[scenario], keys) for scenario, keys in fits.items() if keys or provider is None]
    if as_json:
        listed = [{"name": scenario.name, "why": scenario.why, "providers": keys} for scenario, keys in found]
        typer.echo(json.dumps({"scenarios": listed}))
        return
    _list_scenarios(found)


def _list_scenarios(found: Sequence[tuple[Scenario, Sequence[str]]]) -> None:
    """Print one line for each scenario: its name, the providers that it fits, the bug that it reproduces."""
    console = Console(highlight=False)
    if not console.is_terminal:  # for grep and cut, which a table with wrapped cells would defeat
        for scenario, fits in found:
            print(f"{scenario.name}\t{', '.join(fits) or 'none'}\t{scenario.why}")
        return
    table = plain_table("scenario", "fits", "why")
    for scenario, fits in found:
        table.add_row(scenario.name, ", ".join(fits) or "none", scenario.why)
    console.print(table)
    console.print(f"{len(found)} scenarios. `hobbyhorse scenarios NAME` shows everything about one.")


def _list_faults(as_json: bool) -> None:
    """Print one line for each fault: its place, its name, its options with their defaults, and its effect."""
    listed = reference.listing()
    if as_json:
        typer.echo(json.dumps({"faults": listed}))
        return
    rows = []
    for fault in listed:
        options = ", ".join(f"{option} ({found['usual']})" for option, found in fault["options"].items())
        variation = "" if fault["kind"] == FAULT else f" ({fault['kind']})"
        rows.append((fault["place"], fault["name"], options, (fault["effect"] + variation).replace("`", "")))
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = plain_table("place", "fault", "options (defaults)", "effect")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"{len(rows)} faults. docs/scenarios.md explains the options.")


def _show_scenario(scenario: Scenario, reasons: Mapping[str, Sequence[str]], as_json: bool) -> None:
    """Print a scenario as it stands in its file, and for each provider `fits` or the reasons against it."""
    if as_json:
        facts = {"name": scenario.name, "why": scenario.why, "scenario": scenario.to_json(), "misfits": reasons}
        fits = [provider for provider, found in reasons.items() if not found]
        typer.echo(json.dumps({**facts, "providers": fits}))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(scenario.name)}[/bold]: {escape(scenario.why)}")
    shown = {name: value for name, value in scenario.to_json().items() if name != "why"}
    console.print(escape(json.dumps(shown, indent=2)))
    for provider, found in reasons.items():
        console.print(escape(f"  {provider}: {'; '.join(found) or 'fits'}"))
