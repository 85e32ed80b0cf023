"""Hypothesis strategies for JSON values that satisfy a contract's schema. Of a contract, it knows only the `Schemas`.

Supports the keywords that contracts may use (contracts/README.md) and raises UnusableSchema for any other, because
ignoring a keyword would produce invalid values. The steps:

1. A schema is expanded into `Shape`s, conjunctions of plain schemas. `$ref` adds a schema to the conjunction, and each
   `anyOf` branch becomes a separate shape.
2. A conjunction is solved keyword by keyword: the largest minimum, the smallest maximum, the intersection of types.
   Only patterns need filtering: the first pattern generates strings, and the others filter them.
3. Impossible schemas are detected before anything is drawn (`possible`), because a strategy that filters everything out
   fails with a message about Hypothesis and not about the schema.

Strategies are deferred and cached by address, so recursive schemas work. Every union begins with simple values, because
Hypothesis shrinks towards the first alternative.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from hypothesis import strategies as st

from hobbyhorse.contract.forms.expressions import MISSING, ExpressionError, format_pointer
from hobbyhorse.contract.schemas import Schemas

BOUNDS = ("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum")
ASSERTIONS = frozenset(
    ("$ref", "anyOf", "type", "enum", "const", "properties", "required", "additionalProperties", "items", "pattern")
) | frozenset(BOUNDS)
ANNOTATIONS = frozenset(("$schema", "$id", "title", "description", "default", "example", "examples", "format"))

JSON_KINDS = ("null", "boolean", "integer", "fraction", "string", "array", "object")
"""The kinds of JSON values, simplest first. JSON Schema's `number` is either `integer` or `fraction`."""

# The bound for schemas without a bound: larger integers are not exact in readers that use doubles (RFC 8259, 6).
LARGEST_INTEGER = 2**53 - 1

# Fractions are drawn within this distance of their only bound, or of 0. It covers every documented quantity, and
# doubles of this size still have fractional digits.
MOST_FRACTION = 1_000_000.0
# Maximum lengths of strings and arrays that are not at a bound: enough for variety, and short enough that a failing
# example is readable.
USUAL_LENGTH = 20
USUAL_ITEMS = 4  # a first, a last and two items between

# Scripts that break naive code: Chinese (traditional, simplified, and outside the basic plane), emoji of several code
# points, combining accents, right-to-left text and its override.
CHINESE_AND_EMOJI = "骏马在雪地上奔跑，尾随其后。駿馬𠮷🐎🏇🏽👩‍🚀🇨🇳é́ß\u202eا"
TEXT = (
    st.text("abcdefghijklmnopqrstuvwxyz ABC019'\"\\/<&", max_size=USUAL_LENGTH)
    | st.text(CHINESE_AND_EMOJI, max_size=USUAL_LENGTH)
    | st.text(st.characters(codec="utf-8"), max_size=USUAL_LENGTH)
)
# For `.` and `[^...]` in patterns: no line separators, on which regular expression engines disagree.
PRINTABLE = st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp"))

Parts = tuple[str, ...]
"""Addresses of schemas that a value must satisfy together; () allows every value."""

Part = tuple[str, Mapping[str, Any]]
"""The address of a schema, and the schema without `$ref` and `anyOf`."""

Strategy = st.SearchStrategy[Any]


class UnusableSchema(ValueError):
    """A schema for which no values can be generated. The message begins with the schema's address."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One alternative of a schema: a conjunction of plain schemas with their addresses, without `$ref` and `anyOf`."""

    parts: tuple[Part, ...]

    def values_of(self, keyword: str) -> list[Any]:
        """Return the keyword's value in each part that has it."""
        return [schema[keyword] for _, schema in self.parts if keyword in schema]

    def without(self, *keywords: str) -> Shape:
        """Return the shape without some keywords."""
        return Shape(
            tuple(
                (at, {name: value for name, value in schema.items() if name not in keywords})
                for at, schema in self.parts
            )
        )

    def also(self, keyword: str, value: Any) -> Shape:
        """Return the shape with an additional keyword."""
        return Shape((*self.parts, ("", {keyword: value})))

    def bounds(self, least: str, most: str) -> tuple[Any, Any]:
        """Return the narrowest interval of a lower and an upper bound keyword. None means unbounded."""
        return max(self.values_of(least), default=None), min(self.values_of(most), default=None)

    @property
    def kinds(self) -> list[str]:
        """The kinds that `type` allows, simplest first."""
        allowed = set(JSON_KINDS)
        for types in self.values_of("type"):
            names = {types} if isinstance(types, str) else set(types)
            allowed &= names | {"integer", "fraction"} if "number" in names else names
        return [kind for kind in JSON_KINDS if kind in allowed]

    @property
    def limited(self) -> bool:
        """Whether `enum` or `const` lists the values."""
        return bool(self.values_of("enum") or self.values_of("const"))

    @property
    def patterns(self) -> list[re.Pattern[str]]:
        """The patterns of a string, compiled."""
        return [python_pattern(text) for text in self.values_of("pattern")]

    @property
    def declared(self) -> list[str]:
        """The names in `properties`, in order, without duplicates."""
        return list(dict.fromkeys(name for members in self.values_of("properties") for name in members))

    @property
    def required(self) -> list[str]:
        """The names in `required`, in order, without duplicates."""
        return list(dict.fromkeys(name for names in self.values_of("required") for name in names))

    @property
    def closed(self) -> bool:
        """Whether undeclared members are forbidden."""
        return any(allowed is False for allowed in self.values_of("additionalProperties"))

    @property
    def items(self) -> Parts:
        """The schemas of an array's items."""
        return tuple(f"{at}/items" for at, schema in self.parts if "items" in schema)

    def member(self, name: str) -> Parts:
        """Return the schemas of the member with a name, declared or not."""
        # Part by part, because `additionalProperties` applies to members that `properties` of the same part lacks.
        parts = []
        for at, schema in self.parts:
            if name in schema.get("properties", {}):
                parts.append(at + format_pointer(("properties", name)))
            elif "additionalProperties" in schema:
                parts.append(f"{at}/additionalProperties")
        return tuple(parts)

    def admits(self, value: Any) -> bool:
        """Whether a string satisfies the length bounds and patterns, or a number satisfies the bounds."""
        if not isinstance(value, str):
            return _within(value, *self.bounds("minimum", "maximum"))
        return _within(len(value), *self.bounds("minLength", "maxLength")) and all(
            pattern.search(value) for pattern in self.patterns
        )


@cache
def python_pattern(text: str) -> re.Pattern[str]:
    r"""Compile a JSON Schema pattern (ECMA-262), in which `$` matches only at the very end, and `\d` and `\w` ASCII."""
    # Python's `$` also matches before a final newline. Escapes and character classes are skipped, because `\$` and
    # `[$]` are dollar signs.
    ends = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]|\$", lambda found: r"\Z" if found[0] == "$" else found[0], text)
    return re.compile(ends, re.ASCII)


def values(schemas: Schemas, address: str, *, undeclared: bool = False, whole_floats: bool = False) -> Strategy:
    """Return a strategy for JSON values that satisfy the schema at an address (`file.json#/pointer`).

    `undeclared` adds undeclared members if they are allowed; an object without declared members always gets some.
    `whole_floats` writes some integers as 5.0, which JSON Schema considers integers. Raises UnusableSchema.
    """
    generator = Generator(schemas, undeclared=undeclared, whole_floats=whole_floats)
    # Expand every nested schema now, so that an unsupported keyword raises here and not during drawing.
    generator.below((address,))
    if not generator.possible((address,)):
        raise UnusableSchema(f"{address}: no value satisfies this schema")
    return generator.at((address,))


class Generator:
    """Strategies for the schemas of one folder. Each strategy is created on first use and cached."""

    def __init__(self, schemas: Schemas, *, undeclared: bool = False, whole_floats: bool = False) -> None:
        self.schemas = schemas
        self._undeclared = undeclared
        self._whole_floats = whole_floats
        self._strategies: dict[Parts, Strategy] = {}
        self._shapes: dict[Parts, list[Shape]] = {}
        self._by_kind: Mapping[str, Callable[[Shape], Strategy]] = {
            "null": lambda shape: st.none(),
            "boolean": lambda shape: st.booleans(),
            "integer": self.integer,
            "fraction": self.fraction,
            "string": self.string,
            "array": self.array,
            "object": self.object,
        }

    # ---- reading a schema

    def shapes(self, parts: Parts) -> list[Shape]:
        """Return the alternatives of a conjunction: one for each combination of `anyOf` branches."""
        if (shapes := self._shapes.get(parts)) is None:
            choices = itertools.product(*(self._alternatives(at, ()) for at in parts))
            shapes = [Shape(tuple(part for alternative in choice for part in alternative)) for choice in choices]
            self._shapes[parts] = shapes
        return shapes

    def below(self, parts: Parts) -> set[Parts]:
        """Return the conjunctions of all nested values. They include `parts` only if the schema is recursive."""
        waiting, seen = [parts], set[Parts]()
        while waiting:
            for shape in self.shapes(waiting.pop()):
                members = [shape.member(name) for name in (*shape.declared, fresh_name(shape))]
                new = {shape.items, *members} - seen
                waiting += new
                seen |= new
        return seen

    def _alternatives(self, at: str, trail: tuple[str, ...]) -> list[tuple[Part, ...]]:
        """Return the alternatives of one schema: its keywords, and the keywords of `$ref` and of one `anyOf` branch."""
        if at in trail:
            raise UnusableSchema(f"{at}: refers to itself")
        schema = self._read(at)
        if isinstance(schema, bool):
            return [()] if schema else []
        plain = {name: value for name, value in schema.items() if name in ASSERTIONS - {"$ref", "anyOf"}}
        alternatives: list[tuple[Part, ...]] = [((at, plain),)]
        branches = [[f"{at}/anyOf/{index}" for index in range(len(schema["anyOf"]))]] if "anyOf" in schema else []
        if "$ref" in schema:
            file, _, pointer = schema["$ref"].partition("#")
            branches.append([f"{file or at.partition('#')[0]}#{unquote(pointer)}"])
        for branch in branches:
            found = [more for target in branch for more in self._alternatives(target, (*trail, at))]
            alternatives = [(*parts, *more) for parts in alternatives for more in found]
        return alternatives

    def _read(self, at: str) -> Any:
        try:
            schema = self.schemas.at(at)
        except ExpressionError as error:
            raise UnusableSchema(f"{at}: {error}") from None
        if schema is MISSING or not isinstance(schema, dict | bool):
            raise UnusableSchema(f"{at}: is not a schema; expected an object or a boolean at this address")
        for name in schema if isinstance(schema, dict) else ():
            if name not in ASSERTIONS | ANNOTATIONS:
                allowed = ", ".join(sorted(ASSERTIONS))
                raise UnusableSchema(f"{at}: unknown keyword {name!r}; allowed: {allowed}; see contracts/README.md")
        if isinstance(schema, dict) and "pattern" in schema:
            try:
                python_pattern(schema["pattern"])
            except re.error as error:
                raise UnusableSchema(f"{at}: pattern {schema['pattern']!r}: {error}") from None
        return schema

    def choices(self, shape: Shape) -> list[Any]:
        """Return the values of `enum` or `const` that also satisfy all other keywords."""
        named = [*shape.values_of("enum"), *([value] for value in shape.values_of("const"))]
        validators = [self.schemas.validator(at) for at, _ in shape.parts if at]
        return [value for value in named[0] if all(validator.is_valid(value) for validator in validators)]

    def possible(self, parts: Parts, trail: frozenset[Parts] = frozenset()) -> bool:
        """Whether any value satisfies a conjunction. `trail` contains the enclosing conjunctions."""
        if parts in trail:  # a value that must contain a value of its own schema would be infinite
            return False
        return any(self.possible_kinds(shape, trail | {parts}) for shape in self.shapes(parts))

    def possible_kinds(self, shape: Shape, trail: frozenset[Parts] = frozenset()) -> list[str]:
        """Return the kinds for which a value of this shape exists."""
        if shape.limited:
            return shape.kinds if self.choices(shape) else []
        return [kind for kind in shape.kinds if self._possible(shape, kind, trail)]

    def _possible(self, shape: Shape, kind: str, trail: frozenset[Parts]) -> bool:
        if kind == "integer":
            return _between(*_whole(shape))
        if kind == "fraction":
            least, most = shape.bounds("minimum", "maximum")
            # An interval of one whole number has no fraction.
            return _between(least, most) and (least != most or not float(least or 0).is_integer())
        if kind == "string":
            least, most = shape.bounds("minLength", "maxLength")
            return _between(least or 0, most)
        if kind == "array":
            least, most = shape.bounds("minItems", "maxItems")
            return _between(least or 0, most) and (not least or self.possible(shape.items, trail))
        return kind != "object" or all(self.possible(shape.member(name), trail) for name in shape.required)

    # ---- values

    def at(self, parts: Parts) -> Strategy:
        """Return a strategy for values that satisfy a conjunction."""
        # Deferred, because a recursive schema refers to its own strategy while that strategy is being built.
        if (strategy := self._strategies.get(parts)) is None:
            strategy = st.deferred(lambda: st.one_of([self.of(shape) for shape in self.shapes(parts)]))
            self._strategies[parts] = strategy
        return strategy

    def of(self, shape: Shape, kinds: Collection[str] = JSON_KINDS) -> Strategy:
        """Return a strategy for values of one shape. Without `enum` or `const`, only values of `kinds` are drawn."""
        if not shape.limited:
            return st.one_of([self._by_kind[kind](shape) for kind in self.possible_kinds(shape) if kind in kinds])
        choices = self.choices(shape)
        if self._whole_floats:
            choices += [float(value) for value in choices if type(value) is int and abs(value) <= LARGEST_INTEGER]
        # Copied, so that a caller that changes a drawn object does not change the schema.
        return st.sampled_from(choices).map(copy.deepcopy) if choices else st.nothing()

    def integer(self, shape: Shape) -> Strategy:
        """Return a strategy for integers that often draws the bounds themselves."""
        least, most = _whole(shape)
        edges = [bound for bound in (least, most) if bound is not None]
        least = min((-LARGEST_INTEGER, *edges)) if least is None else least
        most = max((LARGEST_INTEGER, *edges, least)) if most is None else most
        found: Strategy = st.integers(least, most)
        if edges:
            found |= st.sampled_from(edges)
        if self._whole_floats:
            found |= found.map(lambda value: float(value) if abs(value) <= LARGEST_INTEGER else value)
        return found

    def fraction(self, shape: Shape) -> Strategy:
        """Return a strategy for numbers that are not integers."""
        least, most = shape.bounds("minimum", "maximum")
        edges = [float(bound) for bound in (least, most) if bound is not None and not float(bound).is_integer()]
        least = min(0, most or 0) - MOST_FRACTION if least is None else least
        most = max(0, least) + MOST_FRACTION if most is None else most
        found = st.floats(least, most).filter(lambda value: not value.is_integer())
        return found | st.sampled_from(edges) if edges else found

    def string(self, shape: Shape) -> Strategy:
        """Return a strategy for strings, some of exactly the minimum or maximum length."""
        least, most = shape.bounds("minLength", "maxLength")
        patterns = shape.patterns
        text = st.from_regex(patterns[0], alphabet=PRINTABLE) if patterns else TEXT

        def fit(text: str, least: int, most: int | None) -> str:
            # Truncate, or repeat the last character: cheaper than filtering by length, and most patterns still match.
            fitted = text[:most] + (text[-1:] or "0") * (least - len(text))
            return fitted if shape.admits(fitted) else text

        usual = text.map(lambda text: fit(text, least or 0, most)).filter(shape.admits)
        edges = sorted({length for length in (least, most) if length is not None})
        if not edges:
            return usual
        return usual | st.builds(lambda text, length: fit(text, length, length), usual, st.sampled_from(edges))

    def array(self, shape: Shape, first: Strategy | None = None) -> Strategy:
        """Return a strategy for arrays, some of the minimum or maximum length. `first` is the strategy of item 0."""
        low, high = shape.bounds("minItems", "maxItems")
        given = [] if first is None else [first]
        least = max(0, (low or 0) - len(given))
        most = least + USUAL_ITEMS if high is None else high - len(given)
        if not self.possible(shape.items):
            most = 0
        item = self.at(shape.items)
        # Recursive items get at most one item beyond the minimum: with four each, trees exceed Hypothesis's buffer.
        usual = 1 if shape.items and shape.items in self.below(shape.items) else USUAL_ITEMS
        rest = _lists(item, least, min(most, least + usual))
        if high is not None and most > least + usual:
            rest |= _lists(item, most, most)
        return st.tuples(*given, rest).map(lambda found: [*found[:-1], *found[-1]])

    def object(
        self, shape: Shape, given: Mapping[str, Strategy] | None = None, without: frozenset[str] = frozenset()
    ) -> Strategy:
        """Return a strategy for objects that always have the `given` members and never the `without` members."""
        given = dict(given or {})
        must = {name: self.at(shape.member(name)) for name in shape.required if name not in without} | given
        free = [name for name in shape.declared if name not in must and name not in without]
        may = {name: self.at(shape.member(name)) for name in free if self.possible(shape.member(name))}
        members = st.fixed_dictionaries(must, optional=may)
        taken = {*shape.declared, *shape.required, *given}
        undeclared = shape.member(fresh_name(shape))
        if not (self._undeclared or not shape.declared) or not self.possible(undeclared):
            return members
        names = TEXT.filter(lambda name: name not in taken)
        more = st.dictionaries(names, self.at(undeclared), max_size=2)
        return st.builds(lambda members, more: members | more, members, more)


def fresh_name(shape: Shape) -> str:
    """Return a name that a shape neither declares nor requires."""
    name = "undeclared"
    while name in shape.declared or name in shape.required:
        name += "_"
    return name


def _whole(shape: Shape) -> tuple[int | None, int | None]:
    """Return the integer bounds within `minimum` and `maximum`, which may be fractions."""
    least, most = shape.bounds("minimum", "maximum")
    return None if least is None else math.ceil(least), None if most is None else math.floor(most)


def _between(least: float | None, most: float | None) -> bool:
    return least is None or most is None or least <= most


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or least <= value) and (most is None or value <= most)


def _lists(item: Strategy, least: int, most: int) -> Strategy:
    """Return a strategy for lists of `least` to `most` items."""
    if most == 0:
        return st.builds(list)
    # Hypothesis limits the data of one example, so long lists repeat a few drawn items.
    if least <= 2 * USUAL_ITEMS:
        return st.lists(item, min_size=least, max_size=most)
    few = st.lists(item, min_size=1, max_size=USUAL_ITEMS)
    return st.builds(lambda few, length: (few * length)[:length], few, st.integers(least, most))
