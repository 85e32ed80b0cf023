"""Requests: prompt limits, alternative forms, typed parameters, and refusals with their messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.folder import build, load
from hobbyhorse.contract.forms.expressions import Message, replaced
from hobbyhorse.contract.request import (
    DEEPEST_BODY,
    MOST_NOTED,
    Order,
    Refusal,
    ValidRequest,
    cut_prompt,
    prompt_weight,
    read_body,
    read_order,
    read_parameters,
)
from hobbyhorse.contract.values import Contract, PromptLimit
from tests import specimen
from tests.conftest import CONTRACTS
from tests.world import Mock, documented

LIMITS = st.builds(PromptLimit, st.integers(1, 30), st.integers(1, 3), st.just("truncate"))
PROMPTS = st.text(st.sampled_from("ab 马龍\U00020000é😀"), max_size=40)


@given(PROMPTS, LIMITS)
def test_a_cut_prompt_is_the_longest_beginning_that_its_limit_allows(prompt: str, limit: PromptLimit) -> None:
    found = cut_prompt(prompt, limit)
    allowed = [prompt[:end] for end in range(len(prompt) + 1) if prompt_weight(prompt[:end], limit) <= limit.characters]
    assert found == allowed[-1]


@given(PROMPTS, st.integers(1, 3))
def test_a_chinese_character_counts_as_often_as_the_limit_says(prompt: str, weight: int) -> None:
    chinese = sum(character in "马龍\U00020000" for character in prompt)
    assert prompt_weight(prompt, PromptLimit(1, weight, "refuse")) == len(prompt) + (weight - 1) * chinese


@pytest.mark.parametrize(("length", "character"), [(5_000, "x"), (2_500, "马")])
@pytest.mark.anyio
async def test_a_prompt_over_the_documented_limit_is_cut_or_refused_as_documented(
    length: int, character: str, contract: Contract
) -> None:
    for model in contract.models:
        if model.prompt_limit is None or "prompt" not in model.parameters:
            continue
        operation, _, body = documented(contract, model)
        pointer = (*operation.model_parameters.pointer, *model.parameters["prompt"][0])
        for extra in (0, 1, 500):
            mock = Mock([contract])
            long = replaced(body, pointer, character * (length + extra))
            reply = await mock.call(contract, "submit", path={"model": model.id}, body=long)
            assert reply.reading is not None
            notes = " ".join(next(iter(mock.world.journal)).notes)
            if extra and model.prompt_limit.over == "refuse":
                assert "invalid_request" in reply.reading.situations
                assert not mock.world.jobs
                continue
            (job,) = mock.world.jobs.values()
            assert job.order.prompt == character * length
            assert ("was truncated" in notes) == bool(extra)


def orders(contract: Contract, body: Any, headers: dict[str, str]) -> ValidRequest | Refusal:
    operation = contract.operations["submit"]
    named = {name.lower(): value for name, value in headers.items()}
    return read_order(contract, operation, Message({}, {}, named.get, body))


def test_every_form_of_a_vtrix_submission_orders_the_same_job() -> None:
    contract = next(contract for contract in CONTRACTS if contract.key == "vtrix")
    _, model, body = documented(contract)
    flat = orders(contract, body, {})
    assert isinstance(flat, ValidRequest)
    inner = {"input": body["input"], "parameters": body["parameters"]}
    bare = {name: value for name, value in body.items() if name != "model"}
    wrapped = {"model": model.id, "moderation": True, "input": [{"params": inner}]}
    for form, headers in (
        (wrapped, {}),
        (bare, {"X-Model": model.id}),
        ({"input": [{"params": inner}]}, {"X-Model": model.id}),
    ):
        found = orders(contract, form, headers)
        assert isinstance(found, ValidRequest), found
        assert found.order == flat.order
        assert found.notes


@pytest.mark.parametrize("media", [[], "two", None])
def test_a_vtrix_submission_needs_exactly_one_first_frame_in_every_form(media: Any) -> None:
    contract = next(contract for contract in CONTRACTS if contract.key == "vtrix")
    _, model, body = documented(contract)
    frames = body["input"]["media"] * 2 if media == "two" else media
    bad = replaced(body, ("input", "media"), frames)
    inner = {"input": bad["input"], "parameters": bad["parameters"]}
    for form in (bad, {"model": model.id, "input": [{"params": inner}]}):
        found = orders(contract, form, {})
        assert isinstance(found, Refusal)
        assert found.situation == "invalid_request"


@pytest.mark.parametrize("count", [0, 2])
def test_a_hiapi_submission_needs_exactly_one_image(count: int) -> None:
    contract = next(contract for contract in CONTRACTS if contract.key == "hiapi")
    _, _, body = documented(contract)
    found = orders(contract, replaced(body, ("input", "image_urls"), ["https://example.com/a.png"] * count), {})
    assert isinstance(found, Refusal)
    assert found.location == ("body", "input", "image_urls")


def test_a_callback_inside_hiapis_input_is_refused() -> None:
    contract = next(contract for contract in CONTRACTS if contract.key == "hiapi")
    _, _, body = documented(contract)
    found = orders(contract, replaced(body, ("input", "callback"), {"url": "https://example.com/"}), {})
    assert isinstance(found, Refusal)
    assert "callback" in str(found.message)


def test_an_undeclared_parameter_is_accepted_and_noted() -> None:
    contract = next(contract for contract in CONTRACTS if contract.key == "vtrix")
    _, _, body = documented(contract)
    found = orders(contract, {**body, "resolutoin": "720P"}, {})
    assert isinstance(found, ValidRequest)
    assert any("resolutoin" in note for note in found.notes)
    found = orders(contract, {**body, **{f"odd-{number}": 1 for number in range(10_000)}}, {})
    assert isinstance(found, ValidRequest)
    assert (len(found.notes), found.notes[-1]) == (MOST_NOTED + 1, "9980 more undeclared parameters")


def test_few_undeclared_parameters_are_noted_by_name() -> None:
    contract = next(contract for contract in CONTRACTS if contract.key == "vtrix")
    _, _, body = documented(contract)
    for more, last in ((0, f"undeclared parameter 'x{MOST_NOTED - 1}'"), (7, "7 more undeclared parameters")):
        found = orders(contract, {**body, **{f"x{number}": 1 for number in range(MOST_NOTED + more)}}, {})
        assert isinstance(found, ValidRequest)
        assert len(found.notes) == MOST_NOTED + bool(more)
        assert found.notes[-1] == last


def test_an_omitted_parameter_has_the_documented_default(contract: Contract) -> None:
    for model in contract.models:
        operation, _, body = documented(contract, model)
        path = {place.name: model.id for place in operation.bindings["model"].request if place.part == "path"}
        found = read_order(contract, operation, Message(path, {}, lambda name: None, body))
        assert isinstance(found, ValidRequest)
        assert found.order.seconds == 5
        assert str(found.order.resolution).lower() == "1080p"


@pytest.mark.parametrize(
    ("content_type", "body", "situation"),
    [
        (None, b"{}", "unsupported_media_type"),
        ("text/json", b"{}", "unsupported_media_type"),
        ("application/json", b"", "malformed_body"),
        ("application/json", b"{", "malformed_body"),
        ("application/json", b"3", "malformed_body"),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(content_type: str | None, body: bytes, situation: str) -> None:
    found = read_body(content_type, body)
    assert isinstance(found, Refusal)
    assert found.situation == situation


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON; charset=utf-8", "application/x+json"])
def test_every_json_media_type_is_read(content_type: str) -> None:
    assert read_body(content_type, b'{"a": 1}') == {"a": 1}


def test_a_declared_query_parameter_has_its_type_and_default() -> None:
    contract = next(contract for contract in CONTRACTS if contract.key == "runcomfy")
    operation = contract.operations["models"]
    found = read_parameters(contract, operation, {}, {"limit": "7", "include_schema": "true"}, lambda name: None)
    assert isinstance(found, Message)
    assert found.query == {"limit": 7, "include_schema": True, "offset": 0}


def test_a_body_nested_deeper_than_the_limit_is_refused() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' * (depth - 1) + b"[]" + b"}" * (depth - 1)

    assert isinstance(read_body("application/json", nested(DEEPEST_BODY)), dict)
    refused = read_body("application/json", nested(DEEPEST_BODY + 1))
    assert refused == Refusal("malformed_body", f"the body is nested more than {DEEPEST_BODY} levels deep", ("body",))
    wide = b'{"a":[' + b",".join([b"{}"] * 2 * DEEPEST_BODY) + b"]}"
    assert isinstance(read_body("application/json", wide), dict)


def test_a_value_that_is_too_deep_for_the_validator_breaks_every_schema(contract: Contract) -> None:
    value: Any = 1
    for _ in range(300):
        value = {"a": value}
    schema = contract.operations["submit"].situations["accepted"].schema
    assert [str(found) for found in contract.schemas.violations(schema, value)] == ["value: is nested too deeply"]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "another"},
        {"first_frame": "https://example.com/other.png"},
        {"references": ("https://example.com/other.png",)},
        {"resolution": "another"},
        {"seconds": 60},
        {"ratio": "21:9"},
        {"seed": 8},
        {"watermark": True},
        {"echoed": {"metadata": {"a": "b"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_orders_that_differ_in_anything_are_different(change: dict[str, Any]) -> None:
    model = CONTRACTS[0].models[0]
    one = Order(model, "a horse", None, (), "720P", 5, None, 7, watermark=False, echoed={})
    assert one.identity == replace(one).identity
    assert replace(one, **change).identity != one.identity


def test_the_order_of_members_makes_no_other_order() -> None:
    model = CONTRACTS[0].models[0]
    one = Order(model, "a horse", None, (), "720P", 5, None, 7, watermark=False, echoed={"metadata": {"a": 1, "b": 2}})
    assert replace(one, echoed={"metadata": {"b": 2, "a": 1}}).identity == one.identity


# ---- messages


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        (None, b"{}", "Content-Type is missing; allowed: application/json"),
        ("text/json; charset=utf-8", b"{}", "Content-Type is 'text/json'; allowed: application/json"),
        ("application/json", b"[1]", "the body is a JSON array; it must be an object"),
        ("application/json", b"null", "the body is a JSON null; it must be an object"),
        ("application/json", b"true", "the body is a JSON boolean; it must be an object"),
    ],
)
def test_a_refused_body_is_described_with_what_is_allowed(content_type: str | None, body: bytes, message: str) -> None:
    found = read_body(content_type, body)
    assert isinstance(found, Refusal)
    assert found.message == message


def test_invalid_json_is_reported_with_its_place() -> None:
    found = read_body("application/json", b'{"a": }')
    assert isinstance(found, Refusal)
    assert str(found.message).startswith("the body is not valid JSON: ")
    assert "line 1 column 7" in str(found.message)


ACME = load(specimen.FOLDER)


def acme_order(body: Any) -> Refusal:
    found = read_order(ACME, ACME.operations["submit"], Message({}, {}, lambda name: None, body))
    assert isinstance(found, Refusal)
    return found


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({}, Refusal("invalid_request", "model: is missing", ("body", "model"))),
        (
            {"model": 5},
            Refusal("invalid_request", "model: is a JSON number; it must be a string", ("body", "model")),
        ),
        (
            {"model": "x"},
            Refusal("unknown_model", "model is 'x'; allowed: acme/move, acme/cast", ("body", "model")),
        ),
        ({"model": "acme/move"}, Refusal("invalid_request", "input: is missing", ("body", "input"))),
        (
            {"model": "acme/move", "input": {"prompt": "run"}},
            Refusal("invalid_request", "image: is missing", ("body", "input", "image")),
        ),
        (
            {"model": "acme/move", "input": {"image": "a", "prompt": "run", "duration": 16}},
            Refusal(
                "invalid_request",
                "duration: 16 is greater than the maximum of 15",
                ("body", "input", "duration"),
            ),
        ),
    ],
)
def test_a_refused_order_names_the_place_and_what_is_allowed(body: Any, refusal: Refusal) -> None:
    assert acme_order(body) == refusal


def test_a_prompt_over_a_limit_that_refuses_is_reported_with_both_lengths() -> None:
    changes = {"lifecycle.json#/models/0/prompt_limit": {"characters": 100, "chinese": 50, "over": "refuse"}}
    contract = build(specimen.FOLDER, specimen.edited(changes))
    body = {"model": "acme/move", "input": {"image": "a", "prompt": "\u9a6c" * 51}}
    found = read_order(contract, contract.operations["submit"], Message({}, {}, lambda name: None, body))
    assert found == Refusal(
        "invalid_request",
        "prompt: is 102 characters long (a Chinese character counts as 2); allowed: at most 100",
        ("body", "input", "prompt"),
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"page": "x"}, 'page: "x" is not of type "integer"'),
        ({"page": "0"}, "page: 0 is less than the minimum of 1"),
        ({"size": "101"}, "size: 101 is greater than the maximum of 100"),
        ({"page": "1" * 19}, f'page: "{"1" * 19}" is not of type "integer"'),
    ],
)
def test_a_refused_parameter_is_named_with_its_limit(query: dict[str, str], message: str) -> None:
    found = read_parameters(ACME, ACME.operations["list"], {}, query, lambda name: None)
    name = next(iter(query))
    assert found == Refusal("invalid_request", message, ("query", name))
