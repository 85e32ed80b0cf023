"""Submissions for test cases: the documented request, as cheap as the contract allows. No HTTP.

Only the documented example is known to be valid, so the contract's own reader tries each change to it, and a change
that would be refused is dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.contract.values import Contract, Model, Operation

PROMPT_WORDS = "A horse gallops along the beach at low tide"
CHINESE_WORDS = "駿馬在雪地上奔跑"
# Length of a long prompt if the contract documents no limit: long enough to be truncated by a client that shortens
# prompts, short enough for every provider with a documented limit (5,000 characters).
LONG_PROMPT_CHARACTERS = 2_000
# Durations from 1 s are tried in order until one is accepted; this bound ends the search if the contract accepts none.
MOST_ORDER_SECONDS = 60
# Any fixed value, so that the same submission makes the same video in every run.
SEED = 7


def documented_jobs(contract: Contract) -> Iterator[tuple[Operation, Model, Any]]:
    """Yield each submitting operation with each model and the first documented body that the contract accepts."""
    for role in ("submit", "run"):
        operation = contract.operations.get(role)
        for model in contract.models if operation else ():
            assert operation is not None
            for body in operation.body_examples.values():
                if isinstance(try_order(contract, operation, model.id, body), ValidRequest):
                    yield operation, model, body
                    break


def plain_prompt(characters: int) -> str:
    """Return an ASCII prompt with a number of characters."""
    return ((PROMPT_WORDS + ", ") * (characters // len(PROMPT_WORDS) + 1))[:characters]


def chinese_prompt(characters: int) -> str:
    """Return a prompt of Chinese characters alone, with a number of them."""
    return (CHINESE_WORDS * (characters // len(CHINESE_WORDS) + 1))[:characters]


def order_for(
    contract: Contract, model: Model, *, role: str = "submit", mark: str = "", long: bool = False, picture: int = 1
) -> dict[str, Any]:
    """Return a body that submits a model's shortest and cheapest video, with a prompt that ends with `mark`.

    With `long`, the prompt is as long as the contract allows. `picture` selects one of several first pictures; 1 is the
    documented one, and `role` one of several operations that submit. Raises LookupError if the contract has no example.
    """
    found = next((job for job in documented_jobs(contract) if job[1] is model and job[0].role == role), None)
    if found is None:
        raise LookupError(f"no example of {contract.key} submits a job of {model.id!r}; add one to its openapi.json")
    operation, _, body = found
    for name, value in (*_pictures(operation, model, body, picture), *_preferences(contract, operation, model, body)):
        better = _with(operation, model, body, name, value)
        if better is not None and isinstance(try_order(contract, operation, model.id, better), ValidRequest):
            body = better
    ending = f", {mark}" if mark else ""
    longest = model.prompt_limit.characters if model.prompt_limit else LONG_PROMPT_CHARACTERS
    # The schema may have a lower limit than the documented one: fall back to shorter prompts.
    for length in (longest, LONG_PROMPT_CHARACTERS, LONG_PROMPT_CHARACTERS // 2) if long else (0,):
        prompt = (plain_prompt(length - len(ending)) if long else PROMPT_WORDS) + ending
        changed = _with(operation, model, body, "prompt", prompt)
        if changed is not None and isinstance(try_order(contract, operation, model.id, changed), ValidRequest):
            break
    else:
        changed = body
    found_body: dict[str, Any] = changed
    return found_body


def order_as(contract: Contract, model: Model, body: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return a body that `submit` takes in the form of another operation that submits. Raises LookupError."""
    found: dict[str, Any] = copy.deepcopy(dict(body))
    if role != "submit":
        parameters = resolve(found, contract.operations["submit"].model_parameters.pointer)
        pointer = contract.operations[role].model_parameters.pointer
        found = replaced(order_for(contract, model, role=role), pointer, parameters) if pointer else parameters
    return found


def _pictures(operation: Operation, model: Model, body: Any, picture: int) -> Iterator[tuple[str, Any]]:
    """Yield the pictures of a body under another name each; nothing for the documented ones."""
    for name in ("first_frame", "references") if picture > 1 else ():
        for inner in model.parameters.get(name, ()):
            found = resolve(body, (*operation.model_parameters.pointer, *inner))
            if isinstance(found, str):
                yield name, _renamed(found, picture)
            elif isinstance(found, list) and all(isinstance(one, str) for one in found):
                yield name, [_renamed(one, picture) for one in found]


def _renamed(url: str, picture: int) -> str:
    """Return the URL of another file in the same folder. Other texts, such as inline data, stay as they are."""
    if urlsplit(url).scheme not in ("http", "https"):
        return url
    folder, _, name = url.rpartition("/")
    return f"{folder}/{picture}-{name}"


def _preferences(contract: Contract, operation: Operation, model: Model, body: Any) -> Iterator[tuple[str, Any]]:
    """Yield parameters that make a job cheap and reproducible. The caller drops a parameter that is refused."""
    if model.price:
        yield "resolution", min(model.price, key=lambda tier: (model.price[tier], tier))
    for seconds in range(1, MOST_ORDER_SECONDS):
        shorter = _with(operation, model, body, "duration", seconds)
        if shorter is not None and isinstance(try_order(contract, operation, model.id, shorter), ValidRequest):
            yield "duration", seconds
            break
    yield "seed", SEED


def _with(operation: Operation, model: Model, body: Any, name: str, value: Any) -> Any:
    """Return a body with a parameter set, or None if the model or this body has no place for the parameter."""
    for inner in model.parameters.get(name, ()):
        pointer = (*operation.model_parameters.pointer, *inner)
        # If the example lacks the enclosing object, the place belongs to another form of the request.
        if len(pointer) == 1 or resolve(body, pointer[:-1]) is not MISSING:
            return replaced(body, pointer, value)
    return None
