"""Rules about idempotency keys: one key, one submission, one job. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.expected import body_of, conclusive, refused_as, replaced_status
from hobbyhorse.contract.forms.expressions import MISSING, Pointer
from hobbyhorse.contract.values import Contract, Situation
from hobbyhorse.traces.annotated import TRANSIENT, AnnotatedTrace, Step, canonical
from hobbyhorse.traces.orders import credentials, order_of

MODE = "lifecycle.json#/idempotency/mode"
# Documentation gives a key's lifetime approximately: only in the first nine tenths is the key certainly valid.
CERTAIN = 0.9
# Statuses of refusals that have nothing to do with the idempotency key.
OTHER_REFUSALS = frozenset({401, 402, 403, 404})
# Situations of such refusals.
OTHER_REASONS = frozenset(
    {"unauthenticated", "key_refused", "forbidden", "insufficient_balance", "insufficient_credits"}
)
# The probes whose submissions differ in their prompts only.
ALIKE = frozenset({"job", "machine", "idempotency:first"})
KEY_USE_REFUSALS = ("key_mismatch", "key_used")
# The probe that uses a key again after a refusal, as often as this if the key is called in flight.
REFUSED_KEY, IN_FLIGHT_TRIES = "idempotency:refused", 2


def _keyed(contract: Contract) -> bool:
    return contract.idempotency.mode != "none" and contract.idempotency.key is not None


def _refuses(contract: Contract) -> bool:
    return _keyed(contract) and any(name in contract.operations["submit"].situations for name in KEY_USE_REFUSALS)


@rule(
    "IDM-01",
    "same-job",
    level=MUST,
    severity="S1",
    harm=MONEY,
    applies=_keyed,
    says="The same submission with the same key gets the same job, in a body with the same members, until the key "
    "expires, or is refused if the contract documents that.",
    because="A client that got no response submits again and pays twice: Comfy-Org/ComfyUI#16204.",
    fix="Store the key with the job's id, in one transaction with the job, and return that job for each repetition "
    "until the key expires.",
)
def same_job(trace: AnnotatedTrace) -> Evidence:
    """Compare the responses to a repeated submission with the accepted first one."""
    for first, again in _repeated(trace):
        in_flight = "key_in_flight" in again.reading.situations
        if _same_body(first, again) and not _refused_for_other_reasons(again) and not in_flight:
            yield OBSERVED
            yield from _not_same_job(trace, first, again)
    yield from _fresh_refused(trace)


def _fresh_refused(trace: AnnotatedTrace) -> Iterator[Breach]:
    """Yield the submissions that are refused although their key was never used before, if any other is accepted."""
    groups: dict[str, list[Step]] = {}
    for step in trace.submits:
        if (key := trace.key(step)) is not None and step.exchange.expected == "accepted":
            groups.setdefault(key, []).append(step)
    # Of the bodies that the suite sends, these are alike but for the prompt.
    accepted = any(step.accepted and step.exchange.probe in ALIKE for step in trace.submits)
    for steps in groups.values():
        every = [one for one in trace.submits if trace.key(one) == trace.key(steps[0])]
        refused = [one for one in every if 400 <= one.status < 500 and one.status not in TRANSIENT]
        plain = not any(_refused_for_other_reasons(one) for one in refused) and conclusive(steps[0])
        if accepted and plain and refused == every and len({canonical(one.exchange.body) for one in every}) == 1:
            message = f"request {steps[0].number} has a new key, and is refused ({steps[0].status}); "
            yield Breach(message + "submissions without this key are accepted", (MODE,), steps[0].status)


def _not_same_job(trace: AnnotatedTrace, first: Step, again: Step) -> Iterator[Breach]:
    """Yield the violation in the response to the same submission with the same key."""
    which = f"request {again.number} repeats request {first.number} with the same key"
    if trace.contract.idempotency.mode == "reject":
        if again.accepted:
            yield Breach(f"{which} and is accepted; documented: a refusal", (MODE,), again.job_told)
    elif not again.accepted:
        yield Breach(f"{which} and is refused ({again.status}); documented: the same job", (MODE,), again.status)
    elif again.job_told != first.job_told:
        yield Breach(f"{which} and gets job {again.job_told}; expected: {first.job_told}", (MODE,), again.job_told)
    elif other := members(first.value) ^ members(again.value):
        name = min(".".join(pointer) for pointer in other)
        message = f"{which}, but only one of the two responses has {name}"
        yield Breach(message, (MODE, "lifecycle.json#/operations/submit/situations/replayed"), again.value)


def members(value: Any, at: Pointer = ()) -> frozenset[Pointer]:
    """Return the places of all members of a JSON value; the items of a list count as one."""
    if isinstance(value, dict):
        inner = [members(one, (*at, name)) for name, one in value.items()]
        return frozenset({(*at, name) for name in value}).union(*inner)
    return frozenset().union(*(members(one, (*at, "0")) for one in value)) if isinstance(value, list) else frozenset()


@rule(
    "IDM-02",
    "other-body-refused",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_refuses,
    says="A different submission with a used key is refused, as documented.",
    because="A client that gets the first job for another submission shows one user's video to another: "
    "danny-avila/LibreChat#14344.",
    fix="Store a hash of the body with the key, and refuse another body as documented.",
)
def other_body_refused(trace: AnnotatedTrace) -> Evidence:
    """Check the responses to another submission with a used key."""
    situations = trace.contract.operations["submit"].situations
    name = next((name for name in KEY_USE_REFUSALS if name in situations), KEY_USE_REFUSALS[0])
    place = f"lifecycle.json#/operations/submit/situations/{name}"
    for first, again in _repeated(trace):
        if not _another_order(trace, first, again) or _refused_for_other_reasons(again):
            continue
        yield OBSERVED
        if again.accepted:
            job = "the same job" if again.job_told == first.job_told else f"another job, {again.job_told}"
            reused = f"request {again.number} reuses the key of request {first.number} with another body"
            message = f"{reused}, and gets {job}; expected: a refusal"
            yield Breach(message, (place, MODE), again.status)
        # A refusal in recorded traffic may have another reason; only the suite's own probe shows the documented one.
        elif again.exchange.expected in KEY_USE_REFUSALS:
            yield from _undocumented_refusal(trace.contract, again, situations.get(name), place)
            if again.status == getattr(situations.get(name), "status", None):
                # The same status with another code is the refusal of another mistake.
                yield from refused_as(trace, again, name)


def _undocumented_refusal(
    contract: Contract, again: Step, documented: Situation | None, place: str
) -> Iterator[Breach]:
    """Yield the violation if a refusal has another status than the documented one."""
    if documented is not None and documented.status != again.status:
        message = (
            f"request {again.number} reuses a key with another body: status {again.status}; "
            f"documented: {documented.status}"
        )
        yield Breach(message, (f"{place}/status", place), again.status, replaced_status(contract, place, again.status))


@rule(
    "IDM-03",
    "concurrent-one-job",
    level=MUST,
    severity="S1",
    harm=MONEY,
    applies=_keyed,
    says="One submission that is sent several times concurrently with one key creates one job.",
    because="A server that looks the key up before it stores the key accepts both submissions: rmyndharis/OpenWA#464 "
    "saw duplicates within a second.",
    fix="Insert the key under a unique constraint before the job is created, so that the second of two concurrent "
    "submissions waits or is refused.",
)
def concurrent_one_job(trace: AnnotatedTrace) -> Evidence:
    """Count the jobs made from one submission that was sent several times concurrently."""
    for crowd in _crowds(trace):
        jobs = {step.job_told for step in crowd if step.accepted}
        if jobs and sum(step.delivered for step in crowd) > 1:
            yield OBSERVED
        if len(jobs) > 1 and all(_alive(trace, crowd[0], step) for step in crowd):
            named = ", ".join(sorted(map(str, jobs)))
            message = (
                f"one submission, sent {len(crowd)} times concurrently with one key, created {len(jobs)} jobs; "
                f"expected: 1; got: {named}"
            )
            yield Breach(message, (MODE,), sorted(map(str, jobs)))


def _crowds(trace: AnnotatedTrace) -> Iterator[list[Step]]:
    """Yield the overlapping submissions of one body with one key."""
    for steps in _by_key(trace):
        complete = [step for step in steps if _complete_body(step)]
        for body in dict.fromkeys(canonical(step.exchange.body) for step in complete):
            same = [step for step in complete if canonical(step.exchange.body) == body]
            # Requests one after the other are IDM-01's subject; only overlapping ones race.
            yield [step for step in same if any(_overlap(step, other) for other in same if other is not step)]


def _tells_in_flight(contract: Contract) -> bool:
    return _keyed(contract) and "key_in_flight" in contract.operations["submit"].situations


@rule(
    "IDM-04",
    "in-flight-ends",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_tells_in_flight,
    says="A key is in flight only while a request with it is under way: a refusal releases it.",
    because="A user who corrects a rejected order gets a conflict until the key expires, a day later.",
    fix="Release the key in a finally block, unless its request has made a job.",
)
def in_flight_ends(trace: AnnotatedTrace) -> Evidence:
    """Find keys that are called in flight again and again, although every request with them has been answered."""
    for steps in _by_key(trace):
        alone = [step for step in steps if not any(_overlap(step, other) for other in steps if other is not step)]
        later = [step for step in alone if step is not steps[0] and step.delivered]
        stuck = [step for step in later if "key_in_flight" in step.reading.situations]
        if later:
            yield OBSERVED
        if len(stuck) >= IN_FLIGHT_TRIES:
            message = (
                f"request {stuck[-1].number} is refused as in flight ({stuck[-1].status}), although every request "
            )
            place = "lifecycle.json#/operations/submit/situations/key_in_flight"
            yield Breach(f"{message}with its key has been answered", (place,), stuck[-1].status)


def _by_key(trace: AnnotatedTrace) -> Iterator[list[Step]]:
    """Yield the submissions with one idempotency key, one URL and one account."""
    groups: dict[object, list[Step]] = {}
    for step in trace.submits:
        key = trace.key(step)
        if key:
            # Two accounts may use the same key: providers keep keys per account.
            groups.setdefault((key, step.exchange.url, credentials(trace, step)), []).append(step)
    yield from (sorted(steps, key=lambda step: step.arrived) for steps in groups.values() if len(steps) > 1)


def _repeated(trace: AnnotatedTrace) -> Iterator[tuple[Step, Step]]:
    """Yield the first accepted submission with a key, paired with each later one while the key was alive."""
    for steps in _by_key(trace):
        for first in [step for step in steps if step.accepted][:1]:
            for again in steps:
                later = again is not first and again.arrived >= first.done and _alive(trace, first, again)
                if later and again.delivered and not again.transient:
                    yield first, again


def _alive(trace: AnnotatedTrace, first: Step, again: Step) -> bool:
    # From the first arrival: the server may count from any time between the arrival and its response.
    return again.arrived - first.arrived < CERTAIN * trace.contract.idempotency.life


def _overlap(one: Step, other: Step) -> bool:
    return one.arrived < other.done and other.arrived < one.done


def _complete_body(step: Step) -> bool:
    """Whether the complete body is known; a trace may keep only its beginning."""
    return body_of(step) is not MISSING


def _same_body(one: Step, other: Step) -> bool:
    return (
        _complete_body(one) and _complete_body(other) and canonical(one.exchange.body) == canonical(other.exchange.body)
    )


def _another_order(trace: AnnotatedTrace, one: Step, other: Step) -> bool:
    """Whether two submissions order different videos, with defaults taken into account."""
    if not _complete_body(one) or not _complete_body(other) or _same_body(one, other):
        return False
    first, second = order_of(trace, one), order_of(trace, other)
    return first is not None and second is not None and first.identity != second.identity


def _refused_for_other_reasons(step: Step) -> bool:
    return step.status in OTHER_REFUSALS or (step.refused and bool(OTHER_REASONS & set(step.reading.situations)))
