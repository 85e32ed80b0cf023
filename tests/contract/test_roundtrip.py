"""Written responses and callbacks are read back: for every provider, operation, situation and value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.message import Template
from hobbyhorse.contract.reading import message_of, read_answer, read_callback, read_items
from hobbyhorse.contract.values import Binding, Contract, Operation, Situation
from tests.conftest import CONTRACTS

MOMENTS = st.integers(0, 4_000_000_000)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
FORMATTED: Mapping[str | None, st.SearchStrategy[Any]] = {
    "unix": MOMENTS.map(float),
    "unix_float": MOMENTS.map(lambda thousandths: thousandths / 1000),
    "rfc3339": MOMENTS.map(lambda thousandths: thousandths / 1000),
    "decimal": st.integers(0, 10**8).map(lambda cents: Decimal(cents).scaleb(-4)),
    "number": st.integers(0, 10**8).map(lambda cents: Decimal(str(float(Decimal(cents).scaleb(-4))))),
    "milliseconds": MOMENTS.map(lambda milliseconds: milliseconds / 1000),
    None: TEXTS | st.integers(0, 2**31) | st.lists(TEXTS, min_size=1, max_size=2),
}

ANSWERS = [
    pytest.param(contract, operation, situation, id=f"{contract.key}-{role}-{situation.name}")
    for contract in CONTRACTS
    for role, operation in contract.operations.items()
    for situation in operation.situations.values()
]
CALLBACKS = [
    pytest.param(contract, situation, id=f"{contract.key}-{situation.name}")
    for contract in CONTRACTS
    if contract.callbacks is not None
    for situation in contract.callbacks.situations.values()
]
LISTS = [
    pytest.param(contract, operation, situation, id=f"{contract.key}-{role}-{situation.name}")
    for contract in CONTRACTS
    for role, operation in contract.operations.items()
    for situation in operation.situations.values()
    if operation.items is not None and situation.items
]


def live_values(template: Template, bindings: Mapping[str, Binding]) -> st.SearchStrategy[dict[str, Any]]:
    """Values for the slots of a template, each in the domain of its format."""
    names = sorted({slot.name for slot in template.slots} & set(bindings))
    return st.fixed_dictionaries({name: FORMATTED[bindings[name].format] for name in names})


def lookup(values: Mapping[str, Any]) -> Any:
    return lambda name: values.get(name, MISSING)


@pytest.mark.parametrize(("contract", "operation", "situation"), ANSWERS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_response_reads_back_as_written(
    contract: Contract, operation: Operation, situation: Situation, data: st.DataObject
) -> None:
    values = data.draw(live_values(situation.template, operation.bindings))
    body = orjson.loads(situation.template.write(lookup(values)))
    reading = read_answer(contract.schemas, operation, situation.status, message_of(situation.headers, body))
    for name, value in values.items():
        assert reading.values[name] == value
    assert situation.name in reading.situations
    assert situation.stages <= reading.stages


@pytest.mark.parametrize(("contract", "situation"), CALLBACKS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_callback_reads_back_as_written(contract: Contract, situation: Situation, data: st.DataObject) -> None:
    assert contract.callbacks is not None
    values = data.draw(live_values(situation.template, contract.callbacks.bindings))
    body = orjson.loads(situation.template.write(lookup(values)))
    reading = read_callback(contract.schemas, contract.callbacks, message_of([], body))
    for name, value in values.items():
        assert reading.values[name] == value
    assert situation.stages <= reading.stages


@pytest.mark.parametrize(("contract", "operation", "situation"), LISTS)
@settings(max_examples=25)
@given(data=st.data())
def test_the_items_of_a_list_read_back_as_written(
    contract: Contract, operation: Operation, situation: Situation, data: st.DataObject
) -> None:
    assert operation.items is not None
    bindings = operation.items.bindings
    written = [data.draw(live_values(template, bindings)) for template in situation.items]
    items = [
        orjson.loads(template.write(lookup(values))) for template, values in zip(situation.items, written, strict=True)
    ]
    body = orjson.loads(situation.template.write(lookup({"items": items})))
    found = read_items(operation, message_of([], body))
    assert len(found) == len(written)
    for item, values in zip(found, written, strict=True):
        assert {name: item[name] for name in values} == values


def test_a_binding_that_reads_another_place_than_it_writes_is_caught(contract: Contract) -> None:
    """The round trip can fail: if the binding reads another place, the job's id is not found."""
    operation = contract.operations["submit"]
    situation = operation.situations["accepted"]
    moved = replace(operation.bindings["job"], response=operation.bindings["model"].request)
    crooked = replace(operation, bindings={**operation.bindings, "job": moved})
    body = orjson.loads(situation.template.write(lookup({"job": "written"})))
    reading = read_answer(contract.schemas, crooked, situation.status, message_of([], body))
    assert reading.values.get("job") != "written"
