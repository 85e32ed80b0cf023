"""Which request a submission carries, whichever accepted form the client gave it. Knows no trace and no server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hobbyhorse.contract.folder import path_names
from hobbyhorse.contract.forms.expressions import MISSING, Message, resolve
from hobbyhorse.contract.reading import as_json
from hobbyhorse.contract.request import Refusal, documented_form, find_model
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.traces.exchange import Exchange


def path_values(operation: Operation, url: str, bases: Iterable[str]) -> dict[str, str] | None:
    """Return the path parameters of a request; None if its URL is not the operation's under one of the base URLs."""
    path = urlsplit(url).path
    roots = {urlsplit(base).path.rstrip("/") for base in bases}
    # The longest base first: a shorter one may be its prefix, and would leave too much of the path.
    for root in sorted(roots, key=len, reverse=True):
        matched = operation.pattern.fullmatch(path.removeprefix(root)) if path.startswith(root) else None
        if matched is not None:
            return dict(zip(path_names(operation.path), map(unquote, matched.groups()), strict=True))
    return None


def carried(
    contract: Contract, exchange: Exchange, bases: Iterable[str], requests: Sequence[Mapping[str, Any] | None]
) -> list[int]:
    """Return the numbers of the requests that a body may carry, from 0.

    A body carries a request if it contains it. The body may have more members, such as the client's callback URL, and
    may have another form that the contract accepts. If no request is contained as it is, equal prompts decide: a client
    may omit or convert other parameters.
    """
    body = as_json(exchange.body)
    contained = [number for number, one in enumerate(requests) if _contains(body, one)]
    operation = contract.operations.get(exchange.role or "")
    values = path_values(operation, exchange.url, bases) if operation is not None else None
    if contained or body is MISSING or operation is None or values is None:
        return contained
    message = Message(values, dict(parse_qsl(urlsplit(exchange.url).query)), exchange.header, body)
    sent, prompt = _documented(contract, operation, message)
    asked = [_documented(contract, operation, replace(message, body=one)) for one in requests]
    contained = [number for number, (one, _) in enumerate(asked) if one is not MISSING and _within(one, sent)]
    if contained or not isinstance(prompt, str):
        return contained
    return [number for number, (_, requested) in enumerate(asked) if requested == prompt]


def _documented(contract: Contract, operation: Operation, message: Message) -> tuple[Any, Any]:
    """Return the parameters of a submission in the documented form, and its prompt; MISSING if there is none."""
    rewritten = documented_form(operation, message)
    if isinstance(rewritten, Refusal):
        return MISSING, MISSING
    message, _ = rewritten
    parameters = operation.model_parameters.get(message)
    # The caller may have given the parameters alone, which the client wraps.
    parameters = message.body if parameters is MISSING else parameters
    model = find_model(contract, operation, message)
    places = model.parameters.get("prompt", ()) if not isinstance(model, Refusal) else ()
    return parameters, resolve(parameters, places[0]) if places else MISSING


def _contains(body: Any, requested: Any) -> bool:
    """Whether a request is in a body, possibly inside an envelope that the client adds."""
    inner = body.values() if isinstance(body, Mapping) else ()
    return _within(requested, body) or any(_contains(value, requested) for value in inner)


def _within(requested: Any, sent: Any) -> bool:
    """Whether a value contains another one: its objects may have more members."""
    if isinstance(requested, Mapping):
        return isinstance(sent, Mapping) and all(
            name in sent and _within(requested[name], sent[name]) for name in requested
        )
    return bool(requested == sent)
