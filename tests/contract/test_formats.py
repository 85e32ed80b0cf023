"""Formats of timestamps, money and durations: round trips, and the values that are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.formats import FORMATS, format_for, location_steps, whole_number, write_location

# The last second of the year 9999, the latest that datetime can represent.
LATEST = 253_402_300_799

SECONDS = st.integers(0, LATEST).map(float)
THOUSANDTHS = st.integers(0, 4_000_000_000_000).map(lambda thousandths: thousandths / 1000)
CENTS = st.integers(0, 10**9).map(lambda units: Decimal(units).scaleb(-4))

DOMAINS: Mapping[str, st.SearchStrategy[Any]] = {
    "unix": SECONDS,
    "unix_float": THOUSANDTHS,
    "rfc3339": THOUSANDTHS,
    "rfc3339_z": THOUSANDTHS,
    "decimal": CENTS,
    "number": CENTS,
    "milliseconds": THOUSANDTHS,
}
"""The values that each format can represent without loss."""

KINDS: Mapping[str, type] = {
    "unix": int,
    "unix_float": float,
    "rfc3339": str,
    "rfc3339_z": str,
    "decimal": str,
    "number": float,
    "milliseconds": int,
}
"""The JSON type of each format."""


def test_every_format_has_a_domain_here_and_is_one_that_contracts_may_name() -> None:
    schema = orjson.loads((data_directory("contracts") / "lifecycle.schema.json").read_bytes())
    assert set(FORMATS) == set(DOMAINS) == set(KINDS)
    assert set(schema["$defs"]["format"]["enum"]) == set(FORMATS) - {"rfc3339_z"}


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_a_written_value_is_read_back(name: str, data: st.DataObject) -> None:
    value = data.draw(DOMAINS[name])
    written = FORMATS[name].write(value)
    assert type(written) is KINDS[name]
    assert FORMATS[name].read(orjson.loads(orjson.dumps(written))) == value


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_a_value_that_was_read_is_written_unchanged(name: str, data: st.DataObject) -> None:
    written = FORMATS[name].write(data.draw(DOMAINS[name]))
    assert FORMATS[name].write(FORMATS[name].read(written)) == written


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("unix", 1777370400.999, 1777370400),
        ("unix_float", 1777370400.12345, 1777370400.123),
        ("rfc3339", 1777370400.0, "2026-04-28T10:00:00.000+00:00"),
        ("rfc3339", 1777370400.9996, "2026-04-28T10:00:01.000+00:00"),
        ("rfc3339_z", 1777370400.5, "2026-04-28T10:00:00.500Z"),
        ("rfc3339_z", 0.0, "1970-01-01T00:00:00.000Z"),
        ("decimal", Decimal("0.70"), "0.70"),
        ("decimal", Decimal("0"), "0"),
        ("number", Decimal("0.70"), 0.7),
        ("milliseconds", 1.2346, 1235),
        ("milliseconds", 0.0, 0),
    ],
)
def test_a_value_is_written_as_documented(name: str, value: Any, written: Any) -> None:
    assert FORMATS[name].write(value) == written


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("unix", 1777370400.5, 1777370400.5),
        ("unix", -1, -1.0),
        ("rfc3339", "2026-04-28T10:00:00Z", 1777370400.0),
        ("rfc3339", "2026-04-28T12:00:00+02:00", 1777370400.0),
        ("rfc3339", "2026-04-28T10:00:00", 1777370400.0),
        ("rfc3339", "2026-04-28T10:00:00.123456+00:00", 1777370400.123456),
        ("decimal", 0.7, Decimal("0.7")),
        ("decimal", 1, Decimal(1)),
        ("number", "0.70", Decimal("0.70")),
        ("milliseconds", 1500.5, 1.5005),
    ],
)
def test_other_spellings_are_read_too(name: str, written: Any, value: Any) -> None:
    assert FORMATS[name].read(written) == value


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.integers(-12 * 60, 14 * 60))
def test_a_date_is_the_same_moment_in_every_zone(naive: datetime, minutes: int) -> None:
    text = naive.replace(tzinfo=timezone(timedelta(minutes=minutes))).isoformat()
    moment = naive.replace(tzinfo=timezone.utc).timestamp() - 60 * minutes
    assert math.isclose(FORMATS["rfc3339"].read(text), moment, abs_tol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", [None, True, False, [], {}, [1], "", "soon", "1.2.3"], ids=repr)
def test_a_value_of_no_format_is_refused_by_value(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as raised:
        FORMATS[name].read(value)
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("unix", "1777370400", "'1777370400' is not a timestamp; expected a number of seconds since 1970"),
        ("unix", True, "True is not a timestamp; expected a number of seconds since 1970"),
        ("rfc3339", 1777370400, "1777370400 is not a date-time; expected a string such as 2026-04-28T10:00:00.000Z"),
        ("milliseconds", "1500", "'1500' is not a duration; expected a number of milliseconds"),
        ("decimal", True, "True is not an amount of money; expected a number or a string such as 0.70"),
        ("number", "a lot", "'a lot' is not an amount of money; expected a number or a string such as 0.70"),
    ],
)
def test_a_refusal_names_the_value_and_the_expected_form(name: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match="is not") as raised:
        FORMATS[name].read(value)
    assert str(raised.value) == words


# ---- which format


@pytest.mark.parametrize("example", ["2026-04-28T10:00:00Z", "2026-04-28T10:00:00.000Z"])
def test_a_date_is_written_with_z_if_the_example_has_it(example: str) -> None:
    form = format_for("rfc3339", example)
    assert form is FORMATS["rfc3339_z"]


@pytest.mark.parametrize("example", ["2026-04-28T10:00:00+00:00", None, 5, "soon"])
def test_a_date_is_written_with_an_offset_if_the_example_has_no_z(example: Any) -> None:
    form = format_for("rfc3339", example)
    assert form is FORMATS["rfc3339"]


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"rfc3339"}))
def test_every_other_format_is_found_by_its_name(name: str) -> None:
    assert format_for(name, "2026-04-28T10:00:00Z") is FORMATS[name]


def test_a_value_without_a_format_has_none() -> None:
    assert format_for(None, "2026-04-28T10:00:00Z") is None


@pytest.mark.parametrize("value", [["body", "a"], "/body/a", "#/body/a", "body.a"])
def test_a_location_is_read_in_each_form(value: Any) -> None:
    assert location_steps(value) == ["body", "a"]
    assert write_location(value, ["body", "a"]) == value


@pytest.mark.parametrize("value", [None, 7, "", "#", "/"])
def test_a_location_without_steps_says_nothing(value: Any) -> None:
    assert location_steps(value) == []


def test_a_whole_number_has_plain_digits_and_not_too_many() -> None:
    assert [whole_number(text) for text in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]
    for text in ("", "-1", "+1", "1_0", " 1", "1.0", "\u00b2", "\u0661", "9" * 19, "9" * 5_000):
        assert whole_number(text) is None
    assert (whole_number("12", 2), whole_number("123", 2)) == (12, None)
