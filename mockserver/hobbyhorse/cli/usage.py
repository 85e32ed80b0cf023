"""What the commands share: the mistakes of their users, and the contracts that they name."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.server.files.cache import user_directory

ContractsOption = Annotated[
    Path | None, typer.Option("--contracts", metavar="DIR", help="Read the contracts from here instead.")
]
ProviderOption = Annotated[str, typer.Option("--provider", metavar="P", help="Whose contract; see `providers`.")]
ModelOption = Annotated[str | None, typer.Option("--model", metavar="M", help="Which model; the provider's first one.")]
ReportOption = Annotated[Path | None, typer.Option("--report", metavar="DIR", help="Write the report here.")]
BaselineOption = Annotated[
    Path | None,
    typer.Option("--baseline", metavar="FILE", help="Findings that are accepted: JSON, from a rule to the reason."),
]


class UsageError(Exception):
    """Something that the user has to change: one line, exit status 2."""


def load_contracts(directory: Path | None, variants: list[str] | None = None) -> list[Contract]:
    """Load the contracts; somebody's own are linted first."""
    chosen: dict[str, list[str]] = {}
    for text in variants or ():
        provider, mark, name = text.partition(":")
        if not mark:
            raise UsageError(f"--variant {text!r}; it is PROVIDER:NAME, see `hobbyhorse providers NAME`")
        chosen.setdefault(provider, []).append(name)
    if directory is not None:
        from hobbyhorse.contract.lint import lint_directory  # noqa: PLC0415 - only for contracts of one's own

        _, problems = lint_directory(directory)
        if problems:
            more = f" (and {len(problems) - 1} more: hobbyhorse contracts lint {directory})" if problems[1:] else ""
            raise UsageError(f"{problems[0]}{more}")
    return load_all(directory, chosen)


def keep_hypothesis_away() -> None:
    """Have Hypothesis keep what it stores in the user's cache, not in the directory that a command is run in."""
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(user_directory() / "hypothesis"))


def one_of(contracts: list[Contract], name: str) -> Contract:
    """Return the contract of a name. Raises Wrong."""
    found = next((contract for contract in contracts if contract.key.lower() == name.lower()), None)
    if found is None:
        keys = [contract.key for contract in contracts]
        near = difflib.get_close_matches(name.lower(), keys, 1)
        raise UsageError(f"no provider {name!r}; there are {', '.join(keys)}" + (f". {near[0]}?" if near else ""))
    return found


def model_of(contract: Contract, name: str | None) -> Model:
    """Return the model of a name; without one, the first. Raises Wrong."""
    found = contract.models[0] if name is None else contract.model(name)
    if found is None:
        raise UsageError(f"--model {name!r}; {contract.key} has {', '.join(model.id for model in contract.models)}")
    return found
