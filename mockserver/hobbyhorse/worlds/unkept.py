"""The changes of a world since it was last kept, for servers with a kept state. No HTTP.

A change notes the changed object here, not the new value: records are made when they are kept, from the objects as they
are then. So a change that is noted twice is kept once, and all records of one transaction were true together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hobbyhorse.state.records import DueRecord

if TYPE_CHECKING:
    from hobbyhorse.worlds.idempotency import UsedKey
    from hobbyhorse.worlds.jobs import Job
    from hobbyhorse.worlds.journal import Entry


class Unkept:
    """The changes of one world that are not kept yet. Adds the world's handle to `changed`."""

    __slots__ = (
        "_changed",
        "attempts",
        "attempts_total",
        "done",
        "dues",
        "entries",
        "erased",
        "forgotten",
        "handle",
        "has_earlier_attempts",
        "jobs",
        "keys",
        "last",
        "last_due",
        "settings",
        "urgent",
    )

    def __init__(self, handle: str, changed: set[str]) -> None:
        self.handle, self._changed = handle, changed
        self.last = 0
        """The number of the last change that was put into the store."""
        self.has_earlier_attempts = False
        """Whether an earlier process has kept attempts that were not read yet."""
        self.last_due = 0
        self.attempts_total = 0
        self.settings: Any = None
        """The JSON of the settings as they were kept last; None if they have changed."""
        self.clear()

    def clear(self) -> None:
        """Forget the changes, because they are kept."""
        self.urgent = False
        """Whether a response may depend on a change; the others are kept within a moment, and are not waited for."""
        self.jobs: dict[str, Job] = {}
        self.keys: list[tuple[str, str, UsedKey]] = []
        self.entries: list[Entry] = []
        self.attempts: list[tuple[int, Any]] = []
        self.dues: dict[int, DueRecord] = {}
        self.done: list[int] = []
        self.forgotten: list[int] = []
        self.erased: set[str] = set()

    def touch(self) -> None:
        """Note that the world itself has changed, such as its settings."""
        self.settings = None
        self._hurry()

    def _hurry(self) -> None:
        self.urgent = True
        self._changed.add(self.handle)

    def job(self, job: Job, urgent: bool = True) -> None:
        """Note that a job has changed."""
        self.jobs[job.id] = job
        self.urgent = self.urgent or urgent
        self._changed.add(self.handle)

    def key(self, provider: str, key: str, used: UsedKey) -> None:
        """Note that an idempotency key was used."""
        self.keys.append((provider, key, used))
        self._hurry()

    def entry(self, entry: Entry) -> None:
        """Note a new line of the journal, or that its delivery is known now."""
        self.entries.append(entry)
        self._changed.add(self.handle)

    def attempt(self, attempt: Any) -> None:
        """Note an attempt to deliver a callback."""
        self.attempts.append((self.attempts_total, attempt))
        self.attempts_total += 1
        self._changed.add(self.handle)

    def due(self, moment: float, kind: str, job: str, values: Mapping[str, Any]) -> int:
        """Note work that is due later; return its number."""
        self.last_due += 1
        self.dues[self.last_due] = DueRecord(self.last_due, moment, kind, job, values)
        self._hurry()
        return self.last_due

    def finish(self, number: int) -> None:
        """Note that work which was due is done."""
        if self.dues.pop(number, None) is None:
            self.done.append(number)
        self._changed.add(self.handle)

    def forget(self, numbers: Iterable[int]) -> None:
        """Note that jobs were forgotten."""
        self.forgotten.extend(numbers)
        self.touch()

    def erase(self, *kinds: str) -> None:
        """Note that all records of some kinds were erased, kept or not."""
        self.erased.update(kinds)
        if "job" in kinds:
            self.jobs.clear()
            self.forgotten.clear()
        if "key" in kinds:
            self.keys.clear()
        if "due" in kinds:
            self.dues.clear()
            self.done.clear()
        if "exchange" in kinds:
            self.entries.clear()
        if "attempt" in kinds:
            self.attempts.clear()
            self.has_earlier_attempts = False
        self.touch()
