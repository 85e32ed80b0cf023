"""The catalogue: models are found by text, task and kind, and shown by bound name."""

from __future__ import annotations

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.catalogue import KIND, lookup, search, tasks


def test_each_task_is_listed_once_in_the_order_of_the_models(contract: Contract) -> None:
    found = tasks(contract)
    assert len(found) == len(set(found))
    assert found[0] == contract.models[0].task
    assert {*found} == {model.task for model in contract.models}


def test_without_filters_every_model_is_found(contract: Contract) -> None:
    assert search(contract, {}) == list(contract.models)


def test_a_search_finds_ids_and_names_in_any_case(contract: Contract) -> None:
    model = contract.models[-1]
    assert model in search(contract, {"search": model.id.upper()})
    assert model in search(contract, {"search": model.name.lower()})
    assert search(contract, {"search": "no such horse"}) == []


def test_a_task_and_a_kind_filter(contract: Contract) -> None:
    task = contract.models[0].task
    assert search(contract, {"task": task}) == [model for model in contract.models if model.task == task]
    assert search(contract, {"task": "juggling"}) == []
    assert search(contract, {"kind": KIND}) == list(contract.models)
    assert search(contract, {"kind": "pipeline"}) == []


def test_a_model_is_shown_by_bound_names(contract: Contract) -> None:
    model = contract.models[0]
    shown = [lookup(contract, model, name) for name in ("model", "name", "task", "kind", "price")]
    assert shown == [model.id, model.name, model.task, "model", min(model.price.values())]
    assert isinstance(lookup(contract, model, "schema"), dict)
    assert lookup(contract, model, "colour") is MISSING
