"""How moments, money and lengths of time are written; each format is a pair of functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write a value as JSON, and to read it back; reading raises ValueError on anything else."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _moment(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no moment; a number of seconds since 1970 is")
    return float(value)


@lru_cache(maxsize=1024)
def _write_rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(round(moment, 3), timezone.utc).isoformat(timespec="milliseconds")


def _write_rfc3339_z(moment: float) -> str:
    return _write_rfc3339(moment).removesuffix("+00:00") + "Z"


def _read_rfc3339(text: Any) -> float:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no date-time; a text such as 2026-04-28T10:00:00.000Z is")
    moment = datetime.fromisoformat(text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _read_decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is no sum of money; a number or a text such as 0.70 is")
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", str(value)):
        raise ValueError(f"{value!r} is no sum of money; a number or a text such as 0.70 is")
    return Decimal(str(value))


FORMATS: Mapping[str, Format] = {
    "unix": Format(int, _moment),
    "unix_float": Format(lambda moment: round(moment, 3), _moment),
    "rfc3339": Format(_write_rfc3339, _read_rfc3339),
    "rfc3339_z": Format(_write_rfc3339_z, _read_rfc3339),
    "decimal": Format(lambda money: format(money, "f"), _read_decimal),
    "number": Format(float, _read_decimal),
    "milliseconds": Format(lambda seconds: round(seconds * 1000), lambda value: _moment(value) / 1000),
}


def format_for(name: str | None, example: Any) -> Format | None:
    """Return the format of a binding, told apart by the example where one name has two spellings."""
    if name == "rfc3339" and isinstance(example, str) and example.endswith("Z"):
        return FORMATS["rfc3339_z"]
    return FORMATS[name] if name else None
