"""Submissions for test cases: documented, cheap, reproducible, and accepted by the contract."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.example_orders import (
    LONG_PROMPT_CHARACTERS,
    PROMPT_WORDS,
    SEED,
    documented_jobs,
    order_for,
)
from hobbyhorse.contract.folder import build, load
from hobbyhorse.contract.request import Order, ValidRequest, prompt_weight
from hobbyhorse.contract.values import Contract, Model
from tests import specimen

ACME = load(specimen.FOLDER)
MOVE = "models/move.schema.json#/properties"


def read(contract: Contract, model: Model, body: Any) -> Order:
    found = try_order(contract, contract.operations["submit"], model.id, body)
    assert isinstance(found, ValidRequest), found
    return found.order


def changed(changes: dict[str, Any], *removed: str) -> Contract:
    return build(specimen.FOLDER, specimen.edited(changes, removed))


# ---- documented jobs


def test_each_submitting_operation_is_documented_with_each_model() -> None:
    found = [(operation.role, model.id) for operation, model, _ in documented_jobs(ACME)]
    assert found == [
        ("submit", "acme/move"),
        ("submit", "acme/cast"),
        ("run", "acme/move"),
        ("run", "acme/cast"),
    ]


def test_every_model_of_a_provider_has_a_documented_job(contract: Contract) -> None:
    submits = [model for operation, model, _ in documented_jobs(contract) if operation.role == "submit"]
    assert submits == list(contract.models)


def test_an_example_that_the_contract_refuses_is_not_a_documented_job() -> None:
    example = "openapi.json#/paths/~1v1~1jobs/post/requestBody/content/application~1json/examples/move/value"
    contract = changed({f"{example}/input/prompt": 5})
    assert [model.id for operation, model, _ in documented_jobs(contract) if operation.role == "submit"] == [
        "acme/cast"
    ]
    with pytest.raises(LookupError, match=r"no example of acme submits a job of 'acme/move'; add one"):
        order_for(contract, contract.models[0])


# ---- the cheapest order


def test_an_order_is_the_shortest_and_cheapest_with_a_fixed_seed() -> None:
    move = ACME.models[0]
    found = read(ACME, move, order_for(ACME, move))
    assert (found.resolution, found.seconds, found.seed, found.prompt) == ("720P", 3, SEED, PROMPT_WORDS)


def test_the_first_of_the_accepted_durations_is_taken() -> None:
    contract = changed({f"{MOVE}/duration/minimum": 7})
    assert read(contract, contract.models[0], order_for(contract, contract.models[0])).seconds == 7


def test_an_example_in_another_form_has_no_places_and_stays_as_documented() -> None:
    body = {"model": "acme/cast", "params": {"actors": ["https://example.com/a.png"], "text": "run"}}
    assert order_for(ACME, ACME.models[1], mark="m") == body


def test_a_parameter_that_the_model_lacks_is_left_out() -> None:
    contract = changed({}, "lifecycle.json#/models/0/parameters/seed", f"{MOVE}/seed")
    body = order_for(contract, contract.models[0])
    assert body["input"].keys() == {"image", "prompt", "resolution", "duration"}


def test_a_preference_that_the_schema_refuses_is_dropped() -> None:
    contract = changed({f"{MOVE}/seed": {"type": "null"}, f"{MOVE}/resolution/enum": ["1080P"]})
    found = read(contract, contract.models[0], order_for(contract, contract.models[0]))
    assert (found.seed, found.seconds) == (None, 3)


def test_the_documents_are_not_changed() -> None:
    before = [body for _, _, body in documented_jobs(ACME)]
    order_for(ACME, ACME.models[0], mark="x")
    assert [body for _, _, body in documented_jobs(ACME)] == before


# ---- pictures


def test_another_picture_is_another_file_in_the_same_folder() -> None:
    move = ACME.models[0]
    first, second = (read(ACME, move, order_for(ACME, move, picture=number)).first_frame for number in (1, 2))
    assert first is not None
    folder, _, name = first.rpartition("/")
    assert second == f"{folder}/2-{name}"


def test_each_picture_of_each_model_is_another_order(contract: Contract) -> None:
    for model in contract.models:
        orders = [read(contract, model, order_for(contract, model, picture=number)) for number in (1, 2, 3)]
        assert len({(order.first_frame, order.references) for order in orders}) == 3


def test_a_picture_that_is_not_a_web_address_stays() -> None:
    example = "openapi.json#/paths/~1v1~1jobs/post/requestBody/content/application~1json/examples/move/value"
    inline = "data:image/png;base64,iVBORw0KGgo="
    contract = changed({f"{example}/input/image": inline})
    model = contract.models[0]
    assert read(contract, model, order_for(contract, model, picture=2)).first_frame == inline


# ---- prompts


@pytest.mark.parametrize("long", [False, True])
def test_the_mark_is_at_the_end_of_the_prompt(long: bool, contract: Contract) -> None:
    for model in contract.models:
        found = read(contract, model, order_for(contract, model, mark="mark-7", long=long))
        assert found.prompt.endswith(", mark-7")


def test_a_long_prompt_has_exactly_the_documented_limit() -> None:
    move = ACME.models[0]
    assert move.prompt_limit is not None
    found = read(ACME, move, order_for(ACME, move, mark="m", long=True))
    assert prompt_weight(found.prompt, move.prompt_limit) == move.prompt_limit.characters
    assert found.prompt.endswith(", m")


@pytest.mark.parametrize(("limit", "length"), [(None, LONG_PROMPT_CHARACTERS), (1_500, LONG_PROMPT_CHARACTERS // 2)])
def test_a_long_prompt_without_a_documented_limit_is_as_long_as_the_schema_allows(
    limit: int | None, length: int
) -> None:
    schema = {"type": "string", **({"maxLength": limit} if limit else {})}
    contract = changed({f"{MOVE}/prompt": schema}, "lifecycle.json#/models/0/prompt_limit")
    found = read(contract, contract.models[0], order_for(contract, contract.models[0], long=True))
    assert len(found.prompt) == length


def test_the_documented_prompt_stays_if_no_other_is_accepted() -> None:
    contract = changed({f"{MOVE}/prompt": {"const": "run"}})
    found = read(contract, contract.models[0], order_for(contract, contract.models[0], mark="m", long=True))
    assert found.prompt == "run"
