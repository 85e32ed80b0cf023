"""The state machine of a job, and timelines through it. No contract format, no HTTP, no clock.

A `Graph` has the legal transitions between stages. A `Timeline` is one job's planned path through the graph: the times
at which its stages begin. A job has no timers; its stage is computed from its timeline and the current time. So every
change of plan (cancelled, failed, ended early) replaces the timeline, and every timeline has three invariants:

* it begins in the initial stage, and each step is a transition of the graph, so a client never sees an illegal one;
* its times ascend, so a later poll never returns an earlier stage;
* steps up to now never change, so two polls at the same time agree.

`lay` makes the first timeline, `cut` ends a timeline now, `reroute` changes the stage in which it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

TERMINAL = frozenset({"success", "failure", "cancelled", "expired"})

Timeline = tuple[tuple[float, str], ...]
"""Pairs of a time and the stage that begins then, in ascending order. Times are seconds on the job's clock."""

Lasting = Callable[["Stage"], float]
"""Return how many seconds a job stays in a stage."""


class LifecycleError(ValueError):
    """A stage is unreachable, or the graph does not have a transition."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its class (`kind`), legal successors in order of preference, and duration as (min, max) seconds."""

    name: str
    kind: str
    next: tuple[str, ...]
    cancellable: bool = False
    lasts: tuple[float, float] = (0.0, 0.0)

    @property
    def terminal(self) -> bool:
        """Whether a job stays in this stage forever."""
        return self.kind in TERMINAL


@dataclass(frozen=True, slots=True)
class Graph:
    """The stages of a contract by name, and the stage in which jobs begin."""

    initial: str
    stages: Mapping[str, Stage]

    def __getitem__(self, name: str) -> Stage:
        return self.stages[name]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages.values())

    def terminals(self) -> tuple[Stage, ...]:
        """Return the terminal stages."""
        return tuple(stage for stage in self if stage.terminal)

    def ending(self, kind: str) -> Stage | None:
        """Return the first stage of a class, or None if the contract has none."""
        return next((stage for stage in self if stage.kind == kind), None)

    def path(self, start: str, end: str | None = None) -> tuple[str, ...]:
        """Return the stages from `start` to `end`, both included, or without `end` the path of a successful job.

        The path follows the preferred transitions as long as it can, so that a failing job fails late. Raises
        LifecycleError if `end` cannot be reached.
        """
        happy = [start]
        while following := self._preferred(happy[-1]):
            if following in happy:  # a loop, such as a retry; the path visits no stage twice
                break
            happy.append(following)
        if end is None or end in happy:
            return tuple(happy if end is None else happy[: happy.index(end) + 1])
        # Leave the happy path at the latest stage from which `end` can be reached: a client must handle a job that
        # fails while running, and an early failure would not test that.
        for length in range(len(happy), 0, -1):
            detour = self._shortest(happy[length - 1], end)
            if detour:
                return (*happy[: length - 1], *detour)
        raise LifecycleError(f"no path from {start!r} to {end!r}; allowed from {start!r}: {list(self[start].next)}")

    def leads_to(self, before: str, after: str) -> bool:
        """Whether a job can get from one stage to another by any number of transitions, including none."""
        return bool(self._shortest(before, after))

    def _preferred(self, name: str) -> str | None:
        good = ("pending", "running", "success")
        return next((to for to in self[name].next if self[to].kind in good), None)

    def _shortest(self, start: str, end: str) -> tuple[str, ...]:
        # Breadth first: the list grows while it is iterated, and the first path found is a shortest one.
        paths: list[tuple[str, ...]] = [(start,)]
        seen = {start}
        for path in paths:
            if path[-1] == end:
                return path
            for to in self[path[-1]].next:
                if to not in seen:
                    seen.add(to)
                    paths.append((*path, to))
        return ()


def lay(graph: Graph, start: float, lasting: Lasting, end: str | None = None) -> Timeline:
    """Plan the timeline of a job that is accepted at `start` and ends in the stage `end` (by default, a success)."""
    moment = start
    timeline = []
    for name in graph.path(graph.initial, end):
        timeline.append((moment, name))
        moment += lasting(graph[name])
    return tuple(timeline)


def stage_at(timeline: Timeline, now: float) -> str:
    """Return the stage at time `now`, or the initial stage before the timeline begins."""
    # Latest first: if two stages begin at the same time (the first has no duration), the later one counts.
    for moment, name in reversed(timeline):
        if moment <= now:
            return name
    return timeline[0][1]


def cut(graph: Graph, timeline: Timeline, now: float, stage: str) -> Timeline:
    """Return the timeline with all steps after `now` replaced by a transition to `stage` at `now`.

    Raises LifecycleError if the graph does not have that transition.
    """
    current = stage_at(timeline, now)
    if stage not in graph[current].next:
        raise LifecycleError(f"no transition from {current!r} to {stage!r}; allowed: {list(graph[current].next)}")
    past = tuple(step for step in timeline if step[0] <= now)
    # Before its first step, a timeline has no past: keep the initial stage, or the timeline would begin with `stage`.
    return (*(past or timeline[:1]), (now, stage))


def reroute(graph: Graph, timeline: Timeline, moment: float, end: str) -> Timeline:
    """Return the timeline of a job that ends in another stage than planned, and not before the planned end.

    The common beginning of both paths keeps its times. The rest of the new path begins at `moment`, because it cannot
    be in the past, where polls have already returned other stages.
    """
    path = graph.path(graph.initial, end)[:-1]
    both = zip(timeline, path, strict=False)
    shared = [step for step, _ in takewhile(lambda pair: pair[0][1] == pair[1], both)]
    return (*shared, *((moment, name) for name in path[len(shared) :]), (moment, end))
