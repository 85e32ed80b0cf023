"""The state machine of a job, and timelines through it; knows no contract format, no HTTP and no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

TERMINAL = frozenset({"success", "failure", "cancelled", "expired"})

Timeline = tuple[tuple[float, str], ...]
"""Moments, and the stage that begins at each; ascending."""

Lasting = Callable[["Stage"], float]
"""How long a job stays in a stage, in seconds."""


class LifecycleError(ValueError):
    """A stage that cannot be reached, or a move that the graph does not have."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its class, its legal successors in order of preference, and how long it takes in seconds."""

    name: str
    kind: str
    next: tuple[str, ...]
    cancellable: bool = False
    lasts: tuple[float, float] = (0.0, 0.0)

    @property
    def terminal(self) -> bool:
        """Whether a job stays in this stage for ever."""
        return self.kind in TERMINAL


@dataclass(frozen=True, slots=True)
class Graph:
    """The stages of a contract, by name, and the one that a job begins in."""

    initial: str
    stages: Mapping[str, Stage]

    def __getitem__(self, name: str) -> Stage:
        return self.stages[name]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages.values())

    def terminals(self) -> tuple[Stage, ...]:
        """Return the stages that end a job."""
        return tuple(stage for stage in self if stage.terminal)

    def ending(self, kind: str) -> Stage | None:
        """Return the first stage of a class, or None if the contract has none."""
        return next((stage for stage in self if stage.kind == kind), None)

    def path(self, start: str, end: str | None = None) -> tuple[str, ...]:
        """Return the stages from `start` to `end`, both included, along the preferred moves.

        Without `end`: to where a job goes that goes well. The path stays on the preferred way as long as it
        can, so that a failing job fails late. Raises LifecycleError if there is no way.
        """
        happy = [start]
        while following := self._preferred(happy[-1]):
            if following in happy:
                break
            happy.append(following)
        if end is None or end in happy:
            return tuple(happy if end is None else happy[: happy.index(end) + 1])
        for length in range(len(happy), 0, -1):
            detour = self._shortest(happy[length - 1], end)
            if detour:
                return (*happy[: length - 1], *detour)
        raise LifecycleError(f"no way from {start!r} to {end!r}; {start!r} leads to {list(self[start].next)}")

    def leads_to(self, before: str, after: str) -> bool:
        """Whether a job seen in one stage may later be seen in the other: by any number of moves."""
        return bool(self._shortest(before, after))

    def _preferred(self, name: str) -> str | None:
        good = ("pending", "running", "success")
        return next((to for to in self[name].next if self[to].kind in good), None)

    def _shortest(self, start: str, end: str) -> tuple[str, ...]:
        ways: list[tuple[str, ...]] = [(start,)]
        seen = {start}
        for way in ways:
            if way[-1] == end:
                return way
            for to in self[way[-1]].next:
                if to not in seen:
                    seen.add(to)
                    ways.append((*way, to))
        return ()


def lay(graph: Graph, start: float, lasting: Lasting, end: str | None = None) -> Timeline:
    """Lay the timeline of a job that is accepted at a moment and ends as `end`, or well."""
    moment = start
    timeline = []
    for name in graph.path(graph.initial, end):
        timeline.append((moment, name))
        moment += lasting(graph[name])
    return tuple(timeline)


def stage_at(timeline: Timeline, now: float) -> str:
    """Return the stage at a moment; the first one at any moment before the timeline begins."""
    for moment, name in reversed(timeline):
        if moment <= now:
            return name
    return timeline[0][1]


def cut(graph: Graph, timeline: Timeline, now: float, stage: str) -> Timeline:
    """Return the timeline with its future replaced by a move to `stage` now; LifecycleError if not legal."""
    current = stage_at(timeline, now)
    if stage not in graph[current].next:
        raise LifecycleError(f"no move from {current!r} to {stage!r}; allowed: {list(graph[current].next)}")
    past = tuple(step for step in timeline if step[0] <= now)
    return (*(past or timeline[:1]), (now, stage))


def reroute(graph: Graph, timeline: Timeline, moment: float, end: str) -> Timeline:
    """Return the timeline of a job that turns out to end as `end`, at a moment not before its old end.

    The way that both have from the start keeps its moments; what only the new way has begins at the end.
    """
    way = graph.path(graph.initial, end)[:-1]
    both = zip(timeline, way, strict=False)
    shared = [step for step, _ in takewhile(lambda pair: pair[0][1] == pair[1], both)]
    return (*shared, *((moment, name) for name in way[len(shared) :]), (moment, end))
