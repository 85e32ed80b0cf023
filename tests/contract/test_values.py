"""The parts of a contract: prices, environments, names and fallbacks."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from hobbyhorse.contract.folder import load
from hobbyhorse.contract.forms.expressions import Place
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import FALLBACKS, Contract, Idempotency, Parameter, find_situation
from tests import specimen


@pytest.fixture
def acme() -> Contract:
    return load(specimen.FOLDER)


@pytest.mark.parametrize(
    ("resolution", "seconds", "cost"),
    [("720P", 5, "0.70"), ("1080P", 2.5, "0.700"), (None, 1, "0.28"), ("4K", 1, "0.28")],
)
def test_a_video_costs_its_seconds_and_without_a_known_resolution_the_dearest(
    resolution: str | None, seconds: float, cost: str, acme: Contract
) -> None:
    assert acme.models[0].cost(resolution, seconds) == Decimal(cost)


def test_the_environment_points_clients_at_a_server(acme: Contract) -> None:
    assert acme.environment("http://127.0.0.1:1/", "k", "s") == {
        "ACME_BASE_URL": "http://127.0.0.1:1/acme",
        "ACME_API_KEY": "k",
        "ACME_KEY": "k",
        "ACME_SECRET": "s",
    }
    odd = replace(acme, key="my-acme.v2", clients=())
    plain = {"MY_ACME_V2_BASE_URL": "http://x/my-acme.v2", "MY_ACME_V2_API_KEY": "k"}
    assert odd.environment("http://x", "k", "s") == plain | {"MY_ACME_V2_WEBHOOK_SECRET": "s"}
    assert replace(odd, callbacks=None).environment("http://x", "k", "s") == plain


def test_an_example_key_has_the_documented_form(acme: Contract) -> None:
    assert acme.example_key == "acme-0123abcd"
    assert replace(acme, key_form=None).example_key == "test"


def test_a_model_has_several_names(acme: Contract) -> None:
    assert acme.model("acme/move-1") is acme.models[0]
    assert acme.model("acme/move-2") is None


def test_the_place_of_a_header_is_in_lower_case() -> None:
    header = Parameter("X-Key", "header", True, "string", "openapi.json#")
    assert header.place == Place("request", "header", "x-key")
    assert replace(header, part="query").place == Place("request", "query", "X-Key")


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (Idempotency("none"), ""),
        (Idempotency("replay", Place("request", "header", "idempotency-key")), "Idempotency-Key"),
        (Idempotency("reject", Place("request", "body", pointer=("key",))), "$request.body#/key"),
    ],
)
def test_an_idempotency_key_is_called_what_people_call_it(policy: Idempotency, named: str) -> None:
    assert policy.named == named


def test_a_situation_that_a_contract_does_not_have_falls_back(acme: Contract) -> None:
    submit = acme.operations["submit"]
    for name, found in (("malformed_body", "invalid_request"), ("key_refused", "unauthenticated"), ("accepted",) * 2):
        situation = find_situation(submit, name)
        assert situation is not None
        assert situation.name == found
    assert find_situation(submit, "overloaded") is None
    assert find_situation(submit, "no such situation") is None


def test_no_fallback_leads_in_a_circle() -> None:
    for name in FALLBACKS:
        seen = {name}
        while (name := FALLBACKS.get(name, "")) != "":
            assert name not in seen
            seen.add(name)


def test_contracts_of_equal_folders_are_equal_although_their_schemas_are_other_objects(acme: Contract) -> None:
    again = load(specimen.FOLDER)
    assert again.schemas is not acme.schemas
    assert again == acme
    assert again.equals(acme)
    assert not again.equals(replace(acme, name="Other"))


def test_contracts_with_other_schemas_have_equal_values_but_are_not_the_same(acme: Contract) -> None:
    other = load(specimen.FOLDER)
    documents = {
        name: other.schemas.document(name) for name in ("openapi.json", *(m.schema_file for m in other.models))
    }
    schema = documents[other.models[0].schema_file]
    changed = {**documents, other.models[0].schema_file: {**schema, "description": "Another one."}}
    assert not replace(other, schemas=Schemas(changed)).equals(acme)
