"""Rules about fidelity: the order arrives as the caller gave it, in every attempt, once for each run. Knows no server.

A submission is compared in its documented form, so that every form that the provider accepts counts. Members that the
client adds, such as a callback or a default, are allowed. A later attempt is compared with the one before it only: a
member that the first attempt already changed is one bug, and needs one finding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from hobbyhorse.conformance.client.grouping import undisturbed
from hobbyhorse.conformance.client.rules.requests import DocumentedSubmission, sent_by
from hobbyhorse.conformance.rule import MUST, OBSERVED, OUTCOME, VIDEO, WIRE, Breach, Evidence, rule
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.request import ValidRequest, read_order
from hobbyhorse.contract.values import Operation
from hobbyhorse.traces.annotated import GAVE_UP, SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.trace import Run

# Characters of a value that a finding shows: enough to recognise the value, and a bound for a prompt of thousands.
SHOWN_CHARACTERS = 60
# A number or a text from here on is no common default of a client, so it tells where it comes from.
TELLING_NUMBER, TELLING_CHARACTERS = 10_000, 20
# The longest ending that may mark a shortened text, such as three full stops.
MOST_ELLIPSIS = 3


@dataclass(frozen=True, slots=True)
class Drift:
    """A member with another value than the given one, at a place in the documented form. MISSING: it is not sent."""

    place: Pointer
    given: Any
    sent: Any

    def __str__(self) -> str:
        """Return the difference in words."""
        sent = "nothing" if self.sent is MISSING else _shown(self.sent)
        return f"{'.'.join(self.place)}: {sent}; given: {_shown(self.given)}"


@rule(
    "ORD-01",
    "falsy-values",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="A parameter whose value is 0, false or empty arrives as it was given.",
    because="`if seed:` also drops 0, so that a repeatable order becomes a random one; a dropped `false` becomes the "
    "provider's default `true`: huggingface/diffusers#10964, Marak/faker.js#920.",
    fix="Test parameters with `is not None` instead of their truth, so that 0, false and empty values are sent.",
    example="new",
)
def falsy_values(trace: AnnotatedTrace) -> Evidence:
    for step, sent, given in _first_attempts(trace):
        if any(map(_is_falsy, _leaves(given))):
            yield OBSERVED
        for drift in drifts(given, sent.message.body):
            if _is_falsy(drift.given):
                yield Breach(f"request {step.number} sends {drift}")


@rule(
    "ORD-02",
    "text-unchanged",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="The text of a prompt arrives unchanged: quotes, line breaks, white space, non-ASCII characters.",
    because="A prompt was put into a JSON template as it was, so that a quotation mark broke the body: "
    "promptfoo/promptfoo#4739, PipedreamHQ/pipedream#2922, langgenius/dify#6135.",
    fix="Build the body as an object and serialize it with a JSON library; do not insert the prompt into a template, "
    "strip it, or re-encode it.",
    example="submit",
)
def text_unchanged(trace: AnnotatedTrace) -> Evidence:
    for step, sent, given in _first_attempts(trace):
        if any(isinstance(resolve(given, place), str) for place in _prompts(sent)):
            yield OBSERVED
        for drift in drifts(given, sent.message.body):
            if _is_text(sent, drift) and not _is_shortened(drift):
                yield Breach(f"request {step.number} sends {drift}")


@rule(
    "ORD-03",
    "members-unchanged",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="Every given member arrives with its value and its JSON type, also a nested one; 5 and 5.0 are equal.",
    because="Parameters that a client does not know, or replaces by its own defaults, are lost without a word: "
    "fal-ai/fal-js#130, Wei-Shaw/sub2api#4382.",
    fix="Pass the caller's members through unchanged, including members that the client does not know, and set "
    "defaults only for members that are absent.",
    example="new",
)
def members_unchanged(trace: AnnotatedTrace) -> Evidence:
    for step, sent, given in _first_attempts(trace):
        yield OBSERVED
        for drift in drifts(given, sent.message.body):
            if not _is_falsy(drift.given) and not _is_text(sent, drift) and not _names_model(trace, sent, drift):
                yield Breach(f"request {step.number} sends {drift}")
        asked = trace.trace.model
        if asked is not None and sent.model is not trace.contract.model(asked):
            yield Breach(f"request {step.number} submits to the model {sent.model.id!r}; given: {asked!r}")


@rule(
    "ORD-04",
    "same-order-again",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="Every attempt to submit an order sends the same order: no retry drops, adds or changes a parameter.",
    because="The retry rebuilt the request and lost its parameters, so that the video was not the ordered one: "
    "seandong/lark-ruby-sdk#21, mattn/go-mastodon#219.",
    fix="Build the body once, before the first attempt, and send this same object with every attempt.",
    example="submit",
)
def same_order_again(trace: AnnotatedTrace) -> Evidence:
    if not _in_sequence(trace):
        return
    for order in trace.orders if trace.runs else ():
        for step, again in pairwise(order):
            first, found = _sent(trace, step), _sent(trace, again)
            # Another refusal may have criticised the order, and the client may have corrected it.
            if first is None or found is None or not step.transient or step.accepted:
                continue
            yield OBSERVED
            for drift in _changes(trace, first, found):
                yield Breach(f"request {again.number} sends {drift} in request {step.number}")
            if found.model is not first.model:
                before = f"given: {first.model.id!r} in request {step.number}"
                yield Breach(f"request {again.number} submits to the model {found.model.id!r}; {before}")


@rule(
    "ORD-05",
    "valid-order-sent",
    level=MUST,
    severity="S2",
    channel=OUTCOME,
    says="An order that the documentation allows is submitted, whatever its text is and whichever parameters it has.",
    because="The client failed before it sent anything, on characters that its encoding lacks: Azure/azure-cli#30366, "
    "sigma67/ytmusicapi#5.",
    fix="Serialize the body as UTF-8 JSON, and leave the validation of parameters to the provider, or derive it from "
    "the documented schema.",
    example="submit",
)
def valid_order_sent(trace: AnnotatedTrace) -> Evidence:
    # Only the first run: a later one may fail because of an earlier one.
    run = next(iter(trace.runs), None)
    if run is None or run.outcome is None or not _in_sequence(trace) or not _is_valid(trace, run):
        return
    steps = [step for step in trace.steps if step.arrived <= run.outcome.ended]
    # A client may stop to wait for the response, which then is in no trace, while the provider has the job.
    submitted = any(step.role in SUBMISSIONS for step in steps) or bool(trace.trace.jobs)
    if not submitted and not all(undisturbed(trace, step) for step in steps):
        return
    yield OBSERVED
    if run.outcome.kind in GAVE_UP and not submitted:
        why = run.outcome.message[:SHOWN_CHARACTERS]
        yield Breach(f"the run ended as {run.outcome.kind!r} without submitting its order: {why}")


@rule(
    "ORD-06",
    "one-job-for-each-order",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Each order makes a job of its own, even if it equals an earlier one: the user submitted twice.",
    because="A key or a cache entry that is derived from the order alone returns the first job or video again: "
    "KanishJebaMathewM/Truxify#11434, vercel/ai#18384.",
    fix="Generate the idempotency key at random for each call, and do not cache jobs or videos by the content of the "
    "order.",
    example="new",
)
def one_job_for_each_order(trace: AnnotatedTrace) -> Evidence:
    begun = [number for number, run in enumerate(trace.runs) if not run.resumed]
    if len(begun) < 2 or not _in_sequence(trace):
        return
    owners: dict[str, int] = {}
    for number in begun:
        outcome = trace.runs[number].outcome
        submits = [step for step in trace.submits if trace.run_of(step) == number]
        yield OBSERVED
        if not submits and outcome is not None and outcome.kind == "success":
            yield Breach(f"run {number + 1} reported a success without submitting its order")
        for step in submits:
            job = step.job_told if step.accepted and step.exchange.move is None else None
            if job is not None and owners.setdefault(job, number) != number:
                first = f"the job of run {owners[job] + 1}"
                yield Breach(f"run {number + 1} got {first} ({job}, request {step.number}) instead of its own")


@rule(
    "ORD-07",
    "no-member-of-an-earlier-order",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="An order has no seed, note or other value that its caller gave with an earlier order only.",
    because="Parameters were merged into an object that all orders share, so that later orders got them too: "
    "con2/kompassi#971.",
    fix="Build the body of each order anew: copy a template of defaults deeply before setting its members.",
    example="new",
)
def no_member_of_an_earlier_order(trace: AnnotatedTrace) -> Evidence:
    if not _in_sequence(trace):
        return
    first: list[tuple[Any, Any]] = []
    for step, sent, given in _first_attempts(trace):
        # What the client itself sent when it was given the same order before.
        own = next((body for order, body in first if is_equal(order, given)), None)
        # Not the run whose order it carries: that may be the earlier one.
        begun = [run for run in trace.runs if run.started <= step.arrived]
        for at, run in enumerate(begun[:-1]):
            body = None if run.request is None else _documented(trace, sent, run.request)
            for place, value in _placed(body):
                is_known = _is_telling(value) or (own is not None and not is_equal(resolve(own, place), value))
                if not is_known or resolve(given, place) is not MISSING:
                    continue
                yield OBSERVED
                if is_equal(resolve(sent.message.body, place), value):
                    member = f"{'.'.join(place)}: {_shown(value)}"
                    yield Breach(f"request {step.number} sends {member}; it was given with run {at + 1} only")
        first.append((given, sent.message.body))


def _placed(value: Any, place: Pointer = ()) -> Iterator[tuple[Pointer, Any]]:
    """Yield the values that have no members, each with its place."""
    items: Any = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, Mapping) else ()
    for name, member in items:
        yield from _placed(member, (*place, str(name)))
    if not isinstance(value, Mapping | list):
        yield place, value


def _is_telling(value: Any) -> bool:
    """Whether a client would hardly have a value as a default of its own."""
    if isinstance(value, int | float):
        return not isinstance(value, bool) and abs(value) >= TELLING_NUMBER
    return isinstance(value, str) and len(value) >= TELLING_CHARACTERS


def drifts(given: Any, sent: Any, place: Pointer = ()) -> Iterator[Drift]:
    """Yield each given member that was not sent as given. Additional members of objects are allowed."""
    if isinstance(given, Mapping) and isinstance(sent, Mapping):
        for name, value in given.items():
            found = sent.get(name, MISSING)
            # To every provider, null and an absent member mean the same.
            if value is not None or found is not MISSING:
                yield from drifts(value, found, (*place, name))
    elif isinstance(given, list) and isinstance(sent, list) and len(given) == len(sent) and given:
        for index, (one, other) in enumerate(zip(given, sent, strict=True)):
            yield from drifts(one, other, (*place, str(index)))
    elif not is_equal(given, sent):
        yield Drift(place, given, sent)


def is_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON: 5 and 5.0 are, true and 1 are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values that have no members."""
    members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    if not members:
        yield value
    for member in members:
        yield from _leaves(member)


def _is_falsy(value: Any) -> bool:
    return value is not None and not value


def _prompts(sent: DocumentedSubmission) -> Iterator[Pointer]:
    """Yield the places of the prompt in the documented form."""
    for place in sent.model.parameters.get("prompt", ()):
        yield (*sent.operation.model_parameters.pointer, *place)


def _is_text(sent: DocumentedSubmission, drift: Drift) -> bool:
    return isinstance(drift.given, str) and bool(drift.given) and drift.place in tuple(_prompts(sent))


def _is_shortened(drift: Drift) -> bool:
    """Whether a prompt is missing or cut off, which is the subject of another rule."""
    if not isinstance(drift.sent, str):
        return drift.sent is MISSING
    kept = drift.sent[: max(len(drift.sent) - MOST_ELLIPSIS, 0)]
    return len(drift.sent) < len(drift.given) and bool(drift.given.startswith(kept))


def _names_model(trace: AnnotatedTrace, sent: DocumentedSubmission, drift: Drift) -> bool:
    """Whether a drift is another name of the same model."""
    places = [place.pointer for place in sent.operation.bindings["model"].request if place.part == "body"]
    return drift.place in places and trace.contract.model(str(drift.given)) is sent.model


def _first_attempts(trace: AnnotatedTrace) -> Iterator[tuple[Step, DocumentedSubmission, Any]]:
    """Yield the first readable attempt to submit each order, with the body that its run was given."""
    for order in trace.orders if trace.runs else ():
        for step in order:
            sent = _sent(trace, step)
            wanted = [] if sent is None else list(_given(trace, step, sent))
            if sent is not None and wanted:
                # Runs that overlap may all have sent it: the most similar order is compared.
                yield step, sent, min(wanted, key=lambda given: len(list(drifts(given, sent.message.body))))
                break


def _sent(trace: AnnotatedTrace, step: Step) -> DocumentedSubmission | None:
    return sent_by(trace, step) if trace.origin(step) in trace.homes else None


def _given(trace: AnnotatedTrace, step: Step, sent: DocumentedSubmission) -> Iterator[Any]:
    """Yield the documented body of each run that may have sent a submission, without invalid orders."""
    for run in trace.runs:
        ended = run.outcome.ended if run.outcome is not None else None
        if run.request is None or run.started > step.arrived or (ended is not None and ended < step.arrived):
            continue
        body = _documented(trace, sent, run.request)
        if body is None:
            continue
        for place in _callbacks(sent.operation):
            body = body if resolve(body, place) is MISSING else replaced(body, place, MISSING)
        yield body


def _documented(trace: AnnotatedTrace, sent: DocumentedSubmission, request: Mapping[str, Any]) -> Any:
    """Return a run's order in the documented form, or None if it is not valid."""
    wrapped = replaced({}, sent.operation.model_parameters.pointer, dict(request))
    for body in (dict(request), wrapped):  # the caller may have given the parameters alone, which the client wraps
        found = read_order(trace.contract, sent.operation, replace(sent.message, body=body))
        if isinstance(found, ValidRequest):
            # A provider that truncates prompts does so after they arrived.
            place = next(iter(_prompts(sent)), None)
            text = MISSING if place is None else resolve(body, place)
            return found.message.body if place is None or text is MISSING else replaced(found.message.body, place, text)
    return None


def _is_valid(trace: AnnotatedTrace, run: Run) -> bool:
    """Whether a run was given a valid order for the model of the trace, wrapped or not."""
    operation, model = trace.contract.operations["submit"], trace.trace.model
    if run.request is None or model is None:
        return False
    wrapped = replaced({}, operation.model_parameters.pointer, dict(run.request))
    tried = (try_order(trace.contract, operation, model, body) for body in (dict(run.request), wrapped))
    return any(isinstance(found, ValidRequest) for found in tried)


def _callbacks(operation: Operation) -> Iterator[Pointer]:
    """Yield the places of the callback's URL, which a client may set itself."""
    binding = operation.bindings.get("callback_url")
    for place in binding.request if binding is not None else ():
        if place.part == "body":
            yield place.pointer


def _changes(trace: AnnotatedTrace, first: DocumentedSubmission, again: DocumentedSubmission) -> Iterator[Drift]:
    """Yield the members that a later attempt has otherwise, apart from the prompt and the client's own ones."""
    one, other = first.message.body, again.message.body
    added = (Drift(drift.place, MISSING, drift.given) for drift in drifts(other, one) if drift.sent is MISSING)
    own = tuple(_own_places(trace, first.operation))
    for drift in (*drifts(one, other), *added):
        if not _is_text(first, drift) and not any(
            drift.place[: len(place)] == place[: len(drift.place)] for place in own
        ):
            yield drift


def _own_places(trace: AnnotatedTrace, operation: Operation) -> Iterator[Pointer]:
    """Yield the places that a client may fill in for itself: the callback, and notes that the caller did not give."""
    yield from _callbacks(operation)
    parameters = operation.model_parameters.pointer
    for binding in operation.bindings.values():
        for place in binding.request:
            given = any(run.request and resolve(run.request, place.pointer) is not MISSING for run in trace.runs)
            inside = place.pointer[: len(parameters)] == parameters or place.pointer == parameters[: len(place.pointer)]
            if place.part == "body" and not given and not inside:
                yield place.pointer


def _in_sequence(trace: AnnotatedTrace) -> bool:
    """Whether each run began after the end of the previous one, so that every request belongs to one known run."""
    ends = [run.outcome.ended if run.outcome is not None else math.inf for run in trace.runs]
    return all(end <= later.started for end, (_, later) in zip(ends, pairwise(trace.runs), strict=False))
