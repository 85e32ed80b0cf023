"""Old names of a record stay readable, and each use warns with the new name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from hobbyhorse.testing.old_names import formerly_value, old_names


@old_names({"colour": ("coat", lambda horse: horse.coat.upper())}, live=("gallop",))
@dataclass(frozen=True, slots=True)
class Horse:
    coat: str
    _live: Any = None

    @formerly_value("legs()[0]", lambda horse: horse.legs()[0])
    def legs(self, count: int = 4) -> list[str]:
        """Return the legs."""
        return ["leg"] * count


@old_names({"at": ("moment", lambda pair: pair.moment)})
class Pair(NamedTuple):
    moment: float
    name: str


def test_a_renamed_attribute_warns_and_has_its_old_value() -> None:
    horse: Any = Horse("bay")
    with pytest.warns(
        DeprecationWarning, match=r"^Horse\.colour will be removed in the next release; use coat$"
    ) as got:
        assert horse.colour == "BAY"
    assert got[0].filename == __file__, "the warning points to the line of the test"
    assert horse.coat == "bay"
    with pytest.raises(AttributeError, match="'Horse' object has no attribute 'colours'"):
        horse.colours  # noqa: B018


def test_an_attribute_of_the_live_object_is_read_from_it() -> None:
    horse: Any = Horse("bay", type("Live", (), {"gallop": 12}))
    with pytest.warns(DeprecationWarning, match=r"Horse\.gallop .* a world on a running server does not have it"):
        assert horse.gallop == 12
    remote: Any = Horse("bay")
    with pytest.raises(AttributeError, match="gallop"):
        remote.gallop  # noqa: B018


def test_a_record_is_read_by_key_like_the_object_that_it_has_replaced() -> None:
    horse, pair = Horse("bay"), Pair(1.0, "trot")
    reading: Any = (horse, pair)
    with pytest.warns(DeprecationWarning, match=r"Horse\['coat'\] .* use \.coat"):
        assert reading[0]["coat"] == "bay"
    with pytest.warns(DeprecationWarning, match=r"Horse\['colour'\] .* use coat"):
        assert reading[0]["colour"] == "BAY"
    with pytest.warns(DeprecationWarning, match=r"Pair\['at'\] .* use moment"):
        assert reading[1]["at"] == 1.0
    assert (pair[0], pair[-1], tuple(pair)) == (1.0, "trot", (1.0, "trot"))
    for wrong in ("hooves", "_live"):
        with pytest.raises(KeyError, match=wrong):
            reading[0][wrong]
    with pytest.raises(TypeError, match="no positions"):
        reading[0][0]


def test_a_method_is_called_without_a_warning() -> None:
    assert Horse("bay").legs(2) == ["leg", "leg"]
    assert repr(Horse("bay").legs) == "<method Horse.legs>"
    assert Horse.legs(Horse("bay"), 1) == ["leg"]


@pytest.mark.parametrize(
    "use",
    [
        lambda legs: legs == "leg",
        lambda legs: str(legs) == "leg",
        lambda legs: f"{legs}" == "leg",
        lambda legs: bool(legs),
        lambda legs: len(legs) == 3,
        lambda legs: list(legs) == ["l", "e", "g"],
        lambda legs: "eg" in legs,
        lambda legs: legs[0] == "l",
        lambda legs: legs in {"leg"},
        lambda legs: legs.startswith("l"),
    ],
)
def test_a_method_that_was_a_value_is_read_like_it(use: Any) -> None:
    with pytest.warns(DeprecationWarning, match=r"Horse\.legs .* use legs\(\)\[0\]") as got:
        assert use(Horse("bay").legs)
    assert got[0].filename == __file__
