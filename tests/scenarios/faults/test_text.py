"""Variations of JSON as text: the value stays the same, and only numbers that may be fractions change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given

from hobbyhorse.scenarios.effects import Rewritten
from hobbyhorse.scenarios.faults.text import CALLBACK_TEXTS, NUMBERS, WRITERS, integers, rewritten_json
from tests.deciding import decided, under
from tests.scenarios.json_values import OBJECTS

URL = "https://a.b/c?d=1&e=<f>"


@pytest.mark.parametrize("text", WRITERS)
@given(value=OBJECTS)
def test_the_value_stays_the_same(text: str, value: Any) -> None:
    assert orjson.loads(rewritten_json(orjson.dumps(value), text)) == value


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("spaced", b"\n"),
        ("escaped", b"\\u0075\\u0072\\u006c"),
        ("html_safe", b"d=1\\u0026e=\\u003cf\\u003e"),
        ("slashes", b"https:\\/\\/a.b\\/c"),
        ("ascii", b"\\u00e9"),
        ("reversed", b'{"n":"\xc3\xa9","url"'),
    ],
)
def test_each_form_has_its_own_characters(text: str, part: bytes) -> None:
    assert part in rewritten_json(orjson.dumps({"url": URL, "n": "é"}), text)


def test_a_body_that_is_not_json_stays_as_it_is() -> None:
    assert rewritten_json(b"<html>", "spaced") == b"<html>"


def _numeric_progress(value: Any) -> bool:
    """Whether a value fits a schema in which `progress` is a number up to 100, and `count` an integer."""
    progress, count = value["progress"], value["count"]
    return isinstance(progress, int | float) and progress <= 100 and isinstance(count, int)


@pytest.mark.parametrize(("number", "body"), [("float", b'{"progress":100.0,"count":2}'), ("exponent", b"100e0")])
def test_only_a_number_that_may_be_a_fraction_gets_another_form(number: str, body: bytes) -> None:
    response = replace(decided(b'{"progress":100,"count":2}'), valid=_numeric_progress)
    assert body in under("json_number", response, number=number).body
    assert NUMBERS.applies(NUMBERS, response, {"number": number})
    # Without a schema, nothing says that it is a number.
    assert not NUMBERS.applies(NUMBERS, decided(b'{"progress":100}'), {"number": number})


def test_booleans_are_not_integers() -> None:
    assert list(integers({"a": [True, 2], "b": 1.5})) == [(("a", "1"), 2)]


def test_a_callback_is_rewritten_before_it_is_signed() -> None:
    effect = CALLBACK_TEXTS.effect(None, CALLBACK_TEXTS.complete({"text": "slashes"}))
    assert isinstance(effect, Rewritten)
    assert effect.change(b'{"a":"/"}') == b'{"a":"\\/"}'
