"""Rules about what becomes of a job: its stages, and what is told of them, go one way; knows no server."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hobbyhorse.conformance.server.expected import bound_at, home_of, label, one_per_kind, operation_of
from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.lifecycle import Graph
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import ENDS, SUBMISSIONS, AnnotatedTrace, Step

CLOCK_ROUNDING_SECONDS = 1.0
"""Seconds by which moments of different precision may be out of order."""
PLAUSIBLE = 10 * 366 * 86_400.0
"""Seconds by which a moment may lie from now: nothing but another unit is further away."""
MOMENTS = ("created_at", "started_at", "finished_at")
FOREIGN_PROBES = ("identity:", "auth:")
"""Probes that show a job to those who are not to see it."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A job as one answer showed it: from when the request was sent until the answer was there."""

    step: Step
    stages: frozenset[str]

    def before(self, other: Sighting) -> bool:
        """Whether the answer was there before the other request was sent."""
        return self.step.done < other.step.arrived

    def __str__(self) -> str:
        return f"{label(self.step)} shows {' or '.join(sorted(self.stages))}"


def legal_edges(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for a stage that does not lead to one that was seen after it."""
    found: list[tuple[Hashable, Breach]] = []
    seen = False
    graph = annotated.contract.graph
    for job, sightings in _sightings(annotated).items():
        for first, then in _pairs(sightings):
            if _ended(graph, first):
                continue
            seen = True
            if not any(graph.leads_to(*way) for way in itertools.product(first.stages, then.stages)):
                message = f"job {job}: {first}, and {then}, which came after; no way leads there"
                found.append((_kind(first, then), _moved(annotated, first, then, message)))
    return one_per_kind(found) if seen else None


def terminal_is_final(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for an end that is another one, or none, in what was asked for later; and for other words of an error."""
    found: list[tuple[Hashable, Breach]] = []
    seen = False
    for job, sightings in _sightings(annotated).items():
        for first, then in _pairs(sightings):
            if not _ended(annotated.contract.graph, first):
                continue
            seen = True
            if not first.stages & then.stages:
                message = f"job {job}: {first}, which is its end, and {then}, which came after"
                found.append((_kind(first, then), _moved(annotated, first, then, message)))
            elif name := _reworded(first.step, then.step):
                said, before = (one.reading.values.get(name) for one in (then.step, first.step))
                places = bound_at(annotated.contract, operation_of(annotated, then.step), name, then.step)
                message = f"job {job}: {label(first.step)} says {name} {before!r}, {label(then.step)} {said!r}"
                found.append(((then.step.role, name), Breach(message, places, said)))
    return one_per_kind(found) if seen else None


def progress(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold progress and places in the queue against their range, and progress against what was told before."""
    found: list[tuple[Hashable, Breach]] = []
    seen = False
    for job, sightings in _sightings(annotated).items():
        for sighting in sightings:
            values = {name: _number(sighting.step, name) for name in ("progress", "queue_position")}
            for name, value in values.items():
                if value is None:
                    continue
                seen = True
                if value < 0 or (value > 1 if name == "progress" else value != int(value)):
                    most = "a fraction from 0 to 1" if name == "progress" else "a whole number from 0"
                    message = f"job {job}: {label(sighting.step)} says {name} {value}; it is {most}"
                    found.append(_about(annotated, sighting.step, name, message, value))
        for first, then in _pairs(sightings):
            before, value = _number(first.step, "progress"), _number(then.step, "progress")
            if first.step.role != then.step.role or before is None or value is None:
                continue
            if value < before and not then.step.failure:
                message = f"job {job}: {label(first.step)} says progress {before}, {label(then.step)} {value}"
                found.append(_about(annotated, then.step, "progress", message, value))
    return one_per_kind(found) if seen else None


def moments(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold the moments that an answer tells of a job against one another, and against the clock."""
    found: list[tuple[Hashable, Breach]] = []
    seen = False
    for job, sightings in _sightings(annotated).items():
        for sighting in sightings:
            bindings = operation_of(annotated, sighting.step).bindings
            dated = [name for name in MOMENTS if name in bindings and bindings[name].format is not None]
            said = {name: value for name in dated if (value := sighting.step.reading.values.get(name))}
            seen = seen or bool(said)
            for name, message in _untimely(sighting, said):
                found.append(
                    _about(annotated, sighting.step, name, f"job {job}: {label(sighting.step)} {message}", said[name])
                )
    return one_per_kind(found) if seen else None


def no_result_before_the_end(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for the address of a video in an answer that says that the job has not ended."""
    found: list[tuple[Hashable, Breach]] = []
    seen = False
    for job, sightings in _sightings(annotated).items():
        for sighting in sightings:
            if sighting.step.kinds & ENDS or "video_url" not in operation_of(annotated, sighting.step).bindings:
                continue
            seen = True
            if sighting.step.video is not None:
                message = f"job {job}: {sighting}, and the address of a video"
                found.append(_about(annotated, sighting.step, "video_url", message, sighting.step.video))
    return one_per_kind(found) if seen else None


def linearisable(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for an order in which answers that overlap in time tell of a job that goes forward."""
    found: list[Breach] = []
    seen = False
    for job, sightings in _sightings(annotated).items():
        ways = [one for one in sightings if any(_overlap(one, other) for other in sightings if other is not one)]
        seen = seen or bool(ways)
        if not fits(annotated.contract.graph, ways):
            found.append(_out_of_order(annotated, job, ways))
    return found if seen else None


def fits(graph: Graph, sightings: Iterable[Sighting]) -> bool:
    """Whether there is one way through the stages that shows every sighting at some moment while it was being asked for.

    Along one way, each sighting is placed as early as those allow that had ended before it began; the earliest places
    leave the others the most room, so that if they do not fit, nothing does.
    """
    ordered = sorted(sightings, key=lambda sighting: sighting.step.arrived)
    return not ordered or any(_along(way, ordered) for way in _ways(graph))


def _along(way: Sequence[str], sightings: Iterable[Sighting]) -> bool:
    placed: list[tuple[float, int]] = []
    for sighting in sightings:
        least = max((place for done, place in placed if done < sighting.step.arrived), default=0)
        place = next((at for at in range(least, len(way)) if way[at] in sighting.stages), None)
        if place is None:
            return False
        placed.append((sighting.step.done, place))
    return True


def _ways(graph: Graph) -> Iterator[tuple[str, ...]]:
    """Yield every way through the stages that cannot be made longer."""
    entered = {name for stage in graph for name in stage.next}
    starts = [stage.name for stage in graph if stage.name not in entered] or [graph.initial]
    open_ways: list[tuple[str, ...]] = [(name,) for name in starts]
    while open_ways:
        way = open_ways.pop()
        longer = [(*way, name) for name in graph[way[-1]].next if name not in way]
        open_ways += longer
        if not longer:
            yield way


def _sightings(annotated: AnnotatedTrace) -> dict[str, list[Sighting]]:
    """Return what was seen of each job, by its id, in the order in which the answers were there."""
    found: dict[str, list[Sighting]] = {}
    for step in sorted(annotated.steps, key=lambda step: step.done):
        elsewhere = (step.exchange.probe or "").startswith(FOREIGN_PROBES)
        told = step.kinds and (step.stage is not None or step.role not in SUBMISSIONS)
        if step.ok and step.job is not None and told and not elsewhere:
            found.setdefault(step.job, []).append(Sighting(step, step.reading.stages))
    return found


def _pairs(sightings: Sequence[Sighting]) -> Iterator[tuple[Sighting, Sighting]]:
    """Yield each sighting with those before it whose answer was there before it was asked for.

    Of those that say the same in the same way, it is the last one: what comes after it comes after them all.
    """
    last: dict[Hashable, list[Sighting]] = {}
    for then in sightings:
        for earlier in last.values():
            first = next((sighting for sighting in reversed(earlier) if sighting.before(then)), None)
            if first is not None:
                yield first, then
        last.setdefault((then.step.role, then.stages), []).append(then)


def _ended(graph: Graph, sighting: Sighting) -> bool:
    return all(graph[name].terminal for name in sighting.stages)


def _overlap(one: Sighting, other: Sighting) -> bool:
    return not one.before(other) and not other.before(one)


def _kind(first: Sighting, then: Sighting) -> Hashable:
    return first.step.role, first.stages, then.step.role, then.stages


def _moved(annotated: AnnotatedTrace, first: Sighting, then: Sighting, message: str) -> Breach:
    """Tell of a job that went where no way leads: the contract says so with its ways, and with what the words mean."""
    ways = [f"lifecycle.json#{format_pointer(('stages', name, 'next'))}" for name in sorted(first.stages)]
    seen = {"before": sorted(first.stages), "after": sorted(then.stages)}
    return Breach(message, (*ways, *_meanings(annotated, first), *_meanings(annotated, then)), seen)


def _meanings(annotated: AnnotatedTrace, sighting: Sighting) -> list[str]:
    operation = operation_of(annotated, sighting.step)
    names = [name for name in sighting.step.reading.situations if operation.situations[name].stages]
    return [f"{home_of(annotated.contract, operation, name)}/stages" for name in names]


def _out_of_order(annotated: AnnotatedTrace, job: str, sightings: Sequence[Sighting]) -> Breach:
    """Tell of overlapping answers that no order explains, by the first two that contradict each other, if two do."""
    seen = [[one.step.arrived, one.step.done, sorted(one.stages)] for one in sightings]
    for first, then in itertools.combinations(sightings, 2):
        if not fits(annotated.contract.graph, (first, then)):
            message = f"job {job}, asked for {len(sightings)} times at once: {first} and {then}; no order explains both"
            return Breach(message, _moved(annotated, first, then, "").places, seen)
    message = f"job {job}, asked for {len(sightings)} times at once: no order of the answers goes forward only"
    return Breach(message, (f"lifecycle.json#{format_pointer(('stages',))}",), seen)


def _reworded(first: Step, then: Step) -> str | None:
    """Return the name of what two answers of one operation say otherwise of an error; numbers in words do not count."""
    if first.role != then.role:
        return None
    one, other = first.reading.values, then.reading.values
    if one.get("error_code") != other.get("error_code"):
        return "error_code"
    return "error_message" if _worded(one.get("error_message")) != _worded(other.get("error_message")) else None


def _worded(text: Any) -> Any:
    return re.sub(r"\S*\d\S*", "#", text) if isinstance(text, str) else text


def _number(step: Step, name: str) -> float | None:
    value = step.reading.values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _about(annotated: AnnotatedTrace, step: Step, name: str, message: str, seen: Any) -> tuple[Hashable, Breach]:
    places = bound_at(annotated.contract, operation_of(annotated, step), name, step)
    return (step.role, step.reading.situations, name), Breach(message, places, seen)


def _untimely(sighting: Sighting, said: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the moments of an answer: the name of one, and why it cannot be."""
    times = {name: value for name, value in said.items() if isinstance(value, float)}
    for name in said:
        if name not in times:
            yield name, f"says {name} {said[name]!r}, which is no moment"
        elif abs(times[name] - sighting.step.arrived) > PLAUSIBLE:
            yield name, f"says {name} {said[name]!r}, which is more than ten years from now"
    for first, then in itertools.combinations([name for name in MOMENTS if name in times], 2):
        if times[first] > times[then] + CLOCK_ROUNDING_SECONDS:
            yield then, f"says {then} {times[then]}, which is before {first}, {times[first]}"
    if "finished_at" in times and not sighting.step.kinds & ENDS:
        yield "finished_at", f"says {sighting.step.stage!r} and finished_at {times['finished_at']}"


def _tells(*names: str) -> Any:
    def applies(contract: Contract) -> bool:
        return any(name in one.bindings for one in contract.operations.values() for name in names)

    return applies


RULES = (
    ServerRule(
        "LIF-01",
        "legal-edges",
        "MUST",
        "S2",
        "What is seen of a job later is a stage that the one before leads to; stages between two looks may be missed.",
        "Clients act on the first word of each stage: who goes back is started, told of or billed twice.",
        legal_edges,
    ),
    ServerRule(
        "LIF-02",
        "terminal-is-final",
        "MUST",
        "S2",
        "A job that was seen to have ended is seen so ever after, with the same words for its error.",
        "Nobody asks again after the end: a success that turns into a failure is a film that somebody has paid for.",
        terminal_is_final,
    ),
    ServerRule(
        "LIF-03",
        "progress",
        "SHOULD",
        "S4",
        "Progress is a fraction from 0 to 1 that does not go back; a place in the queue is a whole number from 0.",
        "What is shown to people goes beyond its end, or back.",
        progress,
        _tells("progress", "queue_position"),
    ),
    ServerRule(
        "LIF-04",
        "moments",
        "SHOULD",
        "S4",
        "A job is made, begun and ended in this order, in the documented unit, and has no end before it has ended.",
        "Milliseconds for seconds put every deadline that is reckoned from them thousands of years away.",
        moments,
        _tells(*MOMENTS),
    ),
    ServerRule(
        "LIF-05",
        "no-result-before-the-end",
        "MUST",
        "S2",
        "There is no address of a video before the job has succeeded.",
        "Clients that look for the address alone fetch half a file.",
        no_result_before_the_end,
        _tells("video_url"),
    ),
    ServerRule(
        "LIF-06",
        "linearisable",
        "MUST",
        "S2",
        "Answers that overlap in time can be put in an order in which the job goes forward only.",
        "Two workers that ask at once are told two stories, and the one who wrote last is believed.",
        linearisable,
    ),
)
