"""Whether a finding recurs in a fresh process, and which earlier runs it needs there. Knows no server.

A client that keeps state between its calls (a circuit breaker, a cached token, a counter) may break a rule in a case
that is not the cause. Shrinking makes this worse: once the state is spoilt, every simpler case breaks the rule too,
down to the happy server. So nothing is reported before it has been seen in a process that has run nothing else:

1. The smallest case, alone. Almost every finding ends here.
2. The first case that broke the rule, alone: state accumulates, so it has the least. If it breaks the rule, it is
   shrunk again, each step in a fresh process.
3. The runs that an earlier finding needed, then the smallest case: one spoilt state breaks several rules.
4. The first case after the last 1, 4, 16, ... runs that preceded it in its process, until it breaks the rule. Halves,
   quarters and so on of these runs are then left out as long as it still breaks the rule.

What must hold: `budget` bounds the runs of all findings together, a process counts as PROCESS_COST runs, and a finding
is never dropped. If nothing reproduces it, the report says so: its trace is still evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.judge import Finding
from hobbyhorse.traces.trace import Trace

# Starting a process takes about as long as this many runs in virtual time.
PROCESS_COST = 10
# Runs beside the plan's, including PROCESS_COST for each process, that look for the causes of all findings together:
# enough to shorten the preceding runs of two findings. A search spends them only on a client that keeps state.
BUDGET = 600
# The factor by which the number of preceding runs grows: a larger one finds a far cause in fewer runs.
GROWTH = 4
# Fresh processes that shrink one finding whose smallest case was not its cause.
SHRINKING_PROCESSES = 10
# The share of the budget that one finding may use, so that a first finding without a cause leaves some to the others.
ONE_FINDING = 3

FreshRunner = Callable[[Sequence[Case]], Iterable[Trace]]
"""Runs cases one after the other in a fresh process, and returns their traces."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finding before its confirmation: its smallest and its first case, and the runs before the first case."""

    case: Case
    finding: Finding
    first: Case
    before: Sequence[Case]


@dataclass(slots=True)
class Recurrence:
    """Confirms the findings of one search.

    `breach` returns the finding that a trace shows, if it is of the given rule and operation. `simpler` yields the
    simpler neighbours of a case.
    """

    fresh: FreshRunner
    breach: Callable[[Finding, Trace], Finding | None]
    simpler: Callable[[Case], Iterator[Case]]
    budget: int = BUDGET
    _needed: list[tuple[Case, ...]] = field(default_factory=list)

    def confirmed(self, candidate: Candidate) -> Finding:
        """Return a finding that recurs, alone or after other runs; or the same finding with `recurs=False`."""
        if self._alone(candidate, candidate.case) is not None:
            return candidate.finding
        if candidate.first != candidate.case and (found := self._alone(candidate, candidate.first)) is not None:
            return self._shrunk(candidate, candidate.first, found)
        for needed in self._needed:
            if (found := self._after(candidate, needed, candidate.case)) is not None:
                return replace(found, after=needed)
        return self._with_causes(candidate) or replace(candidate.finding, recurs=False)

    def _alone(self, candidate: Candidate, case: Case) -> Finding | None:
        return self._after(candidate, (), case)

    def _after(self, candidate: Candidate, before: Sequence[Case], case: Case) -> Finding | None:
        """Run a case after other cases in a fresh process; return its finding if it breaks the candidate's rule."""
        self.budget -= len(before) + 1 + PROCESS_COST
        traces = list(self.fresh([*before, case]))
        return self.breach(candidate.finding, traces[-1])

    def _shrunk(self, candidate: Candidate, case: Case, found: Finding) -> Finding:
        """Simplify a case that breaks the rule in a fresh process."""
        left = SHRINKING_PROCESSES
        tries = self.simpler(case)
        while left and (simpler := next(tries, None)) is not None:
            left -= 1
            again = self._alone(candidate, simpler)
            if again is not None:
                found, tries = again, self.simpler(simpler)
        return found

    def _with_causes(self, candidate: Candidate) -> Finding | None:
        """Find the preceding runs that the first case needs, and shorten them."""
        before, enough = tuple(candidate.before), self.budget - self.budget // ONE_FINDING
        for count in _growing(len(before)):
            if self.budget - count - PROCESS_COST < enough:
                return None
            found = self._after(candidate, before[-count:], candidate.first)
            if found is not None:
                return self._shortened(candidate, before[-count:], found)
        return None

    def _shortened(self, candidate: Candidate, needed: tuple[Case, ...], found: Finding) -> Finding:
        """Leave out preceding runs, in ever smaller pieces, as long as the case still breaks the rule."""
        size = len(needed) // 2
        while size:
            at = 0
            while at < len(needed) and len(needed) > 1 and self.budget > len(needed) + PROCESS_COST:
                left = needed[:at] + needed[at + size :]
                again = self._after(candidate, left, candidate.first) if left else None
                if again is None:
                    at += size
                else:
                    needed, found = left, again
            size //= 2
        self._needed.append(needed)
        return replace(found, after=needed)


def _growing(most: int) -> Iterator[int]:
    """Yield 1, 4, 16, ... below a number, then the number."""
    count = 1
    while count < most:
        yield count
        count *= GROWTH
    if most:
        yield most
