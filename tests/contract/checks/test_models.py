"""Checks of models: names, parameters, limits, prices, and the examples that order their jobs."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from hobbyhorse.contract.checks.models import prices, try_order
from hobbyhorse.contract.checks.subject import Documents, Subject
from hobbyhorse.contract.folder import load
from hobbyhorse.contract.request import Refusal, ValidRequest
from tests import specimen
from tests.contract.broken_folders import Broken, assert_found, broken_in


@broken_in("models")
def test_each_mistake_is_found_at_its_place_and_nothing_else_is(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)


def test_a_body_is_read_as_an_order_of_the_model_that_it_names() -> None:
    contract = load(specimen.FOLDER)
    submit = contract.operations["submit"]
    body = submit.body_examples["move"]
    assert isinstance(try_order(contract, submit, "acme/move", body), ValidRequest)
    refused = try_order(contract, submit, "acme/cast", body)
    assert isinstance(refused, Refusal)
    assert refused.message == "the body names 'acme/move'"


def test_the_prices_of_each_model_are_checked_also_after_one_without_resolutions() -> None:
    contract = load(specimen.FOLDER)
    (model,) = [one for one in contract.models if "resolution" in one.parameters][:1]
    plain = {name: places for name, places in model.parameters.items() if name != "resolution"}
    models = (
        replace(model, parameters=plain, price={"any": Decimal(1)}),
        replace(model, price={"8K": Decimal(1)}),
    )
    subject = Subject(Documents(specimen.FOLDER, {}), replace(contract, models=models), ())
    (found,) = prices(subject)
    assert "prices are for ['8K']" in found.message
