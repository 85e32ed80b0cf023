"""Values whose methods misbehave are read without an error, as bounded text."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.runners.safe_text import (
    MOST_SEARCHED,
    is_a,
    printable,
    safe_repr,
    safe_str,
    tried,
    type_name,
    type_names,
)
from hobbyhorse.runners.scheduler import RunOver, Stuck


class Odd(type):
    """A metaclass whose attributes cannot be read."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("no name")


class Value(Exception, metaclass=Odd):
    """A value without a text."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit


class Text(str):
    """A text whose methods misbehave."""

    def __getitem__(self, at: Any) -> str:
        raise ValueError(at)


class Given:
    """A value whose text is an instance of a subclass."""

    def __str__(self) -> str:
        return Text("given")


def test_a_value_without_a_text_has_the_name_of_its_type() -> None:
    assert safe_str(Value()) == "<Value without a readable text>"
    assert type_name(Value()) == "Value"
    assert type_names(Value())[:2] == ["Value", "Exception"]
    assert is_a(Value(), BaseException)
    assert not is_a(Value, BaseException)


def test_a_text_is_a_plain_string_of_bounded_length() -> None:
    assert type(safe_str(Given())) is str
    assert safe_str(Given()) == "given"
    text = safe_str("a" * MOST_SEARCHED + "b" * MOST_SEARCHED)
    assert (len(text), text[0], text[-1]) == (MOST_SEARCHED + 3, "a", "b")


def test_a_representation_has_no_address() -> None:
    assert safe_repr(object()) == "<object object>"


def test_control_characters_and_surrogates_are_replaced() -> None:
    assert printable("a\n\tb\0c\udc80d\N{HORSE}") == "a\n\tb c d\N{HORSE}"


@pytest.mark.parametrize("kind", [RunOver, Stuck])
def test_the_end_of_a_run_is_not_swallowed(kind: type[BaseException]) -> None:
    def call() -> None:
        raise kind

    with pytest.raises(kind):
        tried(call, None)
    assert tried(lambda: 1 // 0, 7) == 7
