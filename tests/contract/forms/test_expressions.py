"""Runtime expressions and JSON Pointers: parsing, formatting, resolving and replacing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hobbyhorse.contract.forms.expressions import (
    MISSING,
    ExpressionError,
    Message,
    Place,
    Pointer,
    format_pointer,
    parse,
    parse_pointer,
    replaced,
    resolve,
)

STEPS = st.text(max_size=4) | st.sampled_from(["", "~", "/", "~1", "~0", "~01", "0", "00", "-", "é"])
POINTERS = st.lists(STEPS, max_size=5).map(tuple)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STEPS, inner, max_size=3),
    max_leaves=12,
)
PARTS = st.sampled_from(["header", "query", "path"])
SIDES = st.sampled_from(["request", "response"])
NAMES = st.text(min_size=1, max_size=8)


def places_in(value: Any, pointer: Pointer = ()) -> list[Pointer]:
    """Return the pointers of a value and of everything nested in it."""
    if isinstance(value, dict):
        return [pointer, *(place for name in value for place in places_in(value[name], (*pointer, name)))]
    if isinstance(value, list):
        return [
            pointer,
            *(place for index, item in enumerate(value) for place in places_in(item, (*pointer, str(index)))),
        ]
    return [pointer]


@st.composite
def values_with_a_place(draw: st.DrawFn) -> tuple[Any, Pointer]:
    """A value and a place in it."""
    value = draw(VALUES)
    return value, draw(st.sampled_from(places_in(value)))


@st.composite
def places_to_be(draw: st.DrawFn) -> tuple[Any, Pointer]:
    """A value and a pointer that can be set in it: an existing one, or new members below a value that is not a list."""
    value, pointer = draw(values_with_a_place())
    if not isinstance(resolve(value, pointer), list):
        pointer = (*pointer, *draw(st.lists(STEPS, max_size=2)))
    return value, pointer


# ---- pointers


@given(POINTERS)
def test_a_pointer_that_is_written_is_read_back(pointer: Pointer) -> None:
    assert parse_pointer(format_pointer(pointer)) == pointer


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("", ()),
        ("/", ("",)),
        ("/foo/0", ("foo", "0")),
        ("/a~1b", ("a/b",)),
        ("/m~0n", ("m~n",)),
        ("/~01", ("~1",)),
        ("/ ", (" ",)),
        ('/k"l', ('k"l',)),
        ("//", ("", "")),
    ],
)
def test_a_pointer_is_read_as_rfc_6901_says(text: str, pointer: Pointer) -> None:
    assert parse_pointer(text) == pointer
    assert format_pointer(pointer) == text


@pytest.mark.parametrize("text", ["a", "a/b", "#/a", " /a", "/~", "/~2", "/a~", "/~~0", "/a/~x"])
def test_a_text_that_is_not_a_pointer_is_quoted_in_the_error(text: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        parse_pointer(text)
    assert str(raised.value) == f"{text!r} is not a JSON Pointer; it must start with / and use ~ only in ~0 and ~1"


@given(values_with_a_place())
def test_every_place_of_a_value_is_found(found: tuple[Any, Pointer]) -> None:
    value, pointer = found
    expected = value
    for step in pointer:
        expected = expected[int(step)] if isinstance(expected, list) else expected[step]
    assert resolve(value, pointer) is expected


@given(VALUES, POINTERS)
def test_a_pointer_to_nothing_resolves_to_missing(value: Any, pointer: Pointer) -> None:
    assume(pointer not in places_in(value))
    assert resolve(value, pointer) is MISSING


@pytest.mark.parametrize(
    "step", ["-", "-1", "+1", "01", "00", "1 ", "1_0", "1.0", "", "٣", "²", "2", "99999999999999999999"]
)
def test_a_list_has_no_other_places_than_its_indices(step: str) -> None:
    assert resolve(["a", "b"], (step,)) is MISSING
    with pytest.raises(ExpressionError) as raised:
        replaced(["a", "b"], (step,), "c")
    assert str(raised.value) == f"{step!r} is not an index of an array of length 2"


@pytest.mark.parametrize("value", ["text", 5, None, True, 1.5])
def test_a_scalar_contains_nothing(value: Any) -> None:
    assert resolve(value, ("0",)) is MISSING


def test_missing_is_false_and_equals_no_value() -> None:
    assert not MISSING
    values: list[Any] = [None, False, 0, "", [], {}]
    assert MISSING not in values
    assert repr(MISSING) == "MISSING"


# ---- replacing


@given(places_to_be(), VALUES)
def test_a_place_that_is_set_holds_what_it_was_set_to(found: tuple[Any, Pointer], new: Any) -> None:
    value, pointer = found
    assert resolve(replaced(value, pointer, new), pointer) is new


@given(values_with_a_place(), VALUES)
def test_every_other_place_holds_what_it_held(found: tuple[Any, Pointer], new: Any) -> None:
    value, pointer = found
    after = replaced(value, pointer, new)
    for other in places_in(value):
        if other[: len(pointer)] != pointer and pointer[: len(other)] != other:
            assert resolve(after, other) is resolve(value, other)


@given(values_with_a_place())
def test_a_place_that_is_set_to_what_it_holds_changes_nothing(found: tuple[Any, Pointer]) -> None:
    value, pointer = found
    assert replaced(value, pointer, resolve(value, pointer)) == value


@given(values_with_a_place(), VALUES, VALUES)
def test_a_place_that_is_set_twice_holds_the_second_value(found: tuple[Any, Pointer], first: Any, second: Any) -> None:
    value, pointer = found
    assert replaced(replaced(value, pointer, first), pointer, second) == replaced(value, pointer, second)


@given(places_to_be(), VALUES | st.just(MISSING))
def test_the_original_document_is_unchanged(found: tuple[Any, Pointer], new: Any) -> None:
    value, pointer = found
    assume(new is not MISSING or (pointer and isinstance(resolve(value, pointer[:-1]), dict)))
    before = copy.deepcopy(value)
    replaced(value, pointer, new)
    assert value == before


@given(st.dictionaries(STEPS, VALUES, min_size=1, max_size=4), st.data())
def test_a_member_that_is_set_to_missing_is_removed_and_the_others_stay(
    value: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(value)))
    after = replaced({"in": [value]}, ("in", "0", name), MISSING)
    assert after == {"in": [{other: item for other, item in value.items() if other != name}]}


def test_a_member_that_is_not_there_can_be_removed() -> None:
    assert replaced({"a": 1}, ("b",), MISSING) == {"a": 1}


def test_objects_on_the_way_are_made_where_they_are_missing() -> None:
    assert replaced({"a": 1}, ("b", "0", "c"), 2) == {"a": 1, "b": {"0": {"c": 2}}}
    assert replaced(None, ("a",), 1) == {"a": 1}


def test_members_keep_their_order() -> None:
    assert list(replaced({"a": 1, "b": 2, "c": 3}, ("b",), 4)) == ["a", "b", "c"]


# ---- expressions


@given(SIDES, POINTERS)
def test_a_place_in_a_body_that_is_written_is_read_back(side: str, pointer: Pointer) -> None:
    place = Place(side, "body", pointer=pointer)
    assert parse(str(place)) == place


@given(SIDES, PARTS, NAMES)
def test_a_place_outside_of_a_body_is_read_as_it_is_written_but_for_the_case_of_headers(
    side: str, part: str, name: str
) -> None:
    text = f"${side}.{part}.{name}"
    normal = f"${side}.{part}.{name.lower() if part == 'header' else name}"
    assert str(parse(text)) == normal


@pytest.mark.parametrize("text", ["$request.body", "$request.body#"])
def test_a_body_without_a_pointer_is_the_whole_body(text: str) -> None:
    assert parse(text) == Place("request", "body")
    assert str(parse(text)) == "$request.body#"


@pytest.mark.parametrize(
    "text",
    [
        *("", "$", "$url", "$method", "$statusCode", "request.body#/a", "$request", "$request.", "$request.body/a"),
        *("$request.body.a", "$request.header", "$request.header.", "$request.cookie.a", "$message.body#/a"),
        *("$Request.body#/a", " $request.body#/a", "{$request.body#/a}", "$request.query."),
    ],
)
def test_a_text_that_is_not_a_place_is_quoted_in_the_error(text: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        parse(text)
    assert str(raised.value) == (
        f"{text!r} is not a place in a message; allowed: $request or $response, then .body#/JSON/POINTER, "
        ".header.NAME, .query.NAME or .path.NAME"
    )


@pytest.mark.parametrize("text", ["$request.body#a", "$response.body#/~2"])
def test_an_invalid_pointer_in_a_place_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="is not a JSON Pointer"):
        parse(text)


@given(st.text(max_size=30))
def test_any_text_is_a_place_or_an_expression_error(text: str) -> None:
    try:
        place = parse("$request." + text)
    except ExpressionError:
        return
    assert parse(str(place)) == place


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$request.path.id", "7"),
        ("$request.path.other", MISSING),
        ("$request.query.full", True),
        ("$request.query.other", MISSING),
        ("$request.header.X-KEY", "secret"),
        ("$request.header.other", MISSING),
        ("$request.body#/a/0", "first"),
        ("$request.body#/a/1", MISSING),
        ("$request.body", {"a": ["first"], "none": None}),
        ("$request.body#/none", None),
    ],
)
def test_a_place_gives_what_stands_there(text: str, value: Any) -> None:
    headers = {"x-key": "secret"}
    message = Message({"id": "7"}, {"full": True}, headers.get, {"a": ["first"], "none": None})
    found = parse(text).get(message)
    assert found is value or (value is not MISSING and found == value)


def test_a_message_without_a_body_has_nothing_in_it() -> None:
    message = Message({}, {}, lambda name: None)
    assert parse("$request.body").get(message) is MISSING
    assert parse("$request.body#/a").get(message) is MISSING
