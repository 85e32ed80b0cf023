"""Mutants of the input constraints: each keyword of a schema and each picture limit, looser and tighter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING, format_pointer
from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.contract.schemas import address
from hobbyhorse.contract.values import Contract, Model

from .mutant import Mutant, Source, shown
from .serving import Served

LOWER = ("minimum", "minLength", "minItems")
UPPER = ("maximum", "maxLength", "maxItems")
LOOSER, TIGHTER = "looser constraint", "tighter constraint"


def constraints(source: Source) -> Iterator[Mutant]:
    """Yield every mutant of the input constraints of a contract."""
    contract = source.contract
    for number, model in enumerate(contract.models):
        for pointer, schema in _nodes(contract.schemas.document(model.schema_file), ()):
            for change in keyword_changes(schema, _is_cut(model, pointer)):
                yield _changed(source, model.schema_file, pointer, change, number)
        yield from _pictures(source, number)
    seen = set[str]()
    for operation in contract.operations.values():
        for parameter in operation.parameters:
            file, _, place = parameter.schema.partition("#")
            schema = contract.schemas.at(parameter.schema)
            if parameter.part == "path" or parameter.schema in seen or not isinstance(schema, Mapping):
                continue
            seen.add(parameter.schema)
            for change in keyword_changes(schema):
                # Whatever a header or a query has is a text.
                if change != (LOOSER, "type", MISSING) or parameter.type != "string":
                    yield _changed(source, file, _steps(place), change)


def _steps(place: str) -> tuple[str, ...]:
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in place.split("/")[1:])


def _is_cut(model: Model, pointer: tuple[str, ...]) -> bool:
    """Whether longer texts at a place are cut before anything looks at their length."""
    prompt = model.prompt_limit is not None and model.prompt_limit.over == "truncate"
    return prompt and pointer[-1:] == ("prompt",)


def _changed(
    source: Source, file: str, pointer: tuple[str, ...], change: tuple[str, str, Any], model: int = 0
) -> Mutant:
    """Return the mutant of a change of a schema: operator, keyword, and the new value."""
    operator, keyword, value = change
    at = (*pointer, keyword)
    before = source.contract.schemas.at(address(file, at))
    words = f"{shown(before)} → {'none' if value is MISSING else shown(value)}"

    def served() -> Served:
        return Served(source.edited(file, format_pointer(at), value), model=model)

    return source.mutant(operator, address(file, at), words, served)


def _nodes(schema: Any, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield each schema in a model's schema with its place."""
    if not isinstance(schema, Mapping):
        return
    yield at, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _nodes(inner, (*at, "properties", name))
    yield from _nodes(schema.get("items"), (*at, "items"))


def keyword_changes(schema: Mapping[str, Any], is_cut: bool = False) -> Iterator[tuple[str, str, Any]]:
    """Yield each change of a schema: operator, keyword, and its new value."""
    yield from _bound_changes(schema, is_cut)
    for keyword in ("const", "pattern", "additionalProperties"):
        # A pattern or a constant that is left out allows more; so does `false` that is left out.
        if keyword in schema and schema[keyword] is not True:
            yield LOOSER, keyword, MISSING
    if "enum" in schema:
        yield from _enum_changes(schema["enum"])
    elif "type" in schema and "const" not in schema:
        yield LOOSER, "type", MISSING
    required = schema.get("required", [])
    for name in required:
        yield LOOSER, "required", [other for other in required if other != name]
    for name in schema.get("properties", ()):
        if name not in required:
            yield TIGHTER, "required", [*required, name]


def _bound_changes(schema: Mapping[str, Any], is_cut: bool) -> Iterator[tuple[str, str, Any]]:
    for keyword in filter(schema.__contains__, (*LOWER, *UPPER)):
        less = TIGHTER if keyword in UPPER else LOOSER
        for operator, value in ((less, schema[keyword] - 1), (_opposite(less), schema[keyword] + 1)):
            if operator == TIGHTER or not is_cut:
                yield operator, keyword, value


def _opposite(operator: str) -> str:
    return LOOSER if operator == TIGHTER else TIGHTER


def _enum_changes(choices: list[Any]) -> Iterator[tuple[str, str, Any]]:
    text = isinstance(choices[0], str)
    yield LOOSER, "enum", [*choices, "other" if text else max(choices) + 1]
    if len(choices) > 1:
        for one in choices:
            yield TIGHTER, "enum", [other for other in choices if other != one]


def _pictures(source: Source, number: int) -> Iterator[Mutant]:
    """Yield the limits of a model's pictures, each looser and tighter."""
    model = source.contract.models[number]
    if model.images is None:
        return
    place = f"lifecycle.json#/models/{number}/images"
    for operator, name, images in picture_changes(model.images):
        change = f"{shown(getattr(model.images, name))} → {shown(getattr(images, name))}"
        yield source.mutant(
            f"{operator} of pictures", f"{place}/{name}", change, _with_images(source.contract, number, images)
        )


def picture_changes(images: PictureLimits) -> Iterator[tuple[str, str, PictureLimits]]:
    """Yield each change of the limits of pictures: operator, name of the limit, and the new limits."""
    for one in images.formats:
        yield TIGHTER, "formats", replace(images, formats=tuple(other for other in images.formats if other != one))
    yield LOOSER, "formats", replace(images, formats=(*images.formats, "gif"))
    if images.least_side is not None:
        yield LOOSER, "least_side", replace(images, least_side=images.least_side - 1)
        yield TIGHTER, "least_side", replace(images, least_side=images.least_side + 1)
    if images.aspect is not None:
        low, high = images.aspect
        yield LOOSER, "aspect", replace(images, aspect=(low / 2, high * 2))
        yield TIGHTER, "aspect", replace(images, aspect=(low * 1.1, high / 1.1))
    if images.most_bytes is not None:
        yield LOOSER, "most_bytes", replace(images, most_bytes=2 * images.most_bytes)
        yield TIGHTER, "most_bytes", replace(images, most_bytes=images.most_bytes // 2)


def _with_images(contract: Contract, number: int, images: PictureLimits) -> Callable[[], Served]:
    def make() -> Served:
        models = list(contract.models)
        models[number] = replace(models[number], images=images)
        return Served(replace(contract, models=tuple(models)), model=number)

    return make
