"""The records of a server's state: frozen, JSON, and free of API keys. Knows no world and no provider.

Fields that a store needs for its own work (versions, numbers, ids, the ends of jobs, moments) are members. All else is
in `values`, which only the code that wrote it reads. A reader ignores unknown members, so an older program can read
what a newer one of the same format wrote.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import orjson

from hobbyhorse.state.errors import unreadable

FORMAT = 1  # of the records and of the stores' tables: raised when an older program would misread them
# The newest lines of a journal, and attempts of callbacks, that a store keeps of a world: as many as a world itself.
KEPT_LINES = 1_000
# Seconds for which an idempotency key or a due belongs to the process that took it. A callback's deadline is 10 s.
LEASE_SECONDS = 15.0

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Head:
    """The settings, the clock and the tallies of one world.

    The clock shows `base` at the store's time `at`, and passes `speed` seconds in each second. `version` counts the
    changes of the head from 1, `generation` the resets of its jobs. `begun` is the number of the next job, and only
    grows. `group` is empty; it is for access control. `used` orders the worlds by their last use.
    """

    version: int = 1
    generation: int = 0
    group: str = ""
    base: float = 0.0
    at: float = 0.0
    speed: float = 0.0
    begun: int = 0
    used: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """The store's time at which the head was made, in microseconds."""
        return int(self.at * 1_000_000)

    def now(self, real: float) -> float:
        """Return the time of the world's clock at the store's time `real`."""
        # A store's time may step back; a world's clock never does.
        return self.base + max(0.0, real - self.at) * self.speed


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job. `number` counts the jobs of its world.

    `end` is the name and `kind` the class of its terminal stage, both empty while it runs. `order` is a hash that is
    equal for equal orders.
    """

    number: int
    id: str
    provider: str
    version: int = 1
    end: str = ""
    kind: str = ""
    order: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An idempotency key: the fingerprint of its request, its job, and the time of the world at which it expires.

    A key that a request in flight has claimed has no job; the claim ends at the store's time `lease`.
    """

    provider: str
    key: str
    fingerprint: str = ""
    job: str = ""
    until: float = 0.0
    lease: float = 0.0


@dataclass(frozen=True, slots=True)
class DueRecord:
    """Work that is due at a moment of the world's clock; `kind` names the work, `job` is the id of its job."""

    number: int
    moment: float
    kind: str
    job: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """One line of the journal; `number` counts the lines of its world."""

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt to deliver a callback; `number` counts the attempts of its world."""

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)


KINDS: Mapping[str, type[Any]] = {
    "job": JobRecord,
    "key": KeyRecord,
    "due": DueRecord,
    "exchange": ExchangeRecord,
    "attempt": AttemptRecord,
}
"""The kinds of records of which a world has any number, by name."""
NAMES: Mapping[Any, frozenset[str]] = {
    kind: frozenset(one.name for one in fields(kind)) for kind in (*KINDS.values(), Head)
}


def encode(record: Head | JobRecord | KeyRecord | DueRecord | ExchangeRecord | AttemptRecord) -> bytes:
    """Return a record as JSON."""
    return orjson.dumps(record)


def decode(kind: type[Record], text: bytes | str) -> Record:
    """Read a record from JSON; ignores unknown members."""
    found, known = orjson.loads(text), NAMES[kind]
    return kind(**{name: value for name, value in found.items() if name in known})


def read_record(kind: type[Record], text: bytes | str, name: str) -> Record:
    """Read the record with a name from JSON. Raises StateError, which names it, if it is damaged."""
    try:
        return decode(kind, text)
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable(name, error) from None


@dataclass(frozen=True, slots=True)
class Damaged:
    """Stands for a record, or for a row of them, that cannot be read."""

    number: int
    why: str


def written(content: bytes) -> str | list[str]:
    """Return bytes as a JSON value: text if they are UTF-8, else a list with their Base64."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return [base64.b64encode(content).decode()]


def read(value: str | list[str]) -> bytes:
    """Return the bytes that `written` has written."""
    return value.encode() if isinstance(value, str) else base64.b64decode(value[0])
