"""Rules about the catalogue of models: its entries, its pages and its filters. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, Breach, rule
from hobbyhorse.conformance.server.expected import (
    KindEvidence,
    binding_places,
    conclusive_probes,
    label,
    one_per_kind,
    operation_of,
)
from hobbyhorse.contract.forms.expressions import MISSING, resolve
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step

# The probes of the catalogue's filters.
PROBE = "catalogue"
# The words that no model is described with.
NO_MODEL = "no-such-model-a1b2c3"
# The values of an entry that the list of all models shows, too.
COMPARED = ("name", "task", "kind", "price")


def _lists_models(contract: Contract) -> bool:
    listing = contract.operations.get("models")
    return listing is not None and listing.items is not None and "model" in listing.items.bindings


@rule(
    "CAT-01",
    "entries",
    level=MUST,
    severity="S3",
    harm=MONEY,
    applies=_lists_models,
    says="The catalogue lists each model once, the documented ones included, with the values of the model's own entry.",
    because="A client that reads the price in the list is billed by the entry, and offers no model that is not listed.",
    fix="Build the list and the entry from one record, and select each record once.",
)
@one_per_kind
def entries(trace: AnnotatedTrace) -> KindEvidence:
    """Find repeated and missing models in lists, and values that differ from those of the entries."""
    shown = _entries(trace)
    for step in _lists(trace):
        places = (*_items_at(step), "lifecycle.json#/operations/models")
        items = _items(trace, step)
        names = [str(item.get("model")) for item in items]
        yield OBSERVED
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            yield "twice", Breach(f"{label(step)}: model {twice!r} is listed twice", places, names)
        yield from _unlisted(trace, step, names)
        for item in items:
            other, values = shown.get(str(item.get("model")), (step, {}))
            for name in COMPARED:
                if name in item and name in values and item[name] != values[name]:
                    message = f"{label(step)}: {name} of model {item['model']!r} is {item[name]}, but "
                    message += f"{label(other)} has {values[name]}"
                    bound = binding_places(trace.contract, trace.contract.operations["model"], name)
                    yield name, Breach(message, (*places, *bound), item[name])


def _unlisted(trace: AnnotatedTrace, step: Step, names: list[str]) -> KindEvidence:
    """Find models under test that a complete list lacks."""
    total = step.reading.values.get("total")
    if _query(step) or not isinstance(total, int) or total > len(names):
        return
    model = trace.contract.model(trace.trace.model or "")
    if model is not None and not {model.id, *model.aliases} & set(names):
        message = f"{label(step)}: a complete list of {len(names)} models does not have {model.id!r}"
        yield "unlisted", Breach(message, (*_items_at(step), "lifecycle.json#/operations/models"), names)


def _entries(trace: AnnotatedTrace) -> dict[str, tuple[Step, Mapping[str, Any]]]:
    """Return the values of each model's own entry, with the response that shows them."""
    found = (step for step in trace.of("model") if step.ok)
    return {str(step.reading.values.get("model")): (step, step.reading.values) for step in found}


@rule(
    "CAT-02",
    "filtered",
    level=MUST,
    severity="S3",
    applies=_lists_models,
    says="A list of models has at most as many models as requested, from the requested one on, and only models of the "
    "requested category and kind; its total counts the models of all pages.",
    because="A client that walks through the pages never comes to the end, and offers its users models of other kinds.",
    fix="Apply the filters first, then count, then cut the page, in one query.",
)
@one_per_kind
def filtered(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the models of each list with its request, and with the list of all models."""
    whole = next((step for step in _lists(trace) if not _query(step)), None)
    for step in _lists(trace):
        operation, items = operation_of(trace, step), _items(trace, step)
        for name, breach in _breaches(trace, operation, step, items):
            yield name, Breach(breach, binding_places(trace.contract, operation, name), len(items))
        yield OBSERVED
        for name, breach in _beside(trace, step, whole) if whole is not None else ():
            yield name, Breach(breach, binding_places(trace.contract, operation, name), len(items))


def _breaches(
    trace: AnnotatedTrace, operation: Operation, step: Step, items: list[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Yield the ways in which a list contradicts its own request, each with the name of a value."""
    size, total = _asked(operation, step, "size"), step.reading.values.get("total")
    if size is not None and size.isdecimal() and len(items) > int(size):
        yield "size", f"{label(step)}: {len(items)} models; requested: {size}"
    if isinstance(total, int) and total < len(items):
        yield "total", f"{label(step)}: {len(items)} models; total: {total}"
    for name in ("task", "kind"):
        wanted = _asked(operation, step, name)
        for value in _values(trace, step, name) if wanted is not None else ():
            if value is not MISSING and wanted not in (value if isinstance(value, list) else [value]):
                yield name, f"{label(step)}: a model of {name} {value!r}; requested: {wanted!r}"


def _beside(trace: AnnotatedTrace, step: Step, whole: Step) -> Iterator[tuple[str, str]]:
    """Yield the contradictions between a list and the list of all models, each with the name of a value."""
    operation, query = operation_of(trace, step), _query(step)
    names, every = ([item.get("model") for item in _items(trace, one)] for one in (step, whole))
    totals = [one.reading.values.get("total") for one in (step, whole)]
    paged = {_name(operation, one) for one in ("size", "offset")}
    if query and set(query) <= paged and all(isinstance(one, int) for one in totals) and totals[0] != totals[1]:
        yield "total", f"{label(step)}: the total is {totals[0]}; without a page it is {totals[1]}"
    offset = _asked(operation, step, "offset")
    first = int(offset) if offset is not None and offset.isdecimal() and set(query) <= paged else 0
    if 0 < first < len(every) and names[:1] != every[first : first + 1]:
        yield "offset", f"{label(step)}: the first model is {names[:1]}; expected: {every[first]!r}"
    if _asked(operation, step, "search") == NO_MODEL and names and names == every:
        yield "search", f"{label(step)}: a search for {NO_MODEL!r} finds every model"


def _lists(trace: AnnotatedTrace) -> list[Step]:
    """Return the lists of models that were granted to the account under test."""
    granted = conclusive_probes(trace, PROBE, "read:models", "query:bound")
    return [step for step in granted if step.role == "models" and step.ok]


def _items(trace: AnnotatedTrace, step: Step) -> list[Mapping[str, Any]]:
    return read_items(operation_of(trace, step), message_of((), step.value))


def _items_at(step: Step) -> tuple[str, ...]:
    return (f"lifecycle.json#/operations/{step.role}/items",)


def _query(step: Step) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(step.exchange.url).query))


def _name(operation: Operation, name: str) -> str | None:
    binding = operation.bindings.get(name)
    places = binding.request if binding is not None else ()
    return next((place.name for place in places if place.part == "query"), None)


def _asked(operation: Operation, step: Step, name: str) -> str | None:
    """Return a bound value of a request's query."""
    return _query(step).get(_name(operation, name) or "")


def _values(trace: AnnotatedTrace, step: Step, name: str) -> list[Any]:
    """Return a value of each model in a list; the whole list that the value is bound in, if it is bound in one."""
    items = operation_of(trace, step).items
    binding = items.bindings.get(name) if items is not None else None
    found = items.at.get(message_of((), step.value)) if items is not None else None
    if binding is None or not binding.response or not isinstance(found, list):
        return []
    pointer = binding.response[0].pointer
    return [resolve(one, pointer[:-1] if pointer[-1].isdecimal() else pointer) for one in found]


def requests_of(operation: Operation, task: str) -> list[dict[str, str]]:
    """Return the queries that show whether a list of models follows its request."""
    asked = [{"size": "1"}, {"size": "1", "offset": "1"}, {"task": task}, {"kind": NO_MODEL}, {"search": NO_MODEL}]
    named = [{_name(operation, name): value for name, value in one.items()} for one in asked]
    return [{str(name): value for name, value in one.items()} for one in named if None not in one]
