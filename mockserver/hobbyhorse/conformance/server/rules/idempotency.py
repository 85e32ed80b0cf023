"""Rules about idempotency keys: one key is one order, and one order is one job. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator

from hobbyhorse.conformance.server.expected import body_of, replaced_status
from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, canonical
from hobbyhorse.traces.orders import credentials, order_of

MODE = "lifecycle.json#/idempotency/mode"
CERTAIN = 0.9
"""The part of a key's life in which it is certainly alive: documents say "about"."""
OTHERWISE = frozenset({401, 402, 403, 404})
REASONS = frozenset({"unauthenticated", "key_refused", "forbidden", "insufficient_balance", "insufficient_credits"})
"""Refusals for reasons that have nothing to do with the key, by status and by situation."""
KEY_USE_REFUSALS = ("key_mismatch", "key_used")


def same_job(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold what an order got that was sent again with its key, after it had been accepted."""
    found: list[Breach] = []
    seen = False
    for first, again in _repeated(annotated):
        if not _same_body(first, again) or _otherwise(again) or "key_in_flight" in again.reading.situations:
            continue
        seen = True
        found += _kept_apart(annotated, first, again)
    return found if seen else None


def _kept_apart(annotated: AnnotatedTrace, first: Step, again: Step) -> list[Breach]:
    """Return what is wrong with the answer to the same order with the same key."""
    which = f"request {again.number} repeats the order {first.number} with its key"
    if annotated.contract.idempotency.mode == "reject":
        if not again.accepted:
            return []
        return [Breach(f"{which} and is accepted; a key that was used is refused", (MODE,), again.job_told)]
    if not again.accepted:
        return [Breach(f"{which} and is refused ({again.status}); the same job is the answer", (MODE,), again.status)]
    if again.job_told != first.job_told:
        told = f"gets the job {again.job_told}, not {first.job_told}"
        return [Breach(f"{which} and {told}", (MODE,), again.job_told)]
    return []


def other_body_refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold what another order got that was sent with a key that had been used."""
    found: list[Breach] = []
    seen = False
    for first, again in _repeated(annotated):
        if not _another_order(annotated, first, again) or _otherwise(again):
            continue
        seen = True
        name = next(
            (name for name in KEY_USE_REFUSALS if name in annotated.contract.operations["submit"].situations),
            KEY_USE_REFUSALS[0],
        )
        place = f"lifecycle.json#/operations/submit/situations/{name}"
        if again.accepted:
            job = "the first one's job" if again.job_told == first.job_told else f"another job, {again.job_told}"
            message = f"request {again.number} has the key of {first.number} and another body, and gets {job}"
            found.append(Breach(message, (place, MODE), again.status))
        elif again.exchange.expected in KEY_USE_REFUSALS:
            found += _refused_otherwise(annotated, again, name, place)
    return found if seen else None


def _refused_otherwise(annotated: AnnotatedTrace, again: Step, name: str, place: str) -> list[Breach]:
    """Return what is wrong with a refusal that was asked for."""
    documented = annotated.contract.operations["submit"].situations.get(name)
    if documented is None or documented.status == again.status:
        return []
    message = f"request {again.number} has a used key and another body: {again.status}, not {documented.status}"
    return [Breach(message, (f"{place}/status", place), again.status, replaced_status(place, again.status))]


def concurrent_one_job(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Count the jobs that were made of one order that was sent several times at once."""
    found: list[Breach] = []
    seen = False
    for steps in _by_key(annotated):
        for body in dict.fromkeys(canonical(step.exchange.body) for step in steps if _whole(step)):
            same = [step for step in steps if _whole(step) and canonical(step.exchange.body) == body]
            crowd = [step for step in same if any(_overlap(step, other) for other in same if other is not step)]
            jobs = {step.job_told for step in crowd if step.accepted}
            seen = seen or (bool(jobs) and sum(step.delivered for step in crowd) > 1)
            if len(jobs) > 1 and all(_alive(annotated, crowd[0], step) for step in crowd):
                told = ", ".join(sorted(map(str, jobs)))
                message = f"one order, sent {len(crowd)} times at once with one key, became {len(jobs)} jobs: {told}"
                found.append(Breach(message, (MODE,), sorted(map(str, jobs))))
    return found if seen else None


def _by_key(annotated: AnnotatedTrace) -> Iterator[list[Step]]:
    """Yield the submissions with one key to one address, of one customer."""
    groups: dict[object, list[Step]] = {}
    for step in annotated.submits:
        key = annotated.key(step)
        if key:
            groups.setdefault((key, step.exchange.url, credentials(annotated, step)), []).append(step)
    yield from (sorted(steps, key=lambda step: step.arrived) for steps in groups.values() if len(steps) > 1)


def _repeated(annotated: AnnotatedTrace) -> Iterator[tuple[Step, Step]]:
    """Yield the first accepted submission with a key and each that came after its answer, while the key was alive."""
    for steps in _by_key(annotated):
        for first in [step for step in steps if step.accepted][:1]:
            for again in steps:
                later = again is not first and again.arrived >= first.done and _alive(annotated, first, again)
                if later and again.delivered and not again.transient:
                    yield first, again


def _alive(annotated: AnnotatedTrace, first: Step, again: Step) -> bool:
    return again.arrived - first.arrived < CERTAIN * annotated.contract.idempotency.life


def _overlap(one: Step, other: Step) -> bool:
    return one.arrived < other.done and other.arrived < one.done


def _whole(step: Step) -> bool:
    """Whether all of a body is known; what is kept of it may be its beginning only."""
    return body_of(step) is not MISSING


def _same_body(one: Step, other: Step) -> bool:
    return _whole(one) and _whole(other) and canonical(one.exchange.body) == canonical(other.exchange.body)


def _another_order(annotated: AnnotatedTrace, one: Step, other: Step) -> bool:
    """Whether two submissions ask for two things, their defaults taken into account."""
    if not _whole(one) or not _whole(other) or _same_body(one, other):
        return False
    asked, wanted = order_of(annotated, one), order_of(annotated, other)
    return asked is not None and wanted is not None and asked.identity != wanted.identity


def _otherwise(step: Step) -> bool:
    return step.status in OTHERWISE or (step.refused and bool(REASONS & set(step.reading.situations)))


def _keyed(contract: Contract) -> bool:
    return contract.idempotency.mode != "none" and contract.idempotency.key is not None


def _refuses(contract: Contract) -> bool:
    return _keyed(contract) and any(name in contract.operations["submit"].situations for name in KEY_USE_REFUSALS)


RULES = (
    ServerRule(
        "IDM-01",
        "same-job",
        "MUST",
        "S1",
        "The same order with the same key gets the same job, as long as the key lives; or, where the contract says so, "
        "it is refused.",
        "A client that heard no answer sends its order again and pays twice: Comfy-Org/ComfyUI#16204.",
        same_job,
        _keyed,
    ),
    ServerRule(
        "IDM-02",
        "other-body-refused",
        "MUST",
        "S2",
        "Another order with a key that was used is refused, as documented.",
        "Who gets the first one's job for another order takes somebody else's video for his own: "
        "danny-avila/LibreChat#14344.",
        other_body_refused,
        _refuses,
    ),
    ServerRule(
        "IDM-03",
        "concurrent-one-job",
        "MUST",
        "S1",
        "One order that is sent several times at once with one key becomes one job.",
        "A key that is looked up before it is kept lets both through: rmyndharis/OpenWA#464 saw duplicates within a "
        "second.",
        concurrent_one_job,
        _keyed,
    ),
)
