"""The rules about the catalogue of models, on traces written by hand."""

from __future__ import annotations

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, PASSED
from hobbyhorse.conformance.server.rules.catalogue import NO_MODEL, requests_of
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.judging import assuming, family, judged, knowing, verdict
from tests.judging import teller as ordered
from tests.tracing import Teller

ENTRIES, FILTERED = family("CAT")
listing = contracts_that(ENTRIES.applies)
without = contracts_that(lambda contract: not ENTRIES.applies(contract))


def models(told: Teller, names: list[str], total: int | None = None, **query: object) -> Teller:
    """Add a list of models; `query` has the bound values of its request."""
    operation = told.contract.operations["models"]
    assert operation.items is not None
    example = told.contract.schemas.at(operation.situations["listed"].example_at)
    item = resolve(example, (*operation.items.at.pointer, "0"))
    place = operation.items.bindings["model"].response[0]
    body = replaced(example, operation.items.at.pointer, [replaced(item, place.pointer, name) for name in names])
    body = replaced(body, operation.bindings["total"].response[0].pointer, len(names) if total is None else total)
    text = "&".join(f"{operation.bindings[name].request[0].name}={value}" for name, value in query.items())
    url = f"{told.base}{operation.path}" + (f"?{text}" if text else "")
    return told.call("models", "listed", None, answer=orjson.dumps(body), url=url, probe="catalogue:filters")


def told(contract: Contract) -> Teller:
    return ordered(knowing(contract))


@listing
def test_a_model_is_listed_once_and_the_model_under_test_is(contract: Contract) -> None:
    own = contract.models[0].id
    assert verdict(ENTRIES, models(told(contract), [own, "b"])) == PASSED
    assert verdict(ENTRIES, models(told(contract), [own, "b", "b"])) == BROKEN
    assert verdict(ENTRIES, models(told(contract), ["a", "b"]), model=own) == BROKEN
    # The model may be on another page.
    assert verdict(ENTRIES, models(told(contract), ["a", "b"], 3), model=own) == PASSED
    annotated = models(told(contract), ["b", "b"])
    annotated.contract = assuming(contract, "lifecycle.json#/operations/models")
    assert verdict(ENTRIES, annotated) == LESSON


@listing
def test_an_entry_has_the_values_of_the_list(contract: Contract) -> None:
    own, binding = contract.models[0].id, contract.operations["model"].bindings["price"]
    entry = told(contract).call("model", "found", None)
    assert verdict(ENTRIES, models(entry, [own])) == PASSED
    body = orjson.loads(entry.exchanges[0].answer)
    other = orjson.dumps(replaced(body, binding.response[0].pointer, 7))
    found = judged(ENTRIES, models(told(contract).call("model", "found", None, answer=other), [own]))
    assert found.verdict == BROKEN
    assert "price" in found.breaches[0].message


@listing
def test_a_list_follows_its_request(contract: Contract) -> None:
    every = ["a", "b", "c"]
    for names, total, query, word in (
        (["a"], 3, {"size": 1}, PASSED),
        (["a", "b"], 3, {"size": 1}, BROKEN),
        (["b"], 3, {"size": 1, "offset": 1}, PASSED),
        (["a"], 3, {"size": 1, "offset": 1}, BROKEN),
        (["a"], 1, {"size": 1}, BROKEN),
        (["a", "b"], 1, {}, BROKEN),
        ([], 0, {"search": NO_MODEL}, PASSED),
        (every, 3, {"search": NO_MODEL}, BROKEN),
        (every, 3, {"task": "no-such-task"}, BROKEN),
        (every, 3, {"kind": "no-such-kind"}, BROKEN),
        (every, 3, {"task": contract.models[0].task}, PASSED),
    ):
        assert verdict(FILTERED, models(models(told(contract), every), names, total, **query)) == word, query


@listing
def test_the_requests_name_only_what_the_contract_binds(contract: Contract) -> None:
    operation = contract.operations["models"]
    names = {place.name for one in operation.bindings.values() for place in one.request}
    asked = requests_of(operation, "image-to-video")
    assert len(asked) == 5
    assert {name for query in asked for name in query} <= names


@without
@pytest.mark.parametrize("rule", family("CAT"), ids=lambda rule: rule.id)
def test_a_provider_without_a_catalogue_is_not_judged_by_these_rules(contract: Contract, rule: object) -> None:
    assert verdict(rule, told(contract)) == NOT_APPLICABLE  # type: ignore[arg-type]
