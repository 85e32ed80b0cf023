"""A shard of a search: its part of the planned cases, so that several machines share one search. Knows no server.

What must hold:

* The shards of one search have the same planned cases in the same order, because the order depends on the contract, the
  seed and the operations that the client uses. So an index alone assigns a case to its shard: no case belongs to two
  shards, and none to no shard.
* The last polls and the requests at which a client is killed depend on the client's requests in one run, which differ
  in real time. These cases get the last indices, so that their number does not move the other cases to another shard.
* The plan's runs cut off the planned cases in the order in which one search runs them, before they are assigned. So a
  short search that is split tries the same cases as one that is not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

from hobbyhorse.conformance.client.cases import KILLED, MOVED, Case

LAST_POLLS = "last polls"
# The most digits of a number: more machines than this do not exist, and Python refuses to read thousands of digits.
MOST_DIGITS = 4

T = TypeVar("T")
PhaseCases = tuple[str, Sequence[Case]]
"""The name of a phase of the search, and its cases."""


@dataclass(frozen=True, slots=True)
class Part:
    """A shard's part of a search: its phases, and its cases for which the plan has no run.

    `planned` is the number of cases that all shards run.
    """

    phases: tuple[PhaseCases, ...]
    untried: tuple[Case, ...]
    planned: int

    @property
    def cases(self) -> list[Case]:
        """The cases of the phases."""
        return [case for _, cases in self.phases for case in cases]


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """The shard `number`, counted from 1, of `count`."""

    number: int
    count: int

    def __str__(self) -> str:
        """Return the shard as an option names it, such as `1/4`."""
        return f"{self.number}/{self.count}"

    def share(self, runs: int) -> int:
        """Return this shard's share of some runs. The shares differ by at most one, and add up to the runs."""
        return runs // self.count + (self.number <= runs % self.count)

    def part(self, phases: Sequence[PhaseCases], seen: Collection[str], most: int) -> Part:
        """Return this shard's part of the first `most` cases whose keys are not in `seen`."""
        unique: dict[str, tuple[str, Case]] = {}
        for phase, cases in phases:
            for case in cases:
                unique.setdefault(case.key, (phase, case))
        planned = [found for key, found in unique.items() if key not in seen]
        kept, left_out = planned[:most], planned[most:]
        # Sorted by place again: the cases run in the order of the phases.
        own = [kept[at] for at in sorted(self._of(sorted(range(len(kept)), key=lambda at: _varies(*kept[at]))))]
        return Part(
            phases=tuple((name, [case for _, case in group]) for name, group in groupby(own, key=itemgetter(0))),
            untried=tuple(case for _, case in self._of(left_out)),
            planned=len(kept),
        )

    def _of(self, listed: Sequence[T]) -> Sequence[T]:
        """Return every N-th value, from this shard's own on."""
        return listed[self.number - 1 :: self.count]


def _varies(phase: str, case: Case) -> bool:
    """Whether a case depends on the client's requests in one run."""
    return phase == LAST_POLLS or case.kind in (KILLED, MOVED)


def read_shard(text: str) -> Shard:
    """Read a shard such as `1/4`. Raises ValueError."""
    found = re.fullmatch(rf"([0-9]{{1,{MOST_DIGITS}}})/([0-9]{{1,{MOST_DIGITS}}})", text)
    shard = Shard(int(found[1]), int(found[2])) if found else None
    if shard is None or not 1 <= shard.number <= shard.count:
        raise ValueError(f"{text!r}; allowed: K/N with K from 1 to N, such as 1/4")
    return shard
