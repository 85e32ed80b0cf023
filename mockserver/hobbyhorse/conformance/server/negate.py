"""JSON that violates a schema in exactly one keyword, for every place and keyword. Knows no operation and no HTTP."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable

from hobbyhorse.contract.forms.expressions import Pointer, format_pointer
from hobbyhorse.contract.generate import JSON_KINDS, TEXT, Generator, Parts, Shape, Strategy, UnusableSchema, fresh_name
from hobbyhorse.contract.schemas import Schemas

# The violated place as a JSON Pointer (for a missing member, its own pointer) and the keyword.
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A value that violates a schema, with the place and the keyword of the violation."""

    value: Any
    pointer: str
    keyword: str


@dataclass(frozen=True, slots=True)
class _Break:
    """One way to violate a schema: the place, the keyword, and values that are invalid there."""

    pointer: Pointer
    keyword: str
    values: Strategy

    def below(self, step: str, values: Strategy) -> _Break:
        """Return the same violation seen from the enclosing value."""
        return _Break((step, *self.pointer), self.keyword, values)


def mutations(schemas: Schemas, address: str, pairs: Iterable[Pair] | None = None) -> st.SearchStrategy[Mutation]:
    """Return a strategy of values that each violate one keyword of the schema at an address; `pairs` selects which.

    The branches of an `anyOf` are treated one by one; a value counts only if it violates the whole schema. In a list,
    the first item is invalid. Raises UnusableSchema.
    """
    wanted = None if pairs is None else list(pairs)
    breaks = _breaks(schemas, address, wanted)
    if unknown := [pair for pair in wanted or () if pair not in breaks]:
        raise UnusableSchema(f"{address}: cannot violate {unknown} alone; `breakable` lists the pairs")
    if not breaks:
        raise UnusableSchema(f"{address}: no value violates this schema")

    def broken(pair: Pair) -> st.SearchStrategy[Mutation]:
        return breaks[pair].map(lambda value: Mutation(value, *pair))

    return st.sampled_from(list(breaks)).flatmap(broken)


def breakable(schemas: Schemas, address: str) -> list[Pair]:
    """Return every pair of place and keyword that a value can violate alone."""
    return list(_breaks(schemas, address))


def _breaks(schemas: Schemas, address: str, wanted: Collection[Pair] | None = None) -> dict[Pair, Strategy]:
    """Return the values for each pair, after a trial: a broken branch of an `anyOf` may be valid under another."""
    generator, whole, found = Generator(schemas), schemas.validator(address), dict[Pair, Strategy]()
    generator.below((address,))
    for one in _Breaker(generator).at((address,)):
        pair = (format_pointer(one.pointer), one.keyword)
        values = one.values.filter(lambda value: not whole.is_valid(value))
        if (wanted is None or pair in wanted) and _some(values):
            found[pair] = found[pair] | values if pair in found else values
    return found


_TRY = settings(
    max_examples=10,  # most pairs yield a value at once; the rest are not worth a longer search
    database=None,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _some(values: Strategy) -> bool:
    """Whether a strategy yields any value."""
    try:
        find(values, lambda value: True, settings=_TRY)
    except (NoSuchExample, Unsatisfiable):
        return False
    return True


# For each bound: the opposite bound that confines values just beyond it, the step beyond it, and its kinds of value.
OPPOSITE: Mapping[str, tuple[str, Callable[[Any], Any], tuple[str, ...]]] = {
    "minLength": ("maxLength", lambda bound: bound - 1, ("string",)),
    "maxLength": ("minLength", lambda bound: bound + 1, ("string",)),
    "minItems": ("maxItems", lambda bound: bound - 1, ("array",)),
    "maxItems": ("minItems", lambda bound: bound + 1, ("array",)),
    "minimum": ("maximum", lambda bound: math.nextafter(bound, -math.inf) if bound else -1e-9, ("integer", "fraction")),
    "maximum": ("minimum", lambda bound: math.nextafter(bound, math.inf) if bound else 1e-9, ("integer", "fraction")),
}

# Values of each kind, used where another kind is expected.
MISFITS: Mapping[str, Strategy] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "integer": st.sampled_from([0, 1, -1, 5]) | st.integers(-(2**31), 2**31),
    "fraction": st.sampled_from([3.5, 0.5, -0.5, 4.999999]),
    "string": st.sampled_from(["", "0", "true", "null"]) | TEXT,
    "array": st.builds(list),
    "object": st.builds(dict),
}


class _Breaker:
    """Finds every way to violate the schemas that a generator knows."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def at(self, parts: Parts, trail: tuple[Parts, ...] = ()) -> Iterator[_Break]:
        """Yield the violations of the schemas at some addresses. A recursive schema is entered once."""
        # A schema that contains itself would be broken at ever deeper places.
        if parts in trail:
            return
        shapes = self._generator.shapes(parts)
        yield from self._type(parts, shapes)
        for shape in shapes:
            # Behind an enum or a const no other keyword can be violated alone.
            if shape.limited:
                yield from self._choice(shape)
                continue
            kinds = self._generator.possible_kinds(shape)
            yield from self._bounds(shape)
            if "string" in kinds and shape.patterns:
                yield _Break((), "pattern", self._mismatched(shape))
            if "array" in kinds:
                yield from self._items(shape, (*trail, parts))
            if "object" in kinds:
                yield from self._required(shape)
                yield from self._undeclared(shape)
                yield from self._members(shape, (*trail, parts))

    def _type(self, parts: Parts, shapes: list[Shape]) -> Iterator[_Break]:
        """Yield values of kinds that no shape allows, such as the right value inside a string, a list or an object."""
        kinds = {kind for shape in shapes for kind in shape.kinds}
        wrong = [kind for kind in JSON_KINDS if kind not in kinds]
        if not wrong or not self._generator.possible(parts):
            return
        right = self._generator.at(parts)
        integers = [
            shape for shape in shapes if "integer" in self._generator.possible_kinds(shape) and not shape.limited
        ]
        fractions = {"fraction": st.one_of([self._fraction(shape) for shape in integers])} if integers else {}
        values = [{**MISFITS, **fractions}[kind] for kind in wrong]
        if "string" in wrong:
            values.append(right.map(lambda value: json.dumps(value, ensure_ascii=False)))
        if "array" in wrong:
            values.append(right.map(lambda value: [value]))
        if "object" in wrong:
            values.append(right.map(lambda value: {"value": value}))
        yield _Break((), "type", st.one_of(values))

    def _fraction(self, shape: Shape) -> Strategy:
        """Return fractions within the bounds of an integer."""
        free = shape.without("type")
        halves = self._generator.integer(shape).map(lambda value: value + 0.5)
        return (halves | self._generator.of(free, ["fraction"])).filter(
            lambda value: free.admits(value) and not value.is_integer()
        )

    def _choice(self, shape: Shape) -> Iterator[_Break]:
        """Yield values of the right kind that the enum does not list, neighbours of listed values included."""
        choices, free = self._generator.choices(shape), shape.without("enum", "const")
        strings = [value for value in choices if isinstance(value, str)]
        integers = [value for value in choices if type(value) is int]
        near: list[Any] = [other for value in strings for other in _misspelt(value)]
        near = [
            value for value in [*near, *(value + step for value in integers for step in (-1, 1))] if free.admits(value)
        ]
        values = self._generator.of(free) | (st.sampled_from(near) if near else st.nothing())
        validators = [self._generator.schemas.validator(at) for at, _ in shape.parts]
        yield _Break(
            (),
            "const" if shape.values_of("const") else "enum",
            values.filter(lambda value: not all(validator.is_valid(value) for validator in validators)),
        )

    def _bounds(self, shape: Shape) -> Iterator[_Break]:
        """Yield values just beyond each bound, and further out."""
        for keyword, (opposite, beyond, kinds) in OPPOSITE.items():
            if said := shape.values_of(keyword):
                bound = max(said) if keyword.startswith("min") else min(said)
                past = shape.without(keyword).also(opposite, beyond(bound))
                yield _Break((), keyword, self._generator.of(past, kinds))

    def _mismatched(self, shape: Shape) -> Strategy:
        """Return strings of a valid length that do not match the pattern, some of them by one character."""
        free = shape.without("pattern")
        near = self._generator.string(shape).flatmap(lambda text: st.sampled_from(_misspelt(text)))
        found = near | self._generator.string(free)
        return found.filter(lambda text: free.admits(text) and not shape.admits(text))

    def _items(self, shape: Shape, trail: tuple[Parts, ...]) -> Iterator[_Break]:
        """Yield lists with an invalid first item."""
        if shape.bounds("minItems", "maxItems")[1] == 0:
            return
        for broken in self.at(shape.items, trail):
            yield broken.below("0", self._generator.array(shape, first=broken.values))

    def _required(self, shape: Shape) -> Iterator[_Break]:
        """Yield objects that lack one required member."""
        for name in shape.required:
            yield _Break((name,), "required", self._generator.object(shape, without=frozenset({name})))

    def _undeclared(self, shape: Shape) -> Iterator[_Break]:
        """Yield objects with one undeclared member; its name is often a misspelling of a declared one."""
        if not shape.closed:
            return
        known = {*shape.declared, *shape.required}
        near = [other for name in shape.declared for other in _misspelt(name) if other not in known]
        names = st.just(fresh_name(shape)) | st.sampled_from(near or [fresh_name(shape)])
        objects = self._generator.object(shape)
        values = st.builds(lambda found, name, value: {**found, name: value}, objects, names, self._generator.at(()))
        yield _Break((), "additionalProperties", values)

    def _members(self, shape: Shape, trail: tuple[Parts, ...]) -> Iterator[_Break]:
        """Yield objects with one invalid member."""
        undeclared = [fresh_name(shape)] if shape.values_of("additionalProperties") and not shape.closed else []
        for name in [*shape.declared, *undeclared]:
            for broken in self.at(shape.member(name), trail):
                yield broken.below(name, self._generator.object(shape, given={name: broken.values}))


def _misspelt(text: str) -> list[str]:
    """Return texts that are one typing error away."""
    return [text.swapcase(), f" {text}", f"{text} ", text[1:], text[:-1], text.replace("_", "-"), text + text[-1:]]
