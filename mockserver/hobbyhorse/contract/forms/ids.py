"""The forms that a job's id can have; each draws from a generator, so that a seed gives the same ids."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from random import Random

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Form = Callable[[Random, float], str]
"""From a generator and a moment (seconds since 1970) to an id."""


def _uuid4(random: Random, now: float) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _uuid7(random: Random, now: float) -> str:
    value = (round(now * 1000) & (1 << 48) - 1) << 80 | random.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def _ulid(random: Random, now: float) -> str:
    value = (round(now * 1000) & (1 << 48) - 1) << 80 | random.getrandbits(80)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -5, -5))


def _hex16(random: Random, now: float) -> str:
    return f"{random.getrandbits(64):016x}"


def _hex32(random: Random, now: float) -> str:
    return f"{random.getrandbits(128):032x}"


ID_FORMS: Mapping[str, Form] = {"uuid4": _uuid4, "uuid7": _uuid7, "ulid": _ulid, "hex16": _hex16, "hex32": _hex32}
