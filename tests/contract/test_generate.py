"""Generated values satisfy their schema and mutations violate it, according to two independent validators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from hobbyhorse.conformance.server.negate import Mutation, Pair, breakable, mutations
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, parse_pointer, replaced, resolve
from hobbyhorse.contract.generate import ANNOTATIONS, ASSERTIONS, BOUNDS, LARGEST_INTEGER, UnusableSchema, values
from hobbyhorse.contract.lint import KEYWORDS
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Contract
from tests.conftest import CONTRACTS, DIRECTORY, many

OPENAPI = "openapi.json"
# The documents' base for jsonschema: Python's urljoin does not join relative references to an unknown scheme.
BASE = "https://contract.test/"

UNEXPLAINED = settings(
    max_examples=1_000, phases=[Phase.generate, Phase.shrink], suppress_health_check=[HealthCheck.too_slow]
)
LENIENT = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

MADE_UP: dict[str, Any] = {
    "anything": {},
    "null": {"type": "null"},
    "a boolean": {"type": "boolean"},
    "an integer between bounds": {"type": "integer", "minimum": 3, "maximum": 15},
    "an integer from zero": {"type": "integer", "minimum": 0},
    "an integer between bounds that are none": {"type": "integer", "minimum": 2.5, "maximum": 4.5},
    "a number between bounds": {"type": "number", "minimum": 0, "maximum": 1},
    "a number in a narrow place": {"type": "number", "minimum": 0.25, "maximum": 0.5},
    "a negative number": {"type": "number", "maximum": -7_000_000},
    "one of several types": {"type": ["string", "integer", "null"], "minLength": 1, "minimum": 1},
    "a choice of strings": {"type": "string", "enum": ["720p", "1080p"]},
    "a choice of integers": {"type": "integer", "enum": [3, 4, 5]},
    "a choice of everything": {"enum": [1, "a", None, [1], {"a": 1}, True, 2.5]},
    "a choice that other keywords narrow": {"enum": [1, 20, "a", None], "type": ["integer", "string"], "maximum": 10},
    "both booleans by name": {"type": "boolean", "enum": [True, False]},
    "a constant": {"const": "first_frame"},
    "a constant object": {"const": {"a": [1, 2]}, "type": "object"},
    "a constant that is false": {"const": False},
    "a string of some length": {"type": "string", "minLength": 2, "maxLength": 5},
    "a string of one length": {"type": "string", "minLength": 3, "maxLength": 3},
    "a long string": {"type": "string", "maxLength": 5000},
    "a string with a given beginning": {"type": "string", "pattern": "^(https?://|data:)", "maxLength": 40},
    "a string of an exact form": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
    "a string with something in it": {"type": "string", "pattern": "[0-9]-[0-9]"},
    "a string of a form and a length": {"type": "string", "pattern": "^tk-", "minLength": 35, "maxLength": 35},
    "a path": {"type": "string", "pattern": "^(/.*)?$"},
    "a string with a dollar and a letter": {"type": "string", "pattern": "^[$]\\$\\w$"},
    "a list": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 3},
    "a list of one": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 1},
    "a long list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 300},
    "a list of at least many": {"type": "array", "items": {"type": "boolean"}, "minItems": 50},
    "a list of lists": {"type": "array", "items": {"type": "array", "items": {"const": 1}, "maxItems": 2}},
    "an empty list": {"type": "array", "items": False},
    "an object": {
        "type": "object",
        "required": ["prompt"],
        "properties": {
            "prompt": {"type": "string", "maxLength": 10},
            "seed": {"type": ["integer", "null"], "minimum": 0},
        },
    },
    "a closed object": {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}},
        "additionalProperties": False,
    },
    "an object that must have what it does not declare": {"type": "object", "required": ["a", "b"]},
    "an object with a member that cannot be": {"type": "object", "properties": {"a": False, "b": {"type": "null"}}},
    "a map": {"type": "object", "additionalProperties": {"type": "integer", "maximum": 9}},
    "a map beside members": {
        "type": "object",
        "properties": {"undeclared": {"type": "string"}},
        "additionalProperties": {"type": "boolean"},
    },
    "names that need escaping": {
        "type": "object",
        "required": ["a/b"],
        "properties": {"a/b": {"type": "null"}, "m~n": {"type": "object", "required": [" "]}, "100%": {"const": 1}},
    },
    "either of two types": {"anyOf": [{"type": "object", "required": ["code"]}, {"type": "string"}]},
    "either of two members": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "either, one of them wider": {
        "anyOf": [
            {"type": "object", "required": ["a", "b"], "properties": {"a": {"const": 1}}},
            {"type": "object", "required": ["b"], "properties": {"a": {"const": 1}}},
        ]
    },
    "either, one of them impossible": {"type": "string", "anyOf": [{"type": "integer"}, {"minLength": 2}, False]},
    "either in a member": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "integer", "maximum": -1}]}},
    },
    "a reference": {"$ref": "made-up.json#/an%20integer%20between%20bounds"},
    "a reference with more beside it": {
        "$ref": "#/a%20string%20of%20some%20length",
        "maxLength": 3,
        "pattern": "^[a-f]+$",
    },
    "two objects at once": {
        "$ref": "#/an%20object",
        "required": ["model"],
        "properties": {"model": {"type": "string", "minLength": 1}, "prompt": {"type": "string", "minLength": 4}},
    },
    "a tree": {
        "type": "object",
        "required": ["children"],
        "properties": {
            "children": {"type": "array", "items": {"$ref": "#/a%20tree"}},
            "name": {"type": "string"},
            "parent": {"anyOf": [{"type": "null"}, {"$ref": "#/a%20tree"}]},
        },
    },
    "annotated": {"type": "string", "format": "uri", "title": "t", "description": "d", "default": "x", "examples": [1]},
}

EXPECTED_BREAKS: dict[str, set[Pair]] = {
    "anything": set(),
    "a boolean": {("", "type")},
    "both booleans by name": {("", "type")},
    "a constant": {("", "const")},
    "an integer from zero": {("", "type"), ("", "minimum")},
    "a string of some length": {("", "type"), ("", "minLength"), ("", "maxLength")},
    "a string of a form and a length": {("", "type"), ("", "minLength"), ("", "maxLength"), ("", "pattern")},
    "a string of an exact form": {("", "type"), ("", "pattern")},
    "a list of one": {("", "type"), ("", "minItems"), ("", "maxItems"), ("/0", "type"), ("/0", "minLength")},
    "an empty list": {("", "type")},
    "an object": {
        ("", "type"),
        ("/prompt", "required"),
        ("/prompt", "type"),
        ("/prompt", "maxLength"),
        ("/seed", "type"),
        ("/seed", "minimum"),
    },
    "a closed object": {
        ("", "type"),
        ("/a", "required"),
        ("", "additionalProperties"),
        ("/a", "type"),
        ("/b", "type"),
    },
    "a map": {("", "type"), ("/undeclared", "type"), ("/undeclared", "maximum")},
    "a map beside members": {("", "type"), ("/undeclared", "type"), ("/undeclared_", "type")},
    "either of two types": {("", "type"), ("/code", "required")},
    "either of two members": {
        ("", "type"),
        ("/a", "required"),
        ("/b", "required"),
        ("/a", "type"),
        ("/b", "type"),
    },
    "either, one of them wider": {("", "type"), ("/b", "required"), ("/a", "const")},
    "either in a member": {
        ("", "type"),
        ("/error", "required"),
        ("/error", "type"),
        ("/error", "minimum"),
        ("/error", "maximum"),
    },
}

SMALLEST: dict[str, Any] = {
    "an integer between bounds": 3,
    "a number between bounds": 0,
    "one of several types": None,
    "a choice of strings": "720p",
    "a string of one length": "000",
    "a long string": "",
    "a list": [0],
    "an object": {"prompt": ""},
    "a tree": {"children": []},
    "either in a member": {"error": 1},
}


@dataclass(frozen=True)
class Subject:
    """A schema by its address; `documents` are all files that it may refer to."""

    documents: dict[str, Any]
    address: str

    @property
    def schemas(self) -> Schemas:
        return Schemas(self.documents)

    def judges(self) -> Judges:
        return Judges(Schemas(self.documents), self.documents, self.address)


class Judges:
    """Two validators that must agree: jsonschema-rs and jsonschema."""

    def __init__(self, schemas: Schemas, documents: dict[str, Any], address: str) -> None:
        self.fast = schemas.validator(address)
        resources = [(BASE + name, DRAFT202012.create_resource(document)) for name, document in documents.items()]
        file, _, pointer = address.partition("#")
        reference = f"{BASE}{file}#{quote(pointer, safe='/~')}"
        self.slow = Draft202012Validator({"$ref": reference}, registry=Registry[Any]().with_resources(resources))

    def accept(self, value: Any) -> bool:
        """Return the verdict; a disagreement is a failure."""
        verdict: bool = self.fast.is_valid(value)
        assert self.slow.is_valid(value) is verdict, f"they disagree: jsonschema-rs says {verdict} of {value!r}"
        return verdict


def documents_of(contract: Contract) -> dict[str, Any]:
    """Return the schema documents of a contract's folder."""
    models = sorted((DIRECTORY / contract.key / "models").glob("*.json"))
    names = [OPENAPI, *(f"models/{path.name}" for path in models)]
    return {name: contract.schemas.document(name) for name in names}


def judges_of(contract: Contract, address: str) -> Judges:
    """Return the validators of a schema of a contract."""
    return Judges(contract.schemas, documents_of(contract), address)


def made_up(name: str, schema: Any = MISSING) -> Subject:
    """Return one of the made-up schemas, or another in its place."""
    schemas = MADE_UP if schema is MISSING else {**MADE_UP, name: schema}
    return Subject({"made-up.json": schemas}, f"made-up.json#/{name}")


def requests() -> Iterator[tuple[str, Subject]]:
    """Yield every schema of a request in the contracts, those of models once."""
    for contract in CONTRACTS:
        models = [model.schema for model in contract.models]
        bodies = [operation.body_schema for operation in contract.operations.values() if operation.body_schema]
        others = [at for at in bodies if contract.schemas.at(at).get("$ref", "") + "#" not in models]
        for address in dict.fromkeys([*models, *others]):
            yield f"{contract.key} {address}", Subject(documents_of(contract), address)


def answers() -> Iterator[tuple[str, Subject]]:
    """Yield every schema of a response in the contracts, duplicates once."""
    for contract in CONTRACTS:
        seen: dict[bytes, str] = {}
        for operation in contract.operations.values():
            for situation in operation.situations.values():
                seen.setdefault(orjson.dumps(contract.schemas.at(situation.schema)), situation.schema)
        for address in seen.values():
            yield f"{contract.key} {address}", Subject(documents_of(contract), address)


def parameters(subjects: dict[str, Subject]) -> list[Any]:
    return [pytest.param(subject, id=name) for name, subject in subjects.items()]


MADE = {name: made_up(name) for name in MADE_UP}
REQUESTS = dict(requests())
NEGATED = {name: subject for name, subject in {**MADE, **REQUESTS}.items() if name != "anything"}
PLAIN = {name: subject for name, subject in NEGATED.items() if subject.address.startswith("models/")} | {
    name: subject for name, subject in MADE.items() if MADE_UP[name] and b"anyOf" not in orjson.dumps(MADE_UP[name])
}
"""Subjects in which no `anyOf` hides the broken keyword."""


def check_values(subject: Subject, strategy: st.SearchStrategy[Any], examples: int = 40, **more: Any) -> None:
    """Validate generated values."""
    judges = subject.judges()

    @settings(max_examples=examples, suppress_health_check=LENIENT, **more)
    @given(strategy)
    def every_value_keeps_the_schema(value: Any) -> None:
        assert judges.accept(value)
        assert orjson.loads(orjson.dumps(value)) == value

    every_value_keeps_the_schema()


def check_mutations(
    subject: Subject, strategy: st.SearchStrategy[Mutation], examples: int = 60, **more: Any
) -> list[Mutation]:
    """Check that each mutation violates the schema; return the mutations."""
    judges, seen = subject.judges(), list[Mutation]()

    @settings(max_examples=examples, suppress_health_check=LENIENT, **more)
    @given(strategy)
    def every_mutation_breaks_the_schema(mutation: Mutation) -> None:
        assert not judges.accept(mutation.value)
        assert orjson.loads(orjson.dumps(mutation.value)) == mutation.value
        seen.append(mutation)

    every_mutation_breaks_the_schema()
    return seen


def sample(strategy: st.SearchStrategy[Any], examples: int = 300) -> list[Any]:
    """Draw values from a strategy."""
    drawn = []

    @settings(max_examples=examples, suppress_health_check=LENIENT)
    @given(strategy)
    def collect(value: Any) -> None:
        drawn.append(value)

    collect()
    return drawn


def schema_at(name: str) -> tuple[Schemas, str]:
    subject = made_up(name)
    return subject.schemas, subject.address


# ---- values


@pytest.mark.parametrize("subject", parameters({**MADE, **REQUESTS, **dict(answers())}))
def test_every_value_keeps_its_schema_and_both_validators_say_so(subject: Subject) -> None:
    check_values(subject, values(subject.schemas, subject.address))


@pytest.mark.parametrize("subject", parameters({**MADE, **REQUESTS}))
def test_every_value_with_undeclared_members_and_whole_floats_keeps_its_schema_too(subject: Subject) -> None:
    check_values(subject, values(subject.schemas, subject.address, undeclared=True, whole_floats=True))


@pytest.mark.parametrize("name", SMALLEST)
def test_the_simplest_value_is_the_smallest_one(name: str) -> None:
    assert find(values(*schema_at(name)), lambda value: True, settings=UNEXPLAINED) == SMALLEST[name]


def test_a_failure_shrinks_to_what_is_needed_for_it() -> None:
    strategy = values(*schema_at("an object"))
    smallest = find(strategy, lambda value: isinstance(value.get("seed"), int), settings=UNEXPLAINED)
    assert smallest == {"prompt": "", "seed": 0}


@pytest.mark.parametrize(
    ("name", "edges"),
    [
        ("an integer between bounds", {3, 15}),
        ("a number between bounds", {0, 1}),
        ("a number in a narrow place", {0.25, 0.5}),
        ("a choice of integers", {3, 4, 5}),
    ],
)
def test_the_bounds_of_a_number_are_met(name: str, edges: set[float]) -> None:
    assert edges <= set(sample(values(*schema_at(name))))


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("a string of some length", {2, 3, 4, 5}),
        ("a long string", {0, 5000}),
        ("a string with a given beginning", {5, 40}),
        ("a list", {1, 2, 3}),
        ("a long list", {0, 300}),
        ("a list of at least many", {50}),
    ],
)
def test_the_bounds_of_a_length_are_met(name: str, lengths: set[int]) -> None:
    assert lengths <= {len(value) for value in sample(values(*schema_at(name)))}


def test_optional_members_are_there_sometimes() -> None:
    drawn = sample(values(*schema_at("an object")))
    assert {"seed" in value for value in drawn} == {True, False}


def test_undeclared_members_are_there_only_where_they_are_asked_for_and_allowed() -> None:
    known = {"prompt", "seed"}
    assert all(value.keys() <= known for value in sample(values(*schema_at("an object"))))
    assert any(value.keys() - known for value in sample(values(*schema_at("an object"), undeclared=True)))
    closed = sample(values(*schema_at("a closed object"), undeclared=True))
    assert all(value.keys() <= {"a", "b"} for value in closed)


def test_an_object_that_declares_no_member_has_some_anyhow() -> None:
    assert any(sample(values(*schema_at("a map"))))


@pytest.mark.parametrize("name", ["an integer between bounds", "a choice of integers"])
def test_integers_are_written_with_a_point_only_where_that_is_asked_for(name: str) -> None:
    assert {type(value) for value in sample(values(*schema_at(name)))} == {int}
    assert {type(value) for value in sample(values(*schema_at(name), whole_floats=True))} == {int, float}


def test_numbers_are_whole_and_broken() -> None:
    drawn = sample(values(*schema_at("a number between bounds")))
    assert {float(value).is_integer() for value in drawn} == {True, False}


def test_unbounded_integers_are_those_that_every_reader_has_exactly() -> None:
    subject = made_up("x", {"type": "integer"})
    assert all(abs(value) <= LARGEST_INTEGER for value in sample(values(subject.schemas, subject.address)))


def test_texts_are_of_many_scripts_and_can_be_sent_as_utf_8() -> None:
    text = "".join(sample(values(*schema_at("a long string"))))
    text.encode()
    for character in "a马🐎\u202e":
        assert character in text


def test_the_alternatives_of_any_of_are_all_met() -> None:
    assert {type(value) for value in sample(values(*schema_at("either of two types")))} == {dict, str}


def test_a_choice_that_is_changed_afterwards_leaves_its_schema_as_it_was() -> None:
    schemas, address = schema_at("a constant object")
    sample(values(schemas, address).map(lambda value: value["a"].append(3)))
    assert schemas.at(address)["const"] == {"a": [1, 2]}


# ---- mutations


@pytest.mark.parametrize("subject", parameters(NEGATED))
def test_every_mutation_breaks_its_schema_at_the_place_that_it_names(subject: Subject) -> None:
    for mutation in check_mutations(subject, mutations(subject.schemas, subject.address)):
        there = resolve(mutation.value, parse_pointer(mutation.pointer)) is not MISSING
        assert there is (mutation.keyword != "required")


@pytest.mark.parametrize("subject", parameters(NEGATED))
def test_every_breakable_pair_is_reached(subject: Subject) -> None:
    for pair in breakable(subject.schemas, subject.address):
        strategy = mutations(subject.schemas, subject.address, [pair])
        found = check_mutations(subject, strategy, 3, phases=[Phase.generate])
        assert {(mutation.pointer, mutation.keyword) for mutation in found} == {pair}


@pytest.mark.parametrize("name", EXPECTED_BREAKS)
def test_the_breakable_pairs_are_known(name: str) -> None:
    found = breakable(*schema_at(name))
    assert len(found) == len(set(found))
    assert set(found) == EXPECTED_BREAKS[name]


@pytest.mark.parametrize(
    "subject",
    parameters(PLAIN),
)
def test_a_mutation_breaks_one_keyword_at_one_place(subject: Subject) -> None:
    """A value of another type breaks `enum` and `const` too, which name values of the right one."""
    judges = subject.judges()

    @settings(max_examples=60, suppress_health_check=LENIENT)
    @given(mutations(subject.schemas, subject.address))
    def one_keyword_is_broken(mutation: Mutation) -> None:
        errors = list(judges.slow.iter_errors(mutation.value))
        place = parse_pointer(mutation.pointer)
        at = place[:-1] if mutation.keyword == "required" else place
        assert {tuple(map(str, error.absolute_path)) for error in errors} == {at}
        broken = {error.validator for error in errors}
        assert mutation.keyword in broken
        assert broken - {mutation.keyword} <= ({"enum", "const"} if mutation.keyword == "type" else set())

    one_keyword_is_broken()


@pytest.mark.parametrize(
    ("name", "pair", "nearly"),
    [
        ("an integer between bounds", ("", "type"), [3.5, "3", True, None, [3], {"value": 3}]),
        ("an integer between bounds", ("", "minimum"), [2]),
        ("an integer between bounds", ("", "maximum"), [16]),
        ("a boolean", ("", "type"), ["true", 0, 1, None]),
        ("a choice of strings", ("", "enum"), ["720P", "720p ", "20p"]),
        ("a choice of integers", ("", "enum"), [2, 6]),
        ("an object", ("/prompt", "maxLength"), [{"prompt": "0" * 11}]),
        ("a list of one", ("", "minItems"), [[]]),
        ("a closed object", ("", "additionalProperties"), [{"a": "", "A": None}]),
    ],
)
def test_nearly_correct_values_are_tried(name: str, pair: Pair, nearly: list[Any]) -> None:
    strategy = mutations(*schema_at(name), [pair])
    for text in map(orjson.dumps, nearly):
        find(strategy.map(lambda mutation: orjson.dumps(mutation.value)), text.__eq__, settings=UNEXPLAINED)


# ---- random schemas


def any_schema(children: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """Random schemas of the keywords that contracts use, useful or not."""
    types = ["null", "boolean", "integer", "number", "string", "array", "object"]
    some = st.sampled_from([None, True, 0, 1, 2.5, "", "a", "马", [1], {"a": 1}])
    names = st.sampled_from(["a", "b/c", "d e"])
    small = st.integers(0, 4)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(types) | st.lists(st.sampled_from(types), min_size=1, max_size=3, unique=True),
        "enum": st.lists(some, min_size=1, max_size=4),
        "const": some,
        "minimum": st.sampled_from([-3, 0, 2.5]),
        "maximum": st.sampled_from([0, 5, 7.25]),
        "minLength": small,
        "maxLength": small.map(lambda length: 3 * length),
        "pattern": st.sampled_from(["^a", "b$", "^[a-z]+$", "[0-9]", "^.{2,4}$"]),
        "minItems": small,
        "maxItems": small.map(lambda length: 3 * length),
    }
    if children is not None:
        keywords |= {
            "items": children,
            "properties": st.dictionaries(names, children, min_size=1),
            "required": st.lists(names, unique=True),
            "additionalProperties": st.just(False) | children,
            "anyOf": st.lists(children, min_size=1, max_size=3),
        }
    return st.booleans() | st.fixed_dictionaries({}, optional=keywords)


@settings(max_examples=many(200, 50), suppress_health_check=list(HealthCheck))
@given(schema=any_schema(any_schema(any_schema())), data=st.data())
def test_every_schema_of_the_keywords_is_kept_and_broken_or_refused(schema: Any, data: st.DataObject) -> None:
    subject = made_up("x", schema)
    judges = subject.judges()
    try:
        kept = values(subject.schemas, subject.address, undeclared=True, whole_floats=True)
    except UnusableSchema:
        return
    assert judges.accept(data.draw(kept))
    try:
        broken = mutations(subject.schemas, subject.address)
    except UnusableSchema:
        return
    assert not judges.accept(data.draw(broken).value)


# ---- what cannot be used


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"oneOf": [{}]}, "keyword 'oneOf'; allowed: "),
        ({"type": "object", "properties": {"a": {"type": "array", "items": {"not": {}}}}}, "keyword 'not'"),
        ({"additionalProperties": {"multipleOf": 3}}, "keyword 'multipleOf'"),
        ({"$ref": "#/nowhere"}, "#/nowhere: is not a schema"),
        ({"properties": {"a": {"$ref": "missing.json#"}}}, "missing.json#: is not a schema"),
        ({"$ref": "#/x"}, "refers to itself"),
        ({"$ref": "#x"}, "is not a JSON Pointer"),
        ({"type": "string", "pattern": "("}, "pattern"),
        ({"type": "string", "enum": [1]}, "no value satisfies this schema"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no value satisfies this schema"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "no value satisfies this schema"),
        ({"type": "string", "minLength": 2, "maxLength": 1}, "no value satisfies this schema"),
        ({"type": "array", "minItems": 1, "items": False}, "no value satisfies this schema"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "no value satisfies this schema"),
        ({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/x"}}}, "no value satisfies this schema"),
        (False, "no value satisfies this schema"),
    ],
)
def test_a_schema_that_nothing_can_be_generated_from_is_a_clear_error(schema: Any, message: str) -> None:
    subject = made_up("x", schema)
    with pytest.raises(UnusableSchema, match=r"^made-up.json|^missing.json") as raised:
        values(subject.schemas, subject.address)
    assert message in str(raised.value)


def test_a_pair_that_cannot_be_broken_is_a_clear_error() -> None:
    with pytest.raises(UnusableSchema, match=r"cannot violate \[\('/a', 'type'\)\] alone"):
        mutations(*schema_at("a boolean"), [("/a", "type")])
    with pytest.raises(UnusableSchema, match="no value violates this schema"):
        mutations(*schema_at("anything"))


def test_every_keyword_of_the_contract_format_is_known() -> None:
    assert ASSERTIONS | ANNOTATIONS == KEYWORDS
    assert not ASSERTIONS & ANNOTATIONS


# ---- the checks can fail


def loosened(schema: Any) -> Iterator[tuple[str, Pointer, Any]]:
    """Yield every bound of a schema with its place and its value one step too wide."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in BOUNDS and isinstance(value, int):
                yield name, (name,), value + (1 if name.startswith("max") else -1)
            for keyword, pointer, wider in loosened(value) if name in ("properties", "items") else ():
                yield keyword, (name, *pointer), wider
            if name in ("prompt", "seed"):
                yield from ((keyword, (name, *pointer), wider) for keyword, pointer, wider in loosened(value))


WIDER = [
    pytest.param(name, pointer, wider, id=f"{name} {keyword}")
    for name in (
        "an integer between bounds",
        "a number between bounds",
        "a string of some length",
        "a long string",
        "a list",
        "a long list",
        "an object",
    )
    for keyword, pointer, wider in loosened(MADE_UP[name])
    if wider >= 0 or not keyword.endswith(("Length", "Items"))
]

Spoil = Callable[[Any], Any]
SPOILT: dict[str, tuple[str, Spoil]] = {
    "a type that is ignored": ("a boolean", lambda schema: {}),
    "a choice that is ignored": ("a choice of strings", lambda schema: {"type": "string"}),
    "a constant that is ignored": ("a constant", lambda schema: {}),
    "a pattern that is ignored": ("a string of an exact form", lambda schema: {"type": "string"}),
    "a member that is not required": ("an object", lambda schema: {**schema, "required": []}),
    "an object that is not closed": ("a closed object", lambda schema: {**schema, "additionalProperties": True}),
    "an alternative too many": ("either of two types", lambda schema: {"anyOf": [*schema["anyOf"], {"type": "null"}]}),
    "a reference that is not followed": ("a reference", lambda schema: {}),
    "items that are ignored": ("a list", lambda schema: {**schema, "items": {}}),
}


@pytest.mark.parametrize(("name", "pointer", "wider"), WIDER)
def test_a_generator_with_a_wrong_bound_is_caught(name: str, pointer: Pointer, wider: Any) -> None:
    crooked = made_up(name, replaced(MADE_UP[name], pointer, wider))
    with pytest.raises(AssertionError):
        check_values(made_up(name), values(crooked.schemas, crooked.address), 300, phases=[Phase.generate])


@pytest.mark.parametrize(("name", "pointer", "wider"), WIDER)
def test_a_negator_with_a_wrong_bound_is_caught(name: str, pointer: Pointer, wider: Any) -> None:
    narrower = 2 * resolve(MADE_UP[name], pointer) - wider
    crooked = made_up(name, replaced(MADE_UP[name], pointer, narrower))
    with pytest.raises(AssertionError):
        check_mutations(made_up(name), mutations(crooked.schemas, crooked.address), 300, phases=[Phase.generate])


@pytest.mark.parametrize("name", SPOILT)
def test_a_generator_with_a_keyword_that_it_does_not_keep_is_caught(name: str) -> None:
    original, spoil = SPOILT[name]
    crooked = made_up(original, spoil(MADE_UP[original]))
    strategy = values(crooked.schemas, crooked.address, undeclared=True)
    with pytest.raises(AssertionError):
        check_values(made_up(original), strategy, 300, phases=[Phase.generate])


@pytest.mark.parametrize("name", SPOILT)
def test_a_negator_that_breaks_nothing_is_caught(name: str) -> None:
    """Mutations of the correct schema are validated with the spoilt one, which some of them satisfy."""
    original, spoil = SPOILT[name]
    right = made_up(original)
    with pytest.raises(AssertionError):
        check_mutations(
            made_up(original, spoil(MADE_UP[original])),
            mutations(right.schemas, right.address),
            300,
            phases=[Phase.generate],
        )


def test_validators_that_disagree_are_caught() -> None:
    judges = made_up("a boolean").judges()
    judges.fast = made_up("null").judges().fast
    with pytest.raises(AssertionError, match="they disagree"):
        judges.accept(None)
