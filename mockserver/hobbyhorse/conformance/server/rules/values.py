"""Rules about the values of responses: present where an example shows them, the same wherever a job is shown.

Knows no server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from hobbyhorse.conformance.contract_client import filled
from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, VIDEO, Breach, rule
from hobbyhorse.conformance.server.expected import (
    LIFECYCLE,
    KindEvidence,
    binding_places,
    body_pointer,
    conclusive_probes,
    home_of,
    label,
    one_per_kind,
    operation_of,
    responses_of,
)
from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import MISSING, Message, Place, format_pointer
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.reading import as_json, message_of, read_callback
from hobbyhorse.contract.values import Binding, Contract, Operation, Situation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step

# A job's values that never change once they are known.
EXPIRY = "expires_at"
FIXED = ("model", "created_at", "started_at", "finished_at", "elapsed", "cost", EXPIRY)
TIMES = frozenset({"created_at", "started_at", "finished_at", "expires_at"})
# What a response shows before the end of a job may be an estimate.
FINAL = frozenset({"finished_at", "elapsed", "cost", EXPIRY})
# Seconds by which two forms of one timestamp may differ: one from rounding to whole seconds, half a second of slack.
TICK = 1.5
# Seconds by which a duration may differ from timestamps with fractions: it may be taken from another clock.
CLOCKS = 0.5
# A link may be signed anew for each response: its expiry moves with the clock, which may be rounded to a minute.
SIGNED_ANEW = 60.0
# The operations that links lead to.
ROLE_OF_LINK = {"status_url": "status", "result_url": "result", "cancel_url": "cancel"}
# The probes that follow a link; the rest of the probe's name is that of the link.
FOLLOWED = "link:"
# Seconds between two submissions after which a later creation must be visible in whole seconds.
APART = 2.0
# Values that a response need not have: other rules judge errors and what a request has given.
# Values of a callback that the submission has given.
ECHOED = frozenset({"callback_url", "client_ref", "metadata", "input"})
ELSEWHERE = CONSTANT | {"error_code", "error_message", "refusal_message", "refusal_location"}


@dataclass(frozen=True, slots=True)
class About:
    """The subject of a message: its job, whether it has ended, when the message came, and the video's link in it."""

    job: str
    ended: bool
    at: float
    link: Any = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A value of a job in one message: the message in words, the value's place there, and what documents it."""

    about: About
    name: str
    value: Any
    message: str
    places: tuple[str, ...]

    @property
    def job(self) -> str:
        """The job's id."""
        return self.about.job


@rule(
    "VAL-01",
    "documented-headers",
    level=MUST,
    severity="S3",
    says="A response has the headers that are documented for its situation, and not those of another one.",
    because="A client that cannot tell a replay from a new job counts, and bills, the job twice.",
    fix="Set the documented headers where the response of a situation is made, not in each handler.",
)
@one_per_kind
def documented_headers(trace: AnnotatedTrace) -> KindEvidence:
    """Find responses without a documented header, or with a value that the header's schema forbids."""
    for step in trace.steps:
        situation = _situation(trace, step)
        for name, _ in situation.headers if situation is not None else ():
            assert situation is not None
            yield OBSERVED
            for breach in _header_breaches(trace, step, situation, name):
                yield (step.role, situation.name, name), breach
        yield from _headers_of_others(trace, step)


def _headers_of_others(trace: AnnotatedTrace, step: Step) -> KindEvidence:
    """Find a header, in the response that a probe expects, that marks another situation of the same status."""
    operation = trace.contract.operations.get(step.role or "")
    expected = operation.situations.get(step.exchange.expected or "") if operation is not None else None
    if operation is None or expected is None or not step.ok or expected.name not in step.reading.situations:
        return
    # A submission that overlaps another one with its key may be the repetition.
    alike = [one for one in trace.submits if trace.key(one) is not None and trace.key(one) == trace.key(step)]
    if any(one is not step and one.arrived <= step.done for one in alike):
        return
    own = {name.lower() for name, _ in expected.headers}
    for other in operation.situations.values():
        for name, value in other.headers if other.status == expected.status else ():
            if name.lower() not in own and step.exchange.answer_header(name.lower()) == value:
                home = home_of(trace.contract, operation, other.name)
                message = f"{label(step)}: header {name}: {value}; documented for {other.name}, not for {expected.name}"
                yield (step.role, expected.name, name), Breach(message, (f"{home}/headers", home), value)


def _header_breaches(trace: AnnotatedTrace, step: Step, situation: Situation, name: str) -> Iterator[Breach]:
    operation, value = operation_of(trace, step), step.exchange.answer_header(name.lower())
    home = home_of(trace.contract, operation, situation.name)
    places = (f"{home}/headers", f"{home}/headers{format_pointer((name,))}", home)
    if value is None:
        yield Breach(f"{label(step)}: no header {name}; documented for {situation.name}", places)
        return
    at = f"{responses_of(operation)}/{step.status}/headers{format_pointer((name,))}/schema"
    if trace.contract.schemas.at(at) is not MISSING:
        for violation in trace.contract.schemas.text_violations(at, value):
            yield Breach(f"{label(step)}: header {name}: {violation}", (*violation.places, *places), value)


def _situation(trace: AnnotatedTrace, step: Step) -> Situation | None:
    """Return the situation of a response, if it can be only one: the expected one, or the only possible one."""
    if not step.delivered or step.role not in trace.contract.operations:
        return None
    names, expected = step.reading.situations, step.exchange.expected
    name = expected if expected in names else names[0] if len(names) == 1 else None
    return None if name is None else operation_of(trace, step).situations[name]


@rule(
    "VAL-02",
    "one-value",
    level=SHOULD,
    severity="S3",
    says="A job has the same model, times and final cost in each response, list and callback, at each of their places; "
    "its link expires at one time, or, if it is another link, a fixed time after each response.",
    because="Two workers of a client that read different operations disagree about one job.",
    fix="Read these values from the stored job in every response, instead of computing them again.",
)
@one_per_kind
def one_value(trace: AnnotatedTrace) -> KindEvidence:
    """Find two values of one job that should be equal."""
    first: dict[tuple[str, str], Shown] = {}
    for shown in _shown(trace):
        known = first.setdefault((shown.job, shown.name), shown)
        if known is shown:
            continue
        yield OBSERVED
        if not _same(known, shown):
            message = f"job {shown.job}: {shown.name} is {shown.value} in {shown.message}, but {known.value} in "
            places = (*shown.places, *known.places)
            yield (shown.name, shown.places[:1]), Breach(message + known.message, places, str(shown.value))


def _same(first: Shown, then: Shown) -> bool:
    one, other = first.value, then.value
    if first.name in TIMES and isinstance(one, int | float) and isinstance(other, int | float):
        # A link that was not signed anew has its expiry for good.
        link = first.about.link
        anew = first.name == EXPIRY and not (isinstance(link, str) and link == then.about.link)
        moved = SIGNED_ANEW + abs(then.about.at - first.about.at) if anew else TICK
        return abs(one - other) <= moved
    return bool(one == other)


def _shown(trace: AnnotatedTrace) -> Iterator[Shown]:
    """Yield the fixed values of each job, in the order of the responses, then from callbacks."""
    words = {step.stage for step in trace.steps if step.terminal and isinstance(step.stage, str)}
    for step in trace.steps:
        if not step.ok or step.role not in trace.contract.operations or _is_elsewhere(step):
            continue
        operation = operation_of(trace, step)
        own = f"{LIFECYCLE}{format_pointer(('operations', operation.role, 'bindings'))}"
        job = step.job or step.job_told
        if job is not None:
            about = About(job, step.terminal, step.done, step.video)
            yield from _values(operation.bindings.values(), message_of((), step.value), label(step), own, about)
        yield from _items(operation, step, words)
    yield from _callbacks(trace)


def _is_elsewhere(step: Step) -> bool:
    """Whether a response went to another account, or is about a job that does not exist."""
    return (step.exchange.probe or "").startswith(("auth:", "identity:foreign", "identity:unknown"))


def _items(operation: Operation, step: Step, words: Iterable[str]) -> Iterator[Shown]:
    listed = operation.items.at.get(message_of((), step.value)) if operation.items is not None else None
    if operation.items is None or not isinstance(listed, list):
        return
    at = f"{LIFECYCLE}{format_pointer(('operations', operation.role, 'items', 'bindings'))}"
    for item in listed:
        message = message_of((), item)
        found = {name: _first(operation.items.bindings.get(name), message) for name in ("job", "stage", "video_url")}
        if isinstance(found["job"], str):
            about = About(found["job"], found["stage"] in words, step.done, found["video_url"])
            yield from _values(operation.items.bindings.values(), message, label(step), at, about)


def _callbacks(trace: AnnotatedTrace) -> Iterator[Shown]:
    callbacks = trace.contract.callbacks
    if callbacks is None:
        return
    for number, delivery in enumerate(trace.deliveries, start=1):
        body = as_json(delivery.body)
        message = message_of(delivery.headers, body)
        read = read_callback(trace.contract.schemas, callbacks, message).values
        job = read.get("job")
        if body is not MISSING and isinstance(job, str):
            at = f"{LIFECYCLE}/callbacks/bindings"
            bindings = (Binding(one.name, (), one.request, one.format) for one in callbacks.bindings.values())
            about = About(job, True, delivery.sent, read.get("video_url"))
            yield from _values(bindings, message, f"callback {number}", at, about)


def _values(bindings: Iterable[Binding], message: Message, words: str, at: str, about: About) -> Iterator[Shown]:
    """Yield the fixed values of a message at each of their places."""
    for binding in bindings:
        if binding.name not in FIXED or (binding.name in FINAL and not about.ended):
            continue
        for place in binding.response:
            value = _read(binding, place, message)
            if value:
                there = f"{words}{format_pointer(place.pointer)}"
                yield Shown(about, binding.name, value, there, (f"{at}/{binding.name}",))


def _first(binding: Binding | None, message: Message) -> Any:
    return next((place.get(message) for place in binding.response), None) if binding is not None else None


def _read(binding: Binding, place: Place, message: Message) -> Any:
    """Return a value in its usual form, or None; a value in another form is a matter of other rules."""
    value = place.get(message)
    if value is MISSING or value is None:
        return None
    try:
        return FORMATS[binding.format].read(value) if binding.format is not None else value
    except ValueError:
        return None


@rule(
    "VAL-03",
    "shown-values",
    level=SHOULD,
    severity="S3",
    says="A response has each value that the example of its situation has, such as the times and the expiry of a link.",
    because="Clients are written by the examples: what these show is there, whatever a schema calls optional.",
    fix="Add the values that the example of the response has, or remove them from the example.",
)
@one_per_kind
def shown_values(trace: AnnotatedTrace) -> KindEvidence:
    """Find values that each possible example of a response has, but the response lacks."""
    for step in trace.steps:
        if step.role not in trace.contract.operations or not step.ok or not step.clean or not step.reading.situations:
            continue
        operation = operation_of(trace, step)
        situations = [operation.situations[name] for name in step.reading.situations]
        yield OBSERVED
        for binding in operation.bindings.values():
            if binding.name not in ELSEWHERE and not binding.request:
                for place in binding.response:
                    yield from _absent(trace, step, situations, (binding.name, place))
    yield from _absent_in_callbacks(trace)


def _absent(
    trace: AnnotatedTrace, step: Step, situations: Iterable[Situation], what: tuple[str, Place]
) -> KindEvidence:
    """Yield the breach if a response has no value at a place at which all its examples have one."""
    (name, place), contract, operation = what, trace.contract, operation_of(trace, step)
    if not _every_response_has(place) or place.get(message_of((), step.value)) not in (MISSING, None):
        return
    found = []
    for situation in situations:
        at = situation.example_at + body_pointer(place)
        if contract.schemas.at(at) in (MISSING, None):
            return
        found += [at, home_of(contract, operation, situation.name)]
    bindings = (("operations", operation.role, "bindings", name), ("bindings", name))
    places = (*found, *(f"{LIFECYCLE}{format_pointer(one)}" for one in bindings))
    message = f"{label(step)}: no {name} at {format_pointer(place.pointer)}, which the example has"
    yield (step.role, step.reading.situations, name), Breach(message, tuple(dict.fromkeys(places)))


def _every_response_has(place: Place) -> bool:
    """Whether a place is in a body and in no further item of a list: an example may show more items than there are."""
    return place.part == "body" and not any(name.isdecimal() and name != "0" for name in map(str, place.pointer))


def _absent_in_callbacks(trace: AnnotatedTrace) -> KindEvidence:
    """Yield the values that a callback lacks, although the examples of its situations have them."""
    callbacks, contract = trace.contract.callbacks, trace.contract
    for number, delivery in enumerate(trace.deliveries if callbacks else (), start=1):
        assert callbacks is not None
        message = message_of(delivery.headers, as_json(delivery.body))
        situations = [
            callbacks.situations[name] for name in read_callback(contract.schemas, callbacks, message).situations
        ]
        for binding in callbacks.bindings.values() if situations else ():
            if binding.name not in ELSEWHERE | ECHOED:
                yield OBSERVED
                for place in binding.request:
                    yield from _absent_in_callback(contract, situations, (binding.name, place), (number, message))


def _absent_in_callback(
    contract: Contract, situations: Iterable[Situation], what: tuple[str, Place], call: tuple[int, Message]
) -> KindEvidence:
    """Yield the breach if a callback, given by number and message, lacks a value that its examples have."""
    (name, place), (number, message) = what, call
    if not _every_response_has(place) or place.get(message) not in (MISSING, None):
        return
    at = [one.example_at + body_pointer(place) for one in situations]
    if all(contract.schemas.at(one) not in (MISSING, None) for one in at):
        homes = [f"{LIFECYCLE}/callbacks/situations/{one.name}" for one in situations]
        words = f"callback {number}: no {name} at {format_pointer(place.pointer)}, which the example has"
        yield ("callback", name), Breach(words, (*at, f"{LIFECYCLE}/callbacks/bindings/{name}", *homes))


def _dated(contract: Contract) -> bool:
    return any("created_at" in operation.bindings for operation in contract.operations.values())


@rule(
    "VAL-04",
    "created-in-order",
    level=SHOULD,
    severity="S4",
    applies=_dated,
    says="A job that is submitted later is created later.",
    because="A client that lost an id finds its job in a list by the time of its creation.",
    fix="Take the creation time from one clock at the moment at which the job is stored.",
)
@one_per_kind
def created_in_order(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the creation times of jobs with the order of their submissions."""
    created: dict[str, Shown] = {}
    for shown in _shown(trace):
        if shown.name == "created_at" and isinstance(shown.value, int | float):
            created.setdefault(shown.job, shown)
    submitted = [step for step in trace.submits if step.accepted and str(step.job_told) in created]
    # A replay shows the job of an earlier submission.
    fresh = {step.job_told: step for step in reversed(submitted)}
    for first, then in pairwise(sorted(fresh.values(), key=lambda step: step.arrived)):
        one, other = created[str(first.job_told)], created[str(then.job_told)]
        if then.arrived - first.done < APART:
            continue
        yield OBSERVED
        if other.value <= one.value:
            message = f"job {other.job} is submitted {then.arrived - first.done:.0f} s after job {one.job}, but has "
            words = f"created_at {other.value} in {other.message}; the other has {one.value} in {one.message}"
            yield other.places, Breach(message + words, (*other.places, *one.places), other.value)


def _has_links(contract: Contract) -> bool:
    return any(name in one.bindings for one in contract.operations.values() for name in ROLE_OF_LINK)


@rule(
    "VAL-05",
    "links",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_has_links,
    says="A link to the status, the result or the cancellation of a job leads there, in each stage of this job.",
    because="A client that follows the links never sees its job end, or cancels it when it asks for the result.",
    fix="Build each link from the route of its operation, and follow all of them in a test.",
)
@one_per_kind
def links(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the paths of links with the operations' paths, and find followed links that do not lead to the job."""
    jobs = {str(step.job_told) for step in trace.submits if step.accepted}
    for step in trace.steps:
        if step.role not in trace.contract.operations or not step.ok:
            continue
        for name, url in links_of(trace.contract, step).items():
            yield OBSERVED
            job = str(step.job or step.job_told)
            other = _leads_elsewhere(trace.contract, name, url, job) or _names_other_job(url, job, jobs)
            if other is not None:
                message = f"{label(step)}: {name} is {url!r}, which is the path of {other}"
                yield (
                    (step.role, name),
                    Breach(message, binding_places(trace.contract, operation_of(trace, step), name)),
                )
    yield from _followed(trace)


def links_of(contract: Contract, step: Step) -> dict[str, str]:
    """Return the links to operations in a response, by the names of their values; a path is one of the same server."""
    values = step.reading.values
    return {
        name: urljoin(step.exchange.url, url) if url.startswith("/") else url
        for name, role in ROLE_OF_LINK.items()
        if role in contract.operations and isinstance(url := values.get(name), str) and url
    }


def _leads_elsewhere(contract: Contract, name: str, url: str, job: str) -> str | None:
    """Return the operation whose path a link has, if it is another one than its own."""
    path = unquote(urlsplit(url).path)
    right, *others = (ROLE_OF_LINK[name], *(role for role in ROLE_OF_LINK.values() if role != ROLE_OF_LINK[name]))
    paths = {role: filled(contract.operations[role], {"job": job}) for role in others if role in contract.operations}
    if path.endswith(filled(contract.operations[right], {"job": job})):
        return None
    return next((role for role, other in paths.items() if path.endswith(other)), None)


def _names_other_job(url: str, job: str, jobs: Iterable[str]) -> str | None:
    """Return the other job of the suite that a link names, if it does not name its own."""
    path = unquote(urlsplit(url).path)
    other = next((one for one in sorted(jobs) if one in path), None) if job not in path else None
    return None if other is None else f"job {other}, not of {job}"


def _followed(trace: AnnotatedTrace) -> KindEvidence:
    """Find followed links that are refused, or show another thing than their operation does."""
    for step in conclusive_probes(trace, FOLLOWED):
        yield OBSERVED
        name = (step.exchange.probe or "").removeprefix(FOLLOWED)
        if not step.ok or not step.reading.situations:
            got = step.status if not step.ok else "another response"
            message = f"{label(step)}: {name} of job {step.job}, {step.exchange.url}, leads to {got}"
            holders = (one for one in trace.contract.operations.values() if name in one.bindings)
            places = (at for one in holders for at in binding_places(trace.contract, one, name))
            yield name, Breach(message, tuple(dict.fromkeys(places)), step.status)


def _example_durations(contract: Contract) -> list[bool]:
    """Return, for each example with a duration and both timestamps, whether the duration is the time between these."""
    found = []
    for operation in contract.operations.values():
        names = ("created_at", "finished_at", "elapsed")
        if set(names) <= set(operation.bindings):
            for situation in operation.situations.values():
                example = message_of((), contract.schemas.at(situation.example_at))
                made, ended, took = (_first_read(operation.bindings[name], example) for name in names)
                if isinstance(made, float) and isinstance(ended, float) and isinstance(took, float):
                    found.append(abs(ended - made - took) <= CLOCKS)
    return found


def _first_read(binding: Binding, message: Message) -> Any:
    values = (_read(binding, place, message) for place in binding.response)
    return next((value for value in values if value is not None), None)


def _has_durations(contract: Contract) -> bool:
    """Whether the examples relate a duration to two timestamps: all of them, and at least one."""
    found = _example_durations(contract)
    return bool(found) and all(found)


@rule(
    "VAL-06",
    "duration",
    level=MUST,
    severity="S3",
    applies=_has_durations,
    says="The duration of a job agrees with its timestamps, in the documented unit.",
    because="A client that sums up durations, or plans its polls by them, is wrong by a factor of a thousand.",
    fix="Compute the duration from the two stored timestamps, and convert it to the documented unit in one place.",
)
@one_per_kind
def duration(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the duration in each message with the timestamps beside it."""
    messages: dict[About, dict[str, Shown]] = {}
    started: dict[str, float] = {}
    for shown in _shown(trace):
        if isinstance(shown.value, float):
            messages.setdefault(shown.about, {}).setdefault(shown.name, shown)
            if shown.name == "started_at":
                started.setdefault(shown.job, shown.value)
    for about, values in messages.items():
        made, ended, took = (values.get(name) for name in ("created_at", "finished_at", "elapsed"))
        if made is None or ended is None or took is None:
            continue
        yield OBSERVED
        whole = made.value.is_integer() and ended.value.is_integer()
        slack = TICK if whole else CLOCKS
        # The time in the queue may be counted or not.
        least = ended.value - max(made.value, started.get(about.job, made.value))
        if not least - slack <= took.value <= ended.value - made.value + slack:
            message = f"job {about.job}: {took.message} is {took.value:g} s, but {ended.message} is "
            places = (*took.places, *ended.places, *made.places)
            words = f"{ended.value - made.value:g} s after its creation"
            yield took.places[:1], Breach(message + words, places, took.value)
