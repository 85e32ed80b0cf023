"""Wire formats of timestamps, money and durations: each is a pair of functions, one to write and one to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any

from hobbyhorse.contract.forms.expressions import format_pointer


@dataclass(frozen=True, slots=True)
class Format:
    """A value's JSON representation. `read` raises ValueError for a value that `write` cannot produce."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _read_timestamp(value: Any) -> float:
    # bool is a subclass of int: without this test, `true` would be one second after the epoch.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a timestamp; expected a number of seconds since 1970")
    return float(value)


def _read_milliseconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a duration; expected a number of milliseconds")
    return value / 1000


# Each poll of a job writes the same timestamps, and formatting one takes longer (1.6 us) than the rest of a response.
@lru_cache(maxsize=1024)
def _write_rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(round(moment, 3), timezone.utc).isoformat(timespec="milliseconds")


def _write_rfc3339_z(moment: float) -> str:
    return _write_rfc3339(moment).removesuffix("+00:00") + "Z"


def _read_rfc3339(text: Any) -> float:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a date-time; expected a string such as 2026-04-28T10:00:00.000Z")
    # Python 3.10's fromisoformat does not accept "Z".
    moment = datetime.fromisoformat(text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text)
    # A date without an offset is in UTC, never in the local time zone.
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _read_decimal(value: Any) -> Decimal:
    # Decimal() alone also accepts "NaN", "Infinity", "1_000" and digits of other scripts. Exponents have at most three
    # digits because the "decimal" format writes out every zero.
    plain = r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not re.fullmatch(plain, str(value)):
        raise ValueError(f"{value!r} is not an amount of money; expected a number or a string such as 0.70")
    return Decimal(str(value))


FORMATS: Mapping[str, Format] = {
    "unix": Format(int, _read_timestamp),
    "unix_float": Format(lambda moment: round(moment, 3), _read_timestamp),
    "rfc3339": Format(_write_rfc3339, _read_rfc3339),
    "rfc3339_z": Format(_write_rfc3339_z, _read_rfc3339),
    # "f": str() would write small amounts as 1E-7.
    "decimal": Format(lambda money: format(money, "f"), _read_decimal),
    "number": Format(float, _read_decimal),
    "milliseconds": Format(lambda seconds: round(seconds * 1000), _read_milliseconds),
}


def format_for(name: str | None, example: Any) -> Format | None:
    """Return the format of a binding, or None without a name.

    `rfc3339` has two spellings of UTC, `Z` and `+00:00`; it is written as in the contract's example.
    """
    if name == "rfc3339" and isinstance(example, str) and example.endswith("Z"):
        return FORMATS["rfc3339_z"]
    return FORMATS[name] if name else None


def whole_number(text: str, digits: int = 18) -> int | None:
    """Return the number that a client's text is, in at most so many digits, or None; 18 digits fit into 64 bits."""
    # `int` accepts other digits, signs and underscores, and raises for very long numbers.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else None


PARTS = ("body", "query", "path", "header")
"""The parts of a request with which the location of a refused value begins."""


def location_steps(value: Any) -> list[str]:
    """Return the steps of a location: a list, a JSON Pointer with or without `#`, or a dotted path."""
    if isinstance(value, list):
        return [str(step) for step in value]
    if not isinstance(value, str) or not value.strip("#/"):
        return []
    if value.startswith(("/", "#/")):
        return [step.replace("~1", "/").replace("~0", "~") for step in value.split("/")[1:]]
    return value.split(".")


def write_location(example: Any, location: list[Any]) -> Any:
    """Return the location of a refused value in the form of an example; without the request's part if that has none."""
    shown = location_steps(example)
    if shown and shown[0] not in PARTS:
        location = location[1:]
    if isinstance(example, list):
        return location
    steps = [str(step) for step in location]
    if example.startswith(("/", "#")) or not example:
        return "#" * example.startswith("#") + format_pointer(tuple(steps))
    return ".".join(steps)
