"""The catalogue of a contract's models, as its list and detail operations show it; knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract, Model

KIND = "model"


def tasks(contract: Contract) -> list[str]:
    """Return what the models do, each task once, in the order of the models."""
    return list(dict.fromkeys(model.task for model in contract.models))


def search(contract: Contract, wanted: Mapping[str, Any]) -> list[Model]:
    """Return the models that a search, task and kind leave."""
    text = str(wanted.get("search", "")).lower()
    return [
        model
        for model in contract.models
        if (text in model.id.lower() or text in model.name.lower())
        and wanted.get("task", model.task) == model.task
        and wanted.get("kind", KIND) == KIND
    ]


def lookup(contract: Contract, model: Model, name: str) -> Any:
    """Return a model's value of a name of contracts/README.md, or MISSING."""
    if name == "price":
        return min(model.price.values())
    if name == "schema":
        return contract.schemas.document(model.schema_file)
    values = {"model": model.id, "name": model.name, "task": model.task, "kind": KIND}
    return values.get(name, MISSING)
