"""Rules about callbacks: they come, signed and once, and say what a poll says. Knows no server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hobbyhorse.conformance.server.expected import body_of
from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import MISSING, resolve
from hobbyhorse.contract.forms.signatures import Signature, verify
from hobbyhorse.contract.reading import Reading, as_json, message_of, read_callback
from hobbyhorse.contract.values import Callbacks, Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own, reads_of, schema_places
from hobbyhorse.traces.trace import Delivery

PLACE = "lifecycle.json#/callbacks"
ORDER_TOLERANCE_SECONDS = 1.0
"""Seconds within which it cannot be said what came first."""
SLACK, ALLOWANCE = 30.0, 1.5
"""How much later than the contract says another try may come: seconds, and a factor."""
UNSUBSCRIBED = 410
ORDERED = "callback:order"
"""The label of an order that says where to be told, at an address that can be reached."""
SECRETS = ("text", "whsec-text", "whsec-base64")
ENCODINGS = ("hex", "base64")


@dataclass(frozen=True, slots=True)
class ReceivedCallback:
    """A callback as it came, and what it says."""

    delivery: Delivery
    value: Any
    reading: Reading
    kinds: frozenset[str]

    @property
    def job(self) -> str | None:
        """The job that it names, or the one that it came for."""
        told = self.reading.values.get("job")
        return told if isinstance(told, str) and told else self.delivery.job

    @property
    def stage(self) -> Any:
        """The word for the stage."""
        return self.reading.values.get("stage")

    def __str__(self) -> str:
        return f"the callback number {self.delivery.number} for {self.job}"


def schema(story: AnnotatedTrace) -> list[Breach] | None:
    """Hold each callback against the situations and schemas that the contract has for it."""
    calls = _calls(story)
    return [breach for call in calls for breach in _misshapen(story, call)] if calls else None


def _misshapen(story: AnnotatedTrace, call: ReceivedCallback) -> Iterator[Breach]:
    """Yield what is wrong with one callback; nothing if one of its situations has it, to the last field."""
    callbacks = _callbacks(story)
    if call.value is MISSING:
        yield Breach(f"{call} is no JSON", (f"{PLACE}/operationId",), call.delivery.body[:200].decode(errors="replace"))
        return
    names = call.reading.situations
    if not names:
        yield Breach(f"{call} is none of {', '.join(callbacks.situations)}", (f"{PLACE}/situations",), call.stage)
    found = []
    for name in names:
        at = callbacks.situations[name].schema
        violations = story.contract.schemas.violations(at, call.value, most=5)
        if not violations:
            return
        for violation in violations:
            places = (*schema_places(story.contract.schemas, at, violation), f"{PLACE}/situations/{name}")
            found.append(Breach(f"{call} ({name}): {violation}", places, str(violation)))
    yield from found[:5]


def signature(story: AnnotatedTrace) -> list[Breach] | None:
    """Verify each callback's signature; where another reading of the contract fits, say which."""
    how, secret = _callbacks(story).signature, story.trace.secret
    calls = [call for call in _calls(story) if call.delivery.body]
    if how is None or not secret or not calls:
        return None
    return [breach for call in calls for breach in _unsealed(how, secret, call)]


def _unsealed(how: Signature, secret: str, call: ReceivedCallback) -> Iterator[Breach]:
    """Yield what is wrong with the signature of a callback."""
    headers = dict(call.delivery.headers)
    at = f"{PLACE}/signature"
    missing = [name for name in how.headers if name.lower() not in headers]
    for name in missing:
        yield Breach(f"{call} has no header {name}", (f"{at}/headers/{name}",), sorted(headers))
    needed = [text for name, text in how.headers.items() if name in missing]
    if any("{" + part + "}" in text for text in needed for part in ("signature", *_signed(how))):
        return
    how = dataclasses.replace(how, headers={name: text for name, text in how.headers.items() if name not in missing})
    if not _verified(how, secret, call):
        yield _other_reading(how, secret, call, at)
    elif not _verified(how, secret, call, now=call.delivery.sent):
        message = f"{call} has a timestamp that is not within {how.tolerance:g} s of when it came"
        yield Breach(message, (f"{at}/tolerance",), {name: headers.get(name.lower()) for name in how.headers})


def _signed(how: Signature) -> list[str]:
    """Return what of the headers is signed."""
    return [part for part in ("timestamp", "id") if "{" + part + "}" in how.content]


def _other_reading(how: Signature, secret: str, call: ReceivedCallback, at: str) -> Breach:
    """Return the breach of a signature that does not verify: at what is read otherwise, if that makes it verify."""
    ways = [("secret", word) for word in SECRETS] + [("encoding", word) for word in ENCODINGS]
    for name, word in ways:
        other = dataclasses.replace(how, secret=word) if name == "secret" else dataclasses.replace(how, encoding=word)
        if _verified(other, secret, call):
            patch = {"file": "lifecycle.json", "op": "replace", "path": f"/callbacks/signature/{name}", "value": word}
            return Breach(f"{call} is signed with the {name} read as {word}", (f"{at}/{name}",), word, (patch,))
    return Breach(f"{call} has a signature that does not verify", (f"{at}/content",))


def _verified(how: Signature, secret: str, call: ReceivedCallback, now: float | None = None) -> bool:
    try:
        return verify(how, secret, call.delivery.body, dict(call.delivery.headers), now=now)
    except ValueError:  # a secret that is no base64
        return False


def same_as_poll(story: AnnotatedTrace) -> list[Breach] | None:
    """Hold the job, the end and the video of each callback against the last poll."""
    found: list[Breach] = []
    seen = False
    for call in _calls(story):
        reads = [read for read in reads_of(story, call.job) if read.terminal]
        if call.delivery.job in story.jobs and call.job != call.delivery.job:
            seen = True
            message = f"{call} came for the job {call.delivery.job}"
            found.append(Breach(message, (f"{PLACE}/bindings/job",), call.job))
        if not _asked_for(story, call.job):
            seen = True
            message = f"{call} is about a job whose order asked for none"
            found.append(Breach(message, (f"{PLACE}/bindings/job",), call.job))
        if reads and call.kinds:
            seen = True
            found += _differs(call, reads)
    return found if seen else None


def _asked_for(story: AnnotatedTrace, job: str | None) -> bool:
    """Whether a job may be told of: all may, but those that the suite itself has ordered without an address."""
    made = making(story, job)
    binding = story.contract.operations["submit"].bindings.get("callback_url")
    if made is None or made.exchange.probe is None or binding is None:
        return True
    body = body_of(made)
    if body is MISSING:
        return True
    return any(place.part != "body" or resolve(body, place.pointer) is not MISSING for place in binding.request)


def _differs(call: ReceivedCallback, reads: list[Step]) -> Iterator[Breach]:
    """Yield what a callback says otherwise than the last poll."""
    last = reads[-1]
    if not call.kinds & last.kinds:
        places = tuple(f"{PLACE}/situations/{name}/stages" for name in call.reading.situations)
        yield Breach(f"{call} says {call.stage}, the poll {last.number} says {last.stage}", places, call.stage)
        return
    polled = {_file(read.video) for read in reads if read.video is not None}
    if len(polled) != 1 or "success" not in call.kinds:
        return
    told = call.reading.values.get("video_url")
    if not isinstance(told, str) or _file(told) not in polled:
        message = f"{call} has the video {told or None!r}, the poll another one"
        yield Breach(message, (f"{PLACE}/bindings/video_url",), told)


def _file(url: str | None) -> str:
    """Return an address without what signs it."""
    return (url or "").partition("?")[0].partition("#")[0]


def retried(story: AnnotatedTrace) -> list[Breach] | None:
    """Look for a callback for each order, and for another behind one that was not acknowledged, if watched so long."""
    callbacks = _callbacks(story)
    found: list[Breach] = []
    seen = False
    for job, calls in _by_job(story):
        for number, call in enumerate(calls):
            one = call.delivery
            if one.acknowledged or one.status == UNSUBSCRIBED or number >= len(callbacks.retries):
                break
            delay = callbacks.retries[number]
            latest = one.sent + (callbacks.deadline if one.status is None else 0.0) + ALLOWANCE * delay + SLACK
            came = calls[number + 1].delivery.sent if number + 1 < len(calls) else story.trace.ended
            seen = seen or number + 1 < len(calls) or came > latest
            if came > latest:
                places = (f"{PLACE}/retries/{number}", f"{PLACE}/retries")
                answer = f"answered {one.status}" if one.status else "not answered"
                message = f"{call} was {answer}, and no other came for {job} in {came - one.sent:.0f} s"
                found.append(Breach(message, places, one.status))
    found += _never(story)
    return found if seen or found else None


def _never(story: AnnotatedTrace) -> Iterator[Breach]:
    """Yield the jobs that were ordered with a callback, have ended long ago, and were never told of."""
    callbacks = _callbacks(story)
    told = {call.job for call in _calls(story)}
    patience = callbacks.retries[0] if callbacks.retries else 0.0
    for order in story.submits:
        job = order.job_told
        if order.exchange.probe != ORDERED or job is None or job in told:
            continue
        end = next((read for read in reads_of(story, job) if read.terminal), None)
        if end is None:
            continue
        waited = story.trace.ended - end.done
        if waited > callbacks.deadline + ALLOWANCE * patience + SLACK:
            message = f"the job {job} has ended, and no callback came in {waited:.0f} s"
            yield Breach(message, (f"{PLACE}/operationId",))


def none_after_acknowledgement(story: AnnotatedTrace) -> list[Breach] | None:
    """Look for the same callback again, after it had been acknowledged in time."""
    deadline = _callbacks(story).deadline
    found: list[Breach] = []
    seen = False
    for job, calls in _by_job(story):
        for number, call in enumerate(calls):
            one = call.delivery
            if not one.acknowledged or one.answered is None or one.answered - one.sent > deadline:
                continue
            seen = True
            later = (
                other for other in calls[number + 1 :] if other.delivery.sent > one.answered + ORDER_TOLERANCE_SECONDS
            )
            again = next((other for other in later if other.stage == call.stage), None)
            if again is not None:
                after = again.delivery.sent - one.answered
                slow = (f"{PLACE}/deadline",) if one.answered - one.sent > ORDER_TOLERANCE_SECONDS else ()
                message = f"{call} was acknowledged, and the same came again for {job} {after:.0f} s later"
                found.append(Breach(message, (*slow, PLACE), again.delivery.number))
            break
    return found if seen else None


def readable_first(story: AnnotatedTrace) -> list[Breach] | None:
    """Hold the first poll behind each callback against the end that it told."""
    found: list[Breach] = []
    seen = False
    for _, calls in _by_job(story):
        call = next((call for call in calls if call.kinds), None)
        if call is None:
            continue
        later = [read for read in reads_of(story, call.job) if read.arrived >= call.delivery.sent]
        read = next(
            (read for read in later if read.delivered and (read.under_way or read.terminal or _gone(read))), None
        )
        if read is None or (_gone(read) and not own(story, read)):
            continue
        seen = True
        if not read.terminal:
            told = read.stage if read.ok else read.status
            places = tuple(f"{PLACE}/situations/{name}/stages" for name in call.reading.situations)
            found.append(Breach(f"{call} says {call.stage}, and the poll {read.number} behind it {told}", places, told))
    return found if seen else None


def _gone(read: Step) -> bool:
    return read.status in (404, 410)


def _calls(story: AnnotatedTrace) -> list[ReceivedCallback]:
    """Return the genuine callbacks, in the order in which they came."""
    callbacks = _callbacks(story)
    found = []
    for delivery in sorted(story.trace.deliveries, key=lambda one: one.sent):
        if delivery.kind != "genuine":
            continue
        value = as_json(delivery.body)
        reading = read_callback(story.contract.schemas, callbacks, message_of(delivery.headers, value))
        kinds = frozenset(story.contract.graph[name].kind for name in reading.stages)
        found.append(ReceivedCallback(delivery, value, reading, kinds))
    return found


def _by_job(story: AnnotatedTrace) -> Iterator[tuple[str, list[ReceivedCallback]]]:
    """Yield the callbacks of each job that was ordered here; one of an older job may still come."""
    calls = _calls(story)
    for job in dict.fromkeys(call.job for call in calls):
        if job is not None and job in story.jobs:
            yield job, [call for call in calls if call.job == job]


def _callbacks(story: AnnotatedTrace) -> Callbacks:
    found = story.contract.callbacks
    assert found is not None
    return found


def _calls_back(contract: Contract) -> bool:
    return contract.callbacks is not None


def _signs(contract: Contract) -> bool:
    return contract.callbacks is not None and contract.callbacks.signature is not None


RULES = (
    ServerRule(
        "NTF-01",
        "schema",
        "MUST",
        "S2",
        "A callback has the documented shape, to the last field.",
        "A payload that is null although the job has ended breaks every receiver: fal-ai/fal-js#153.",
        schema,
        _calls_back,
    ),
    ServerRule(
        "NTF-02",
        "signature",
        "MUST",
        "S1",
        "A callback is signed as documented, over the bytes that are sent.",
        "A receiver that cannot verify ends up believing everybody: Skyvern-AI/skyvern#7987.",
        signature,
        _signs,
    ),
    ServerRule(
        "NTF-03",
        "same-as-poll",
        "MUST",
        "S2",
        "A callback names the job that it is for, and tells the same end and the same video as a poll.",
        "Who trusts the one and who trusts the other must have the same video: vellum-ai/vellum-assistant#5467.",
        same_as_poll,
        _calls_back,
    ),
    ServerRule(
        "NTF-04",
        "retried",
        "MUST",
        "S2",
        "A callback comes at least once, and again where it was not acknowledged: within the contract's delay, half as "
        "much again and 30 seconds.",
        "A receiver that was down for a moment never hears of its job: google-gemini/cookbook#1297.",
        retried,
        _calls_back,
    ),
    ServerRule(
        "NTF-05",
        "none-after-acknowledgement",
        "SHOULD",
        "S3",
        "A callback that was acknowledged in time does not come again.",
        "Each repetition is handled once more by whoever does not count: muxinc/mux-node-sdk#83.",
        none_after_acknowledgement,
        _calls_back,
    ),
    ServerRule(
        "NTF-06",
        "readable-first",
        "MUST",
        "S2",
        "What a callback tells can be polled when the callback comes.",
        "A receiver that looks the job up is told that it runs, and waits for ever: lablup/backend.ai#410.",
        readable_first,
        _calls_back,
    ),
)
