"""What a client is asked to order: the documented request, made cheap, with words of our own in its prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.contract.values import Contract, Model, Operation

PROMPT_WORDS = "A horse gallops along the beach at low tide"
LONG_PROMPT_CHARACTERS = 2_000
"""How long a long prompt is, in characters, where the contract sets no limit."""
MOST_ORDER_SECONDS = 60
SEED = 7


def documented_jobs(contract: Contract) -> Iterator[tuple[Operation, Model, Any]]:
    """Yield each way to order a job with each model, and the body that the document shows for it."""
    for role in ("submit", "run"):
        operation = contract.operations.get(role)
        for model in contract.models if operation else ():
            assert operation is not None
            for body in operation.body_examples.values():
                if isinstance(try_order(contract, operation, model.id, body), ValidRequest):
                    yield operation, model, body
                    break


def order_for(contract: Contract, model: Model, *, mark: str = "", long: bool = False) -> dict[str, Any]:
    """Return a request for the shortest and cheapest video of a model; `mark` stands at the end of its prompt.

    With `long` the prompt is as long as the contract allows. Raises LookupError if no document shows a request.
    """
    found = next((job for job in documented_jobs(contract) if job[1] is model and job[0].role == "submit"), None)
    if found is None:
        raise LookupError(f"no document of {contract.key} shows a request for {model.id!r}")
    operation, _, body = found
    for name, value in _wishes(contract, operation, model, body):
        better = _with(operation, model, body, name, value)
        if better is not None and isinstance(try_order(contract, operation, model.id, better), ValidRequest):
            body = better
    ending = f", {mark}" if mark else ""
    longest = model.prompt_limit.characters if model.prompt_limit else LONG_PROMPT_CHARACTERS
    for length in (longest, LONG_PROMPT_CHARACTERS, LONG_PROMPT_CHARACTERS // 2) if long else (0,):
        words = PROMPT_WORDS if not long else (PROMPT_WORDS + ", ") * (length // len(PROMPT_WORDS) + 1)
        prompt = (words[: length - len(ending)] if long else words) + ending
        asked = _with(operation, model, body, "prompt", prompt)
        if asked is not None and isinstance(try_order(contract, operation, model.id, asked), ValidRequest):
            break
    else:
        asked = body
    whole: dict[str, Any] = asked
    return whole


def _wishes(contract: Contract, operation: Operation, model: Model, body: Any) -> Iterator[tuple[str, Any]]:
    """Yield what would make a request cheap and the same each time: a wish that cannot be had is no harm."""
    if model.price:
        yield "resolution", min(model.price, key=lambda tier: (model.price[tier], tier))
    for seconds in range(1, MOST_ORDER_SECONDS):
        wished = _with(operation, model, body, "duration", seconds)
        if wished is not None and isinstance(try_order(contract, operation, model.id, wished), ValidRequest):
            yield "duration", seconds
            break
    yield "seed", SEED


def _with(operation: Operation, model: Model, body: Any, name: str, value: Any) -> Any:
    """Return a request with a parameter set; None if the model has no such parameter, or no place for it here."""
    for inner in model.parameters.get(name, ()):
        pointer = (*operation.model_parameters.pointer, *inner)
        if len(pointer) == 1 or resolve(body, pointer[:-1]) is not MISSING:
            return replaced(body, pointer, value)
    return None
