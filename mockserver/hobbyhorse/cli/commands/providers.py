"""`hobbyhorse providers`: the contracts, as tables."""

from __future__ import annotations

from typing import Annotated

import typer

from hobbyhorse.cli.options import ContractsOption, load_contracts, one_of
from hobbyhorse.cli.provider_tables import show_provider, show_providers


def command(
    name: Annotated[str | None, typer.Argument(help="Show everything about this provider.")] = None,
    contracts: ContractsOption = None,
) -> None:
    """List the providers; with a name, show its operations, stages, models and assumptions."""
    loaded = load_contracts(contracts)
    if name is None:
        show_providers(loaded)
    else:
        show_provider(one_of(loaded, name))
