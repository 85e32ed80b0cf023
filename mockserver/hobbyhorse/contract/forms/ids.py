"""Job id formats. Each takes a random generator, so that a seed reproduces the ids, and the current time."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Mapping
from random import Random

# Crockford's base 32 (no I, L, O, U), as the ULID specification requires.
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters each: half as many steps for an id.
_PAIRS = ["".join(pair) for pair in itertools.product(_CROCKFORD, repeat=2)]

Form = Callable[[Random, float], str]
"""Return an id, given a generator and the current time in seconds since 1970."""


def _uuid4(random: Random, now: float) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _uuid7(random: Random, now: float) -> str:
    # RFC 9562, 5.7: 48 bits of milliseconds, then random bits with the version (4) and variant (2) bits replaced.
    # uuid.uuid7 needs Python 3.14, and takes neither a seed nor a clock.
    value = (round(now * 1000) & (1 << 48) - 1) << 80 | random.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def _ulid(random: Random, now: float) -> str:
    # 128 bits in 26 characters of 5 bits: the first character has only the three highest bits.
    value = (round(now * 1000) & (1 << 48) - 1) << 80 | random.getrandbits(80)
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -10, -10)])


def _hex16(random: Random, now: float) -> str:
    return f"{random.getrandbits(64):016x}"


def _hex32(random: Random, now: float) -> str:
    return f"{random.getrandbits(128):032x}"


ID_FORMS: Mapping[str, Form] = {"uuid4": _uuid4, "uuid7": _uuid7, "ulid": _ulid, "hex16": _hex16, "hex32": _hex32}
ID_BITS: Mapping[str, int] = {"uuid4": 128, "uuid7": 80, "ulid": 80, "hex16": 64, "hex32": 128}
"""The random bits that each format takes."""
