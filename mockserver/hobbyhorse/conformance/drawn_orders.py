"""Hypothesis strategies for valid submissions: every parameter of a model drawn from its schema. No HTTP.

The documented example keeps everything that a drawn value could not replace: pictures, which the provider fetches, and
members beside the model's parameters, such as its name. The contract's own reader has the last word.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from hypothesis import strategies as st

from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.generate import TEXT, values
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.contract.values import Contract, Model, Operation

# Each of these broke a client: quotes and line breaks in JSON made from a template, characters outside the basic plane
# and combining ones that were counted or cut as bytes, right-to-left text, the signs of templates, of environment
# variables and of the shell, a path as a file name, a word that looks like an option.
TELLING_PROMPTS = (
    "a horse",
    'the sign says "no horses"',
    "first line\nsecond line\ttabbed\r\nthird line",
    "駿馬在雪地上奔跑，𠮷尾隨其後",
    "🐎🏇🏽 👩\u200d🚀 🇨🇳",
    "e\u0301cole, Zu\u0308rich, nin\u0303o",
    "حصان يركض على الشاطئ",
    "100 % {horse} $HOME ${PATH} %PATH% $(id) `id` %s %(horse)s {{horse}} <b>&amp;</b>",
    "../../horse/and:rider?*|\\.mp4  * ~ two  spaces",
    " leading and trailing spaces ",
    "null",
    "0",
    "--horse",
)
PICTURES = ("first_frame", "references")


def orders(contract: Contract, model: Model) -> st.SearchStrategy[Any]:
    """Return a strategy for bodies that submit a job of a model; they shrink to few and plain members.

    Raises LookupError if the contract has no example for the model, UnusableSchema if its schema cannot be generated.
    """
    example, operation = order_for(contract, model), contract.operations["submit"]
    around = operation.model_parameters.pointer
    pictures = tuple(_pictures(model))
    beside = example if around else _without(example, contract.schemas.at(model.schema))

    def complete(parameters: Any, prompt: str) -> Any:
        given = resolve(example, around)
        for place in pictures:
            kept = resolve(given, place)
            # A place that the example lacks would hold the address of a picture that nobody serves.
            if kept is not MISSING or resolve(parameters, place) is not MISSING:
                parameters = replaced(parameters, place, copy.deepcopy(kept))
        for place in model.parameters.get("prompt", ())[:1]:
            if resolve(parameters, place) is not MISSING:
                parameters = replaced(parameters, place, prompt)
        return replaced(beside, around, parameters) if around else {**beside, **parameters}

    drawn = st.builds(complete, values(contract.schemas, model.schema), st.sampled_from(TELLING_PROMPTS) | TEXT)
    return drawn.filter(lambda body: is_valid(contract, operation, model, body))


def _without(example: Any, schema: Any) -> dict[str, Any]:
    """Return the members of an example that a model's schema does not declare."""
    return {name: value for name, value in example.items() if name not in schema.get("properties", {})}


def is_valid(contract: Contract, operation: Operation, model: Model, body: Any) -> bool:
    """Whether a body submits a job of a model."""
    return isinstance(try_order(contract, operation, model.id, body), ValidRequest)


def _pictures(model: Model) -> Iterator[Pointer]:
    """Yield the places of a model's pictures; of a picture in a list, the place of the list."""
    found = [place for name in PICTURES for place in model.parameters.get(name, ())]
    yield from dict.fromkeys(tuple(takewhile(lambda step: not step.isdigit(), place)) for place in found)
