"""The server rules about money, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest

from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.orders import order_behind
from tests.conftest import contracts_that
from tests.judging import (
    BROKEN,
    LESSON,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    assuming,
    family,
    judged,
    knowing,
    teller,
    verdict,
)
from tests.tracing import JOB, Teller

RULES = family("MON")
PRICE, REFUSED, FOLLOWS = RULES


def roles(contract: Contract) -> list[str]:
    """Return the operations that report a job's cost."""
    return [role for role, operation in contract.operations.items() if "cost" in operation.bindings]


priced = contracts_that(lambda contract: bool(roles(contract)))
unpriced = contracts_that(lambda contract: not roles(contract))


def told(
    contract: Contract, kind: str, cost: Any = None, model: int = 0, *, after: Teller | None = None, job: str = JOB
) -> Teller:
    """Add a submission and its end, with a cost if given."""
    role = roles(contract)[0] if roles(contract) else "status"
    operation = contract.operations[role]
    situations = [one for one in operation.situations.values() if one.stages]
    name = next(one.name for one in situations if {contract.graph[stage].kind for stage in one.stages} == {kind})
    annotated = after or teller(contract, model)
    annotated.submit(url=_url(contract, model), job=job).wait(60).call(role, name, job)
    if cost is not None:
        last, binding = annotated.exchanges[-1], operation.bindings["cost"]
        body = orjson.loads(last.answer)
        pointer = binding.response[0].pointer
        for depth in range(1, len(pointer)):
            body = replaced(body, pointer[:depth], _inside(body, pointer[:depth]))
        value = FORMATS[binding.format or "decimal"].write(Decimal(cost))
        annotated.exchanges[-1] = replace(last, answer=orjson.dumps(replaced(body, pointer, value)))
    return annotated


def _inside(body: Any, pointer: tuple[str, ...]) -> Any:
    for step in pointer:
        body = body.get(step) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else {}


def _url(contract: Contract, model: int) -> str:
    annotated = Teller(contract)
    path = contract.operations["submit"].path
    for place in contract.operations["submit"].bindings["model"].request:
        if place.part == "path":
            path = path.replace("{" + place.name + "}", contract.models[model].id)
    return annotated.base + path


def due(contract: Contract, model: int = 0) -> Decimal:
    """Return the price of a model's cheapest order."""
    order = order_behind(told(contract, "success", "1", model).story(), JOB)
    assert order is not None
    return contract.models[model].price[order.resolution or ""] * order.seconds


@unpriced
def test_the_price_rule_does_not_apply_to_a_provider_that_reports_no_cost(contract: Contract) -> None:
    assert verdict(PRICE, told(contract, "success")) == NOT_APPLICABLE


def test_a_submission_alone_shows_nothing(contract: Contract) -> None:
    assert {verdict(rule, teller(contract).submit()) for rule in RULES} <= {NOT_OBSERVED, NOT_APPLICABLE}


@priced
def test_a_video_costs_what_its_seconds_cost(contract: Contract) -> None:
    known = knowing(contract)
    for number in range(len(contract.models)):
        price = due(known, number)
        assert verdict(PRICE, told(known, "success", price, number)) == PASSED
        assert verdict(PRICE, told(known, "success", price + Decimal("0.004"), number)) == PASSED
        for wrong in (price * 2, price + Decimal("0.01"), Decimal(0)):
            assert verdict(PRICE, told(known, "success", wrong, number)) == BROKEN


@priced
def test_a_price_that_is_only_assumed_is_learned(contract: Contract) -> None:
    for number, model in enumerate(contract.models):
        price = due(knowing(contract), number)
        for tail in ("/price", f"/price/{min(model.price, key=model.price.__getitem__)}"):
            assumed = assuming(contract, f"lifecycle.json#/models/{number}{tail}")
            found = judged(PRICE, told(assumed, "success", price * 2, number))
            assert found.verdict == LESSON
            (patch,) = found.lessons[0].patch
            assert Decimal(patch["value"]) == 2 * min(model.price.values())


def longer(contract: Contract, first: str, second: str) -> Teller:
    """Return a video of three seconds and one of fifteen, with their costs."""
    annotated = told(contract, "success", first)
    place = (*contract.operations["submit"].model_parameters.pointer, *contract.models[0].parameters["duration"][0])
    annotated.request = replaced(annotated.request, place, 15)
    return told(contract, "success", second, after=annotated, job="job-2")


@priced
def test_a_longer_video_costs_more(contract: Contract) -> None:
    contract = knowing(contract)
    assert verdict(FOLLOWS, told(contract, "success", "0.42")) == NOT_OBSERVED
    assert verdict(FOLLOWS, longer(contract, "0.42", "2.10")) == PASSED
    for cost in ("0.42", "0.41"):
        assert verdict(FOLLOWS, longer(contract, "0.42", cost)) == BROKEN


@priced
def test_costs_are_in_proportion_to_the_seconds_whatever_the_assumed_price_is(contract: Contract) -> None:
    assert verdict(FOLLOWS, longer(contract, "0.30", "1.50")) == PASSED
    assert verdict(FOLLOWS, longer(contract, "0.30", "1.52")) == PASSED, "both are rounded"
    assert verdict(FOLLOWS, longer(contract, "0.50", "1.50")) == BROKEN, "the cost of five seconds"


@priced
@pytest.mark.parametrize("kind", ["failure", "cancelled"])
def test_a_job_without_a_video_costs_nothing(contract: Contract, kind: str) -> None:
    if all(stage.kind != kind for stage in contract.graph):
        return
    known = knowing(contract)
    assert verdict(REFUSED, told(known, kind)) == PASSED
    assert verdict(REFUSED, told(known, kind, "0.00")) == PASSED
    assert verdict(REFUSED, told(known, kind, "0.42")) == BROKEN
    assert verdict(PRICE, told(known, kind, "0.42")) == NOT_OBSERVED
    assumed = assuming(contract, f"lifecycle.json#/operations/{roles(contract)[0]}/bindings/cost")
    assert verdict(REFUSED, told(assumed, kind, "0.42")) == LESSON


@priced
def test_a_job_without_a_known_submission_or_tier_has_no_expected_price(contract: Contract) -> None:
    annotated = told(contract, "success", "99")
    annotated.exchanges.pop(0)
    assert verdict(PRICE, annotated) == NOT_OBSERVED
    annotated = told(contract, "success", "99")
    annotated.exchanges[0] = replace(annotated.exchanges[0], body=b'{"image": "data:image')
    assert verdict(PRICE, annotated) == NOT_OBSERVED


def test_a_refused_submission_has_no_job(contract: Contract) -> None:
    annotated = teller(contract).submit(None, status=422, job=None)
    assert verdict(REFUSED, annotated) == PASSED
    body = orjson.loads(teller(contract).submit().exchanges[0].answer)
    annotated = teller(contract).submit(None, status=422, answer=orjson.dumps(body), job=JOB)
    assert verdict(REFUSED, annotated) == PASSED
    running = next(one.name for one in contract.operations["status"].situations.values() if one.stages)
    assert verdict(REFUSED, annotated.status(running)) == BROKEN


def test_a_temporary_refusal_shows_nothing(contract: Contract) -> None:
    assert verdict(REFUSED, teller(contract).submit(None, status=503, job=None)) == NOT_OBSERVED
