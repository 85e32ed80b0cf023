"""Rules about a job's lifecycle: its stages, and the values reported with them, only move forward. Knows no server."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.expected import (
    KindEvidence,
    binding_places,
    bound_at,
    example_places,
    home_of,
    label,
    one_per_kind,
    operation_of,
)
from hobbyhorse.conformance.server.rules.outcomes import exclusive_places
from hobbyhorse.contract.forms.expressions import MISSING, format_pointer, resolve
from hobbyhorse.contract.lifecycle import Graph
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.traces.annotated import ENDS, SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import is_repeated, making

# Two timestamps may be rounded differently, to seconds or milliseconds, and then appear in the wrong order.
CLOCK_ROUNDING_SECONDS = 1.0
# Ten years, in seconds: only a timestamp in another unit, such as milliseconds, is further from now.
PLAUSIBLE = 10 * 366 * 86_400.0
# Seconds by which a time may be shifted by a time zone: zones are quarters of an hour apart, and a day at most.
LEAST_ZONE, FARTHEST_ZONE = 840.0, 27 * 3_600.0
MOMENTS = ("created_at", "started_at", "finished_at")
# A list may come from a copy of the data that follows with a delay.
LIST_DELAY_SECONDS = 2.0
# Probes that request a job without the right to see it.
FOREIGN_PROBES = ("identity:", "auth:")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A job as one response showed it, between the request and the end of the response."""

    step: Step
    stages: frozenset[str]

    def before(self, other: Sighting) -> bool:
        """Whether this response was complete before the other request was sent."""
        return self.step.done < other.step.arrived

    def __str__(self) -> str:
        return f"{label(self.step)} shows {' or '.join(sorted(self.stages))}"


def _reports(*names: str) -> Callable[[Contract], bool]:
    def applies(contract: Contract) -> bool:
        return any(name in one.bindings for one in contract.operations.values() for name in names)

    return applies


@rule(
    "LIF-01",
    "legal-edges",
    level=MUST,
    severity="S2",
    says="Each observed stage of a job is reachable from the stage observed before it; stages between two reads may "
    "be missed.",
    because="Clients act when a stage first appears: a job that moves backwards is started, reported or billed twice.",
    fix="Update the stage only along the documented transitions, with the expected old stage as a condition.",
)
@one_per_kind
def legal_edges(trace: AnnotatedTrace) -> KindEvidence:
    """Find stages that cannot follow the stage seen before them."""
    graph = trace.contract.graph
    for job, first, then in _successive(trace):
        if _ended(graph, first):  # LIF-02 judges the responses after a terminal stage
            continue
        yield OBSERVED
        ways = list(itertools.product(first.stages, then.stages))
        if any(graph.leads_to(*way) for way in ways):
            continue
        message = f"job {job}: {first}, but later {then}; the contract has no path between these stages"
        # The stages are documented in their order, even if it is assumed which of them may follow which.
        backwards = all(graph.leads_to(later, earlier) for earlier, later in ways)
        yield _kind(first, then), _moved(trace, first, then, message, edges=not backwards)


@rule(
    "LIF-02",
    "terminal-is-final",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    says="A terminal stage never changes in later responses, nor does its error code or message.",
    because="Clients stop polling at a terminal stage: a success that turns into a failure is the loss of a paid "
    "video.",
    fix="Refuse every update of a job that has ended, late worker results included.",
)
@one_per_kind
def terminal_is_final(trace: AnnotatedTrace) -> KindEvidence:
    """Find terminal stages that a later response contradicts, and errors whose code or message changes."""
    yield from _listed_otherwise(trace)
    for job, first, then in _successive(trace):
        if not _ended(trace.contract.graph, first):
            continue
        yield OBSERVED
        if not first.stages & then.stages:
            message = f"job {job}: {first}, which is terminal, but later {then}"
            yield _kind(first, then), _moved(trace, first, then, message)
        # Error codes drive retries, and messages are stored: a client must see the same ones again.
        elif name := _reworded(first.step, then.step):
            after, before = (one.reading.values.get(name) for one in (then.step, first.step))
            places = bound_at(trace.contract, operation_of(trace, then.step), name, then.step)
            message = f"job {job}: {label(first.step)} has {name} {before!r}, but {label(then.step)} has {after!r}"
            yield (then.step.role, name), Breach(message, places, after)


@rule(
    "LIF-03",
    "progress",
    level=SHOULD,
    severity="S4",
    applies=_reports("progress", "queue_position"),
    says="Progress is a fraction from 0 to 1 that never decreases; a queue position is an integer of at least 0, and "
    "only a job that waits has one.",
    because="A progress bar runs past its end, or backwards.",
    fix="Report progress as the maximum of the values so far, divided by its total, and a queue position as an "
    "integer of at least 0.",
)
@one_per_kind
def progress(trace: AnnotatedTrace) -> KindEvidence:
    """Check that progress and queue positions are in range, and that progress does not go back."""
    for job, sightings in _sightings(trace).items():
        for sighting in sightings:
            yield from _in_range(trace, job, sighting)
        for first, then in _pairs(sightings):
            yield from _falls(trace, job, first, then)


def _listed_otherwise(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the items of lists with the ends that were seen before."""
    listing = trace.contract.operations.get("list")
    words = listed_stages(trace.contract, listing) if listing is not None else {}
    ends = {job: [one for one in seen if _ended(trace.contract.graph, one)] for job, seen in _sightings(trace).items()}
    for step in trace.of("list") if words else ():
        for item in read_items(operation_of(trace, step), message_of((), step.value)) if step.ok else ():
            stages = words.get(str(item.get("stage")))
            seen = ends.get(str(item.get("job")), ())
            before = [one for one in seen if one.step.done + LIST_DELAY_SECONDS < step.arrived]
            if stages is None or not before:
                continue
            yield OBSERVED
            if not stages & before[-1].stages:
                message = f"job {item['job']}: {before[-1]}, which is terminal, but {label(step)} lists it as"
                message += f" {item['stage']!r}"
                places = ("lifecycle.json#/operations/list/items", *_meanings(trace, before[-1]))
                yield ("list", stages), Breach(message, places, item["stage"])


def listed_stages(contract: Contract, listing: Operation) -> dict[str, frozenset[str]]:
    """Return the stages that each word in the items of a list may mean."""
    if listing.items is None or "stage" not in listing.items.bindings or "listed" not in listing.situations:
        return {}
    example = contract.schemas.at(listing.situations["listed"].example_at)
    items = read_items(listing, message_of((), example))
    found: dict[str, frozenset[str]] = {}
    for stage, index in listing.items.stages.items():
        word = str(items[index].get("stage")) if index < len(items) else None
        if word is not None:
            found[word] = found.get(word, frozenset()) | {stage}
    return found


def _in_range(trace: AnnotatedTrace, job: str, sighting: Sighting) -> KindEvidence:
    """Check the progress and the queue position of one response."""
    for name in ("progress", "queue_position"):
        value = _number(sighting.step, name)
        if value is None:
            continue
        yield OBSERVED
        if value < 0 or (value > 1 if name == "progress" else value != int(value)):
            allowed = "0 to 1" if name == "progress" else "an integer of at least 0"
            message = f"job {job}: {label(sighting.step)} has {name} {value}; allowed: {allowed}"
            yield _about(trace, sighting.step, name, message, value)
    yield from _no_longer_queued(trace, job, sighting)


def _no_longer_queued(trace: AnnotatedTrace, job: str, sighting: Sighting) -> KindEvidence:
    """Check that a job which waits no longer has no queue position, if only the examples of waiting jobs have one."""
    operation, step = operation_of(trace, sighting.step), sighting.step
    if not step.kinds or "pending" in step.kinds:
        return
    for pointer in exclusive_places(trace.contract, operation, "queue_position", "pending"):
        value = resolve(step.value, pointer)
        if value is not MISSING and value is not None:
            message = f"job {job}: {sighting}, but has queue_position {value}"
            yield (
                (step.role, "queued"),
                Breach(message, binding_places(trace.contract, operation, "queue_position"), value),
            )


def _falls(trace: AnnotatedTrace, job: str, first: Sighting, then: Sighting) -> KindEvidence:
    """Check that progress does not go back between two responses of one operation."""
    before, value = _number(first.step, "progress"), _number(then.step, "progress")
    # Two operations may count progress differently.
    if first.step.role != then.step.role or before is None or value is None:
        return
    # A failed job may drop to 0: nothing of it was made.
    if value < before and not then.step.failure:
        message = f"job {job}: {label(first.step)} has progress {before}, but later {label(then.step)} has {value}"
        yield _about(trace, then.step, "progress", message, value)


@rule(
    "LIF-04",
    "moments",
    level=SHOULD,
    severity="S4",
    applies=_reports(*MOMENTS),
    says="A job's creation, start and finish times are in this order, in the documented unit and in UTC; a running job "
    "has no finish time.",
    because="Milliseconds read as seconds put every computed deadline thousands of years away.",
    fix="Store moments in one unit and convert them once, on output; set the finish time only when the job ends.",
)
@one_per_kind
def moments(trace: AnnotatedTrace) -> KindEvidence:
    """Compare a job's timestamps with one another and with the clock."""
    for job, sighting in _each_sighting(trace):
        bindings = operation_of(trace, sighting.step).bindings
        # Without a documented format the value cannot be read as a timestamp.
        dated = [name for name in MOMENTS if name in bindings and bindings[name].format is not None]
        dates = {name: value for name in dated if (value := sighting.step.reading.values.get(name))}
        if dates:
            yield OBSERVED
        for name, reason in _untimely(sighting, dates):
            message = f"job {job}: {label(sighting.step)} {reason}"
            yield _about(trace, sighting.step, name, message, dates[name])
        for name, reason in _in_another_zone(trace, job, dates):
            yield (name, "zone"), Breach(f"job {job}: {label(sighting.step)} {reason}", (), dates[name])
        for name, reason in _disordered(dates):
            message = f"job {job}: {label(sighting.step)} {reason}"
            places = example_places(trace.contract, operation_of(trace, sighting.step), name, sighting.step)
            yield (sighting.step.role, name, "order"), Breach(message, places, dates[name])


@rule(
    "LIF-05",
    "no-result-before-the-end",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_reports("video_url"),
    says="A job has no video URL before it has succeeded.",
    because="Clients that check only for the URL fetch half a file.",
    fix="Publish the video's URL in the same update that sets the success, after the upload is complete.",
)
@one_per_kind
def no_result_before_the_end(trace: AnnotatedTrace) -> KindEvidence:
    """Find video URLs in responses about a job that has not ended."""
    for job, sighting in _each_sighting(trace):
        # A response that may mean an end may have the URL; and only a bound one is recognised.
        if sighting.step.kinds & ENDS or "video_url" not in operation_of(trace, sighting.step).bindings:
            continue
        yield OBSERVED
        if sighting.step.video is not None:
            message = f"job {job}: {sighting}, but already has a video URL"
            yield _about(trace, sighting.step, "video_url", message, sighting.step.video)


@rule(
    "LIF-06",
    "linearisable",
    level=MUST,
    severity="S2",
    says="Responses that overlap in time can be ordered so that the job only moves forward.",
    because="Two workers that poll concurrently see two states, and the worker that stores its state last wins.",
    fix="Read and write the stage in one place, and send no response from a replica that may be older than an earlier "
    "response.",
)
def linearisable(trace: AnnotatedTrace) -> Evidence:
    """Find overlapping responses that no order can explain as a job that moves forward."""
    for job, sightings in _sightings(trace).items():
        concurrent = [one for one in sightings if any(_overlap(one, other) for other in sightings if other is not one)]
        if concurrent:
            yield OBSERVED
        if not fits(trace.contract.graph, concurrent):
            yield _out_of_order(trace, job, concurrent)


def fits(graph: Graph, sightings: Iterable[Sighting]) -> bool:
    """Whether one path through the stages shows every sighting at some time during its request.

    On each path, every sighting is placed as early as the sightings that ended before it began allow. The earliest
    places leave the most room for the rest: if they do not fit, no other placement does.
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
    """Yield every maximal path through the stages."""
    entered = {name for stage in graph for name in stage.next}
    # If every stage is entered from another one, the first stage of the contract is the only start.
    starts = [stage.name for stage in graph if stage.name not in entered] or [graph.initial]
    open_ways: list[tuple[str, ...]] = [(name,) for name in starts]
    while open_ways:
        way = open_ways.pop()
        # A cycle would make the paths endless; entering each stage once is enough.
        longer = [(*way, name) for name in graph[way[-1]].next if name not in way]
        open_ways += longer
        if not longer:
            yield way


def _sightings(trace: AnnotatedTrace) -> dict[str, list[Sighting]]:
    """Return the sightings of each job, by id, in the order of their responses."""
    found: dict[str, list[Sighting]] = {}
    for step in sorted(trace.steps, key=lambda step: step.done):
        # Only a response that names a stage is a sighting: an acceptance without a stage makes no claim about one, and
        # that of a repeated submission shows the stage of the first one.
        elsewhere = (step.exchange.probe or "").startswith(FOREIGN_PROBES)
        shows_stage = step.kinds and (step.stage is not None or step.role not in SUBMISSIONS)
        if step.ok and step.job is not None and shows_stage and not elsewhere and not is_repeated(trace, step):
            found.setdefault(step.job, []).append(Sighting(step, step.reading.stages))
    return found


def _each_sighting(trace: AnnotatedTrace) -> Iterator[tuple[str, Sighting]]:
    for job, sightings in _sightings(trace).items():
        yield from ((job, sighting) for sighting in sightings)


def _successive(trace: AnnotatedTrace) -> Iterator[tuple[str, Sighting, Sighting]]:
    """Yield each job with two of its sightings, one complete before the request of the other."""
    for job, sightings in _sightings(trace).items():
        yield from ((job, first, then) for first, then in _pairs(sightings))


def _pairs(sightings: Sequence[Sighting]) -> Iterator[tuple[Sighting, Sighting]]:
    """Yield each sighting with the earlier ones that were complete before its request.

    Of equal sightings only the latest is paired: it implies the same about everything that follows it.
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


def _moved(trace: AnnotatedTrace, first: Sighting, then: Sighting, message: str, *, edges: bool = True) -> Breach:
    """Return the breach for an illegal move; the `edges` of the stages define it, and the responses' situations."""
    ways = [f"lifecycle.json#{format_pointer(('stages', name, 'next'))}" for name in sorted(first.stages) if edges]
    seen = {"before": sorted(first.stages), "after": sorted(then.stages)}
    return Breach(message, (*ways, *_meanings(trace, first), *_meanings(trace, then)), seen)


def _meanings(trace: AnnotatedTrace, sighting: Sighting) -> list[str]:
    operation = operation_of(trace, sighting.step)
    names = [name for name in sighting.step.reading.situations if operation.situations[name].stages]
    return [f"{home_of(trace.contract, operation, name)}/stages" for name in names]


def _out_of_order(trace: AnnotatedTrace, job: str, sightings: Sequence[Sighting]) -> Breach:
    """Return the breach for overlapping responses; it names the first two that contradict each other, if any do."""
    seen = [[one.step.arrived, one.step.done, sorted(one.stages)] for one in sightings]
    read = f"job {job}, read {len(sightings)} times concurrently"
    for first, then in itertools.combinations(sightings, 2):
        if not fits(trace.contract.graph, (first, then)):
            message = f"{read}: {first} and {then}; no ordering of the two is consistent with the stage graph"
            return Breach(message, _moved(trace, first, then, "").places, seen)
    message = f"{read}: no ordering of these responses is consistent with the stage graph"
    return Breach(message, (f"lifecycle.json#{format_pointer(('stages',))}",), seen)


def _reworded(first: Step, then: Step) -> str | None:
    """Return the name of the error value in which two responses of one operation differ, numbers aside."""
    if first.role != then.role:
        return None
    one, other = first.reading.values, then.reading.values
    if one.get("error_code") != other.get("error_code"):
        return "error_code"
    return (
        "error_message"
        if _without_numbers(one.get("error_message")) != _without_numbers(other.get("error_message"))
        else None
    )


def _without_numbers(text: Any) -> Any:
    # An error message may contain a request id or a duration that is new in each response.
    return re.sub(r"\S*\d\S*", "#", text) if isinstance(text, str) else text


def _number(step: Step, name: str) -> float | None:
    value = step.reading.values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _about(trace: AnnotatedTrace, step: Step, name: str, message: str, seen: Any) -> tuple[Hashable, Breach]:
    places = bound_at(trace.contract, operation_of(trace, step), name, step)
    return (step.role, step.reading.situations, name), Breach(message, places, seen)


def _in_another_zone(trace: AnnotatedTrace, job: str | None, dates: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the creation of one of the suite's own jobs if it is hours away from the submission, and the reason.

    The endpoint's clock may be wrong, but then its Date header is wrong, too.
    """
    made, created = making(trace, job), dates.get("created_at")
    if made is None or made.exchange.probe is None or not isinstance(created, float):
        return
    told = made.exchange.answer_header("date")
    try:
        clock = made.done if told is None else parsedate_to_datetime(told).timestamp()
    except (TypeError, ValueError):
        return
    apart = min(abs(created - clock), abs(created - made.done))
    if LEAST_ZONE < apart < FARTHEST_ZONE:
        yield "created_at", f"has created_at {created:.0f}, {apart / 3600:.1f} hours away from the submission"


def _disordered(dates: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each timestamp that precedes an earlier moment, and the reason.

    The order is wrong in any format, so an assumed format does not excuse it.
    """
    times = {name: value for name, value in dates.items() if isinstance(value, float)}
    for first, then in itertools.combinations([name for name in MOMENTS if name in times], 2):
        if times[first] > times[then] + CLOCK_ROUNDING_SECONDS:
            yield then, f"has {then} {times[then]}, which is before {first} {times[first]}"


def _untimely(sighting: Sighting, dates: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each implausible timestamp of a response, and the reason."""
    times = {name: value for name, value in dates.items() if isinstance(value, float)}
    for name in dates:
        if name not in times:
            yield name, f"has {name} {dates[name]!r}, which is not a valid timestamp"
        elif abs(times[name] - sighting.step.arrived) > PLAUSIBLE:
            yield name, f"has {name} {dates[name]!r}, which is more than ten years from now"
    if "finished_at" in times and not sighting.step.kinds & ENDS:
        yield "finished_at", f"has finished_at {times['finished_at']} although the stage is {sighting.step.stage!r}"
