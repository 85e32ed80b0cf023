"""Options that several commands share, and the values that options name: contracts, models, scenarios."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.scenarios.scenario import Scenario, ScenarioError, load_catalogue
from hobbyhorse.server.files.cache import user_directory

REPORT = "Report"


# A panel belongs to an option from its declaration on, and only `serve` has so many options that it groups these two.
def contracts_option(panel: str | None = None) -> Any:
    """Return the option `--contracts`, shown in a panel of the help."""
    return typer.Option(
        "--contracts", metavar="DIR", help="Load the contracts from DIR, not the project's.", rich_help_panel=panel
    )


def scenarios_option(panel: str | None = None) -> Any:
    """Return the option `--scenarios`, shown in a panel of the help."""
    return typer.Option(
        "--scenarios", metavar="DIR", help="Also load scenarios from DIR (repeatable).", rich_help_panel=panel
    )


# A client falls back once: more providers would need more cases than a search has runs.
MOST_PROVIDERS = 2

ContractsOption = Annotated[Path | None, contracts_option()]
ProviderOption = Annotated[str, typer.Option("--provider", metavar="P", help="The provider; see `providers`.")]
ProvidersOption = Annotated[
    str,
    typer.Option(
        "--provider",
        metavar="P[,P]",
        help="The provider; see `providers`. Two, as in A,B: the client falls back from A to B.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="M", help="The model; by default, the provider's first.")
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", metavar="DIR", help="Write the report to DIR.", rich_help_panel=REPORT)
]
BaselineOption = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="FILE",
        help="Accept the findings in FILE: a JSON object from rule id to reason.",
        rich_help_panel=REPORT,
    ),
]


def load_contracts(directory: Path | None, variants: Sequence[str] = ()) -> list[Contract]:
    """Load the contracts in a directory, or the project's. Raises UsageError."""
    chosen: dict[str, list[str]] = {}
    for text in variants:
        provider, mark, name = text.partition(":")
        if not mark:
            raise UsageError(
                f"--variant is {text!r}; allowed: PROVIDER:NAME; `hobbyhorse providers PROVIDER` lists the names"
            )
        chosen.setdefault(provider, []).append(name)
    if directory is not None:
        # Only here: `make check` lints the project's contracts, so that no start has to.
        from hobbyhorse.contract.lint import lint_directory  # noqa: PLC0415 - 6 ms at each start, for --contracts alone

        _, problems = lint_directory(directory)
        if problems:
            more = f" (and {len(problems) - 1} more: hobbyhorse contracts lint {directory})" if problems[1:] else ""
            raise UsageError(f"{problems[0]}{more}")
    return load_all(directory, chosen)


def one_of(contracts: list[Contract], name: str) -> Contract:
    """Return the contract of a provider. Raises UsageError."""
    found = next((contract for contract in contracts if contract.key.lower() == name.lower()), None)
    if found is None:
        keys = [contract.key for contract in contracts]
        near = difflib.get_close_matches(name.lower(), keys, 1)
        guess = f". Did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown provider {name!r}; known: {', '.join(keys)}{guess}")
    return found


def model_of(contract: Contract, name: str | None) -> Model:
    """Return a model of a contract, by default the first. Raises UsageError."""
    found = contract.models[0] if name is None else contract.model(name)
    if found is None:
        allowed = ", ".join(model.id for model in contract.models)
        raise UsageError(f"--model is {name!r}; allowed for {contract.key}: {allowed}")
    return found


def providers_of(
    contracts: list[Contract], names: str, models: str | None
) -> tuple[tuple[Contract, Model], tuple[Contract, Model] | None]:
    """Return one provider or two, separated by a comma, each with its model. Raises UsageError."""
    parts = [name.strip() for name in names.split(",")]
    if len(parts) > MOST_PROVIDERS:
        raise UsageError(f"--provider has {len(parts)} names; allowed: one, or two as in A,B")
    found = [one_of(contracts, name) for name in parts]
    if len({one.key for one in found}) < len(found):
        raise UsageError(f"--provider is {names!r}; allowed: two different providers")
    given = [None] * len(found) if models is None else [name.strip() for name in models.split(",")]
    if len(given) != len(found):
        raise UsageError(f"--model is {models!r}; allowed: a model for each provider, as in M,N")
    first, *second = [(contract, model_of(contract, name)) for contract, name in zip(found, given, strict=True)]
    return first, second[0] if second else None


def load_scenarios(directories: Sequence[Path]) -> dict[str, Scenario]:
    """Load the scenarios of the package and of other directories. Raises UsageError."""
    try:
        return dict(load_catalogue(directories))
    except ScenarioError as error:
        raise UsageError(str(error)) from None


def keep_hypothesis_files_in_cache() -> None:
    """Move Hypothesis's files from the working directory to the user's cache directory.

    Hypothesis reads the variable when it first stores a file, so this may follow the import of Hypothesis.
    """
    # A value that the user has set is kept, because several commands may share it.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(user_directory() / "hypothesis"))
