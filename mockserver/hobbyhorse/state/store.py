"""The interface of a store: the state of a server, in records, behind atomic operations.

One rule makes every store safe: decide, keep, then respond. No response and no callback leaves the process before
`keep` has returned True for the change that it reports.

Who decides may share a world with others. So each head and each job has a version, and `keep` takes a change only if
every record in it is the successor of the stored one. Otherwise nothing is kept: look, and decide again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hobbyhorse.state.errors import StateError
from hobbyhorse.state.records import (
    FORMAT,
    KINDS,
    AttemptRecord,
    DueRecord,
    ExchangeRecord,
    Head,
    JobRecord,
    KeyRecord,
)

if TYPE_CHECKING:
    import sqlite3

Found = TypeVar("Found")
NAMES_OF_KINDS: Mapping[type, str] = {int: "a number", dict: "an object"}
Heads = tuple[int, Sequence[tuple[str, Head]]]
"""The number of worlds, and the handles and heads of some of them, the last written first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Changes of one world, kept all or not at all.

    First the kinds of records in `erased` are erased, `head` standing for the whole world, and the jobs with the
    numbers in `forgotten`, with their keys and dues. Then the records are put, unless the world was erased and there is
    no new head: then nothing of the change is kept. `done` has the numbers of dues that are no more due, `released` the
    idempotency keys that are no more claimed, as pairs of provider and key. If not `checked`, the versions are not
    compared: the caller is the only one.
    """

    world: str
    head: Head | None = None
    jobs: Sequence[JobRecord] = ()
    keys: Sequence[KeyRecord] = ()
    dues: Sequence[DueRecord] = ()
    exchanges: Sequence[ExchangeRecord] = ()
    attempts: Sequence[AttemptRecord] = ()
    done: Sequence[int] = ()
    released: Sequence[tuple[str, str]] = ()
    forgotten: Sequence[int] = ()
    erased: frozenset[str] = frozenset()
    checked: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """A world and one of its jobs at one moment, `now` on the store's clock.

    `elsewhere` tells that another world has the job.
    """

    now: float
    head: Head | None = None
    job: JobRecord | None = None
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """The begin of a submission: the number of its job, and its idempotency key as it was before.

    Without a `key`, the submission has claimed it. A key without a job is claimed by another request in flight.
    """

    number: int
    key: KeyRecord | None = None


@dataclass(frozen=True, slots=True)
class TakenDue:
    """A due that was taken, and its world."""

    world: str
    due: DueRecord


@dataclass(frozen=True, slots=True)
class Page:
    """Records in the order of their numbers; `more` tells whether there are older ones."""

    records: Sequence[Any] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Meta:
    """The facts that a state and its server must agree about; `contracts` has a digest of each."""

    seed: int = 0
    contracts: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT


def facts_of(found: Mapping[str, Any]) -> Meta:
    """Return the facts of a state. Raises StateError for a newer format, and if they are damaged."""
    number, seed, contracts = (found.get(name) for name in ("format", "seed", "contracts"))
    if isinstance(number, int) and number > FORMAT:
        raise StateError(f"the state has format {number}, this program reads up to {FORMAT}: use a newer one")
    for name, value, kind in (("format", number, int), ("seed", seed, int), ("contracts", contracts, dict)):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise StateError(f"the state is damaged: its {name} is {value!r}, not {NAMES_OF_KINDS[kind]}")
    return Meta(seed, contracts, number)  # type: ignore[arg-type]  # both were checked


class Store(Protocol):
    """The state of a server. Worlds are named by their handles."""

    async def meta(self) -> Meta | None:
        """Return the facts that were set, or None for an empty store. Raises StateError for a newer format."""

    async def set_meta(self, meta: Meta) -> None:
        """Set the facts."""

    async def look(self, world: str, provider: str | None = None, job: str | None = None) -> Look:
        """Return a world's head, and a provider's job by id."""

    async def begin(self, world: str, provider: str, key: str | None = None) -> Begun:
        """Take the next job number of a world, and claim an idempotency key for `LEASE_SECONDS`.

        The number is taken even if the key is not free; numbers may be skipped.
        """

    async def keep(self, changes: Changes) -> bool:
        """Keep changes; return False, and keep nothing, if a version in them is not the successor of the stored one."""

    def note(self, world: str, exchange: ExchangeRecord) -> None:
        """Keep the journal line of a request that changed nothing, within 250 ms; not waited for."""

    async def page(
        self, world: str, kind: str, *, provider: str | None = None, before: int | None = None, count: int = 100
    ) -> Page:
        """Return the newest records of a kind whose number is less than `before`; keys are not numbered, and all."""

    async def worlds(self) -> Sequence[str]:
        """Return the handles of all worlds, sorted."""

    async def take(self, count: int) -> Sequence[TakenDue]:
        """Take dues whose moment has come on the clock of their world, each for `LEASE_SECONDS`."""

    async def blob(self, name: str, content: bytes | None = None) -> bytes | None:
        """Keep a picture under its name if there is content; return the kept one, or None."""

    async def close(self) -> None:
        """Keep everything that was noted, and let go of the store."""


class WorldLog(Protocol):
    """A store as a live server uses it, which is the only writer of its worlds and has them in memory.

    A change has a number: `put_last` is that of the last one, `kept` that of the last one in the store. `on_failure` is
    called with the reason why nothing can be written any more.
    """

    put_last: int
    kept: int
    on_failure: Callable[[str], None]

    @property
    def found(self) -> Meta | None:
        """The facts that were set."""

    def write_meta(self, meta: Meta) -> None:
        """Set the facts soon."""

    def put(self, changes: Changes, *, wake: bool = True) -> int:
        """Keep changes of the only writer soon; return their number. Without `wake`, `write_now` has to follow."""

    def write_now(self) -> None:
        """Write what waits."""

    async def until_kept(self, number: int) -> None:
        """Wait until the change with a number is kept. Raises NotKept if it never will."""

    def read(self, query: Callable[[sqlite3.Connection], Found]) -> Found:
        """Return what a query finds in the kept records."""

    async def worlds(self) -> Sequence[str]:
        """Return the handles of all worlds, sorted."""

    async def heads(self, before: int | None, count: int) -> Heads:
        """Return the heads of worlds, of all processes, that were written before a moment (`Head.written`)."""

    async def close(self) -> None:
        """Keep everything, and let go of the store."""


def check_kind(kind: str) -> None:
    """Raise ValueError for an unknown kind of records."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; allowed: {', '.join(KINDS)}")


def agreed(found: Meta | None, seed: int, contracts: Mapping[str, str], running: Mapping[str, int]) -> Meta:
    """Return the facts for a server that starts with a state. Raises StateError if it must not.

    `contracts` has the digests of the served contracts, `running` the number of running jobs of each provider: a job
    that runs must end under the contract under which it was submitted.
    """
    if found is None:
        return Meta(seed, dict(contracts))
    if found.seed != seed:
        raise StateError(f"the state was made with the seed {found.seed}, not {seed}; use --seed {found.seed}")
    for provider, digest in found.contracts.items():
        count = running.get(provider, 0)
        if not count or contracts.get(provider) == digest:
            continue
        verb = "has changed" if provider in contracts else "is not served any more"
        jobs = "1 of its jobs runs" if count == 1 else f"{count} of its jobs run"
        raise StateError(
            f"the contract {provider!r} {verb} while {jobs}; serve the contract as it was until they have ended"
        )
    return Meta(seed, {**found.contracts, **contracts})
