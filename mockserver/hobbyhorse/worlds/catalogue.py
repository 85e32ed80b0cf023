"""The catalogue of a contract's models, for its list and detail operations. No HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract, Model

# The only kind of catalogue entry in the project's contracts; a filter by another kind finds nothing.
KIND = "model"


def tasks(contract: Contract) -> list[str]:
    """Return the tasks of the models, each once, in the order of the models."""
    return list(dict.fromkeys(model.task for model in contract.models))


def search(contract: Contract, wanted: Mapping[str, Any]) -> list[Model]:
    """Return the models that match `search` (in id or name, any case), `task` and `kind`, each of them optional."""
    text = str(wanted.get("search", "")).lower()
    return [
        model
        for model in contract.models
        if (text in model.id.lower() or text in model.name.lower())
        and wanted.get("task", model.task) == model.task
        and wanted.get("kind", KIND) == KIND
    ]


def lookup(contract: Contract, model: Model, name: str) -> Any:
    """Return a model's value for a bound name (contracts/README.md lists them), or MISSING."""
    if name == "price":
        # Prices differ by resolution; a catalogue shows the price "from".
        return min(model.price.values())
    if name == "schema":
        return contract.schemas.document(model.schema_file)
    values = {"model": model.id, "name": model.name, "task": model.task, "kind": KIND}
    return values.get(name, MISSING)
