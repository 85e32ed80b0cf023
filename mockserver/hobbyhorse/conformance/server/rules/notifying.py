"""Rules about callbacks: they arrive, signed and once, and agree with a poll. Knows no server."""

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
# Callbacks and responses take separate connections: within a second their order proves nothing.
ORDER_TOLERANCE_SECONDS = 1.0
# A retry may come later than documented, by a factor and some seconds: queues drain slowly and delays carry jitter.
SLACK, ALLOWANCE = 30.0, 1.5
# 410 tells the sender that the receiver is gone for good.
UNSUBSCRIBED = 410
# The probe that submits with a reachable callback URL.
ORDERED = "callback:order"
SECRETS = ("text", "whsec-text", "whsec-base64")
ENCODINGS = ("hex", "base64")


@dataclass(frozen=True, slots=True)
class ReceivedCallback:
    """A callback as received, with the contract's reading of it."""

    delivery: Delivery
    value: Any
    reading: Reading
    kinds: frozenset[str]

    @property
    def job(self) -> str | None:
        """The job that the callback names, or else the job whose URL received it."""
        named = self.reading.values.get("job")
        return named if isinstance(named, str) and named else self.delivery.job

    @property
    def stage(self) -> Any:
        """The provider's word for the stage."""
        return self.reading.values.get("stage")

    def __str__(self) -> str:
        return f"the callback number {self.delivery.number} for {self.job}"


def schema(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Validate each callback against the contract's situations and schemas."""
    calls = _calls(annotated)
    return [breach for call in calls for breach in _misshapen(annotated, call)] if calls else None


def _misshapen(annotated: AnnotatedTrace, call: ReceivedCallback) -> Iterator[Breach]:
    """Yield the violations of one callback; nothing if it fully matches one of its situations."""
    callbacks = _callbacks(annotated)
    if call.value is MISSING:
        yield Breach(
            f"{call} is not valid JSON", (f"{PLACE}/operationId",), call.delivery.body[:200].decode(errors="replace")
        )
        return
    names = call.reading.situations
    if not names:
        yield Breach(f"{call} matches none of {', '.join(callbacks.situations)}", (f"{PLACE}/situations",), call.stage)
    found = []
    for name in names:
        at = callbacks.situations[name].schema
        violations = annotated.contract.schemas.violations(at, call.value, most=5)
        if not violations:
            return
        for violation in violations:
            places = (*schema_places(annotated.contract.schemas, at, violation), f"{PLACE}/situations/{name}")
            found.append(Breach(f"{call} ({name}): {violation}", places, str(violation)))
    yield from found[:5]


def signature(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Verify each callback's signature; if another interpretation of the contract fits, name it."""
    how, secret = _callbacks(annotated).signature, annotated.trace.secret
    calls = [call for call in _calls(annotated) if call.delivery.body]
    if how is None or not secret or not calls:
        return None
    return [breach for call in calls for breach in _invalid_signature(how, secret, call)]


def _invalid_signature(how: Signature, secret: str, call: ReceivedCallback) -> Iterator[Breach]:
    """Yield the violations in a callback's signature."""
    headers = dict(call.delivery.headers)
    at = f"{PLACE}/signature"
    missing = [name for name in how.headers if name.lower() not in headers]
    for name in missing:
        yield Breach(f"{call} has no header {name}", (f"{at}/headers/{name}",), sorted(headers))
    needed = [text for name, text in how.headers.items() if name in missing]
    # Without the header that carries the signature, or a signed value, there is nothing left to verify.
    if any("{" + part + "}" in text for text in needed for part in ("signature", *_signed(how))):
        return
    how = dataclasses.replace(how, headers={name: text for name, text in how.headers.items() if name not in missing})
    if not _verified(how, secret, call):
        yield _other_reading(how, secret, call, at)
    elif not _verified(how, secret, call, now=call.delivery.sent):
        message = f"{call} has a timestamp more than {how.tolerance:g} s from its arrival"
        yield Breach(message, (f"{at}/tolerance",), {name: headers.get(name.lower()) for name in how.headers})


def _signed(how: Signature) -> list[str]:
    """Return the header values that are part of the signed content."""
    return [part for part in ("timestamp", "id") if "{" + part + "}" in how.content]


def _other_reading(how: Signature, secret: str, call: ReceivedCallback, at: str) -> Breach:
    """Return the breach of an invalid signature, with the interpretation that makes it valid, if one does."""
    ways = [("secret", word) for word in SECRETS] + [("encoding", word) for word in ENCODINGS]
    for name, word in ways:
        other = dataclasses.replace(how, secret=word) if name == "secret" else dataclasses.replace(how, encoding=word)
        if _verified(other, secret, call):
            patch = {"file": "lifecycle.json", "op": "replace", "path": f"/callbacks/signature/{name}", "value": word}
            return Breach(f"{call} is signed with {name} {word}", (f"{at}/{name}",), word, (patch,))
    return Breach(f"{call} has an invalid signature", (f"{at}/content",))


def _verified(how: Signature, secret: str, call: ReceivedCallback, now: float | None = None) -> bool:
    try:
        return verify(how, secret, call.delivery.body, dict(call.delivery.headers), now=now)
    except ValueError:  # the secret is not valid base64, so this interpretation cannot be the right one
        return False


def same_as_poll(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the job, the end and the video of each callback with the last poll."""
    found: list[Breach] = []
    seen = False
    for call in _calls(annotated):
        reads = [read for read in reads_of(annotated, call.job) if read.terminal]
        if call.delivery.job in annotated.jobs and call.job != call.delivery.job:
            seen = True
            message = f"{call} was sent to the URL of the job {call.delivery.job}"
            found.append(Breach(message, (f"{PLACE}/bindings/job",), call.job))
        if not _may_call_back(annotated, call.job):
            seen = True
            message = f"{call} is about a job that was submitted without a callback URL"
            found.append(Breach(message, (f"{PLACE}/bindings/job",), call.job))
        if reads and call.kinds:
            seen = True
            found += _differs(call, reads)
    return found if seen else None


def _may_call_back(annotated: AnnotatedTrace, job: str | None) -> bool:
    """Whether a job may have callbacks: only jobs that the suite itself submitted without a callback URL may not."""
    made = making(annotated, job)
    binding = annotated.contract.operations["submit"].bindings.get("callback_url")
    if made is None or made.exchange.probe is None or binding is None:
        return True
    body = body_of(made)
    if body is MISSING:
        return True
    return any(place.part != "body" or resolve(body, place.pointer) is not MISSING for place in binding.request)


def _differs(call: ReceivedCallback, reads: list[Step]) -> Iterator[Breach]:
    """Yield the differences between a callback and the last poll."""
    last = reads[-1]
    if not call.kinds & last.kinds:
        places = tuple(f"{PLACE}/situations/{name}/stages" for name in call.reading.situations)
        yield Breach(f"{call} reports {call.stage}, request {last.number} (a poll) {last.stage}", places, call.stage)
        return
    # More than one polled video (one per read, say) leaves nothing to compare with.
    polled = {_file(read.video) for read in reads if read.video is not None}
    if len(polled) != 1 or "success" not in call.kinds:
        return
    video = call.reading.values.get("video_url")
    if not isinstance(video, str) or _file(video) not in polled:
        message = f"{call} has the video {video or None!r}, the poll another one"
        yield Breach(message, (f"{PLACE}/bindings/video_url",), video)


def _file(url: str | None) -> str:
    """Return a URL without its query, which may be a signature."""
    return (url or "").partition("?")[0].partition("#")[0]


def retried(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find missing callbacks, and unacknowledged callbacks without a retry, if the trace is long enough."""
    callbacks = _callbacks(annotated)
    found: list[Breach] = []
    seen = False
    for job, calls in _by_job(annotated):
        for number, call in enumerate(calls):
            one = call.delivery
            # No retry is due after a 2xx, after a 410, or when the documented retries are used up.
            if one.acknowledged or one.status == UNSUBSCRIBED or number >= len(callbacks.retries):
                break
            delay = callbacks.retries[number]
            latest = one.sent + (callbacks.deadline if one.status is None else 0.0) + ALLOWANCE * delay + SLACK
            came = calls[number + 1].delivery.sent if number + 1 < len(calls) else annotated.trace.ended
            seen = seen or number + 1 < len(calls) or came > latest
            if came > latest:
                places = (f"{PLACE}/retries/{number}", f"{PLACE}/retries")
                outcome = f"refused with {one.status}" if one.status else "not acknowledged"
                message = f"{call} was {outcome}, and no retry for {job} came within {came - one.sent:.0f} s"
                found.append(Breach(message, places, one.status))
    found += _never(annotated)
    return found if seen or found else None


def _never(annotated: AnnotatedTrace) -> Iterator[Breach]:
    """Yield the jobs that were submitted with a callback URL, ended long ago, and got no callback."""
    callbacks = _callbacks(annotated)
    notified = {call.job for call in _calls(annotated)}
    patience = callbacks.retries[0] if callbacks.retries else 0.0
    for order in annotated.submits:
        job = order.job_told
        if order.exchange.probe != ORDERED or job is None or job in notified:
            continue
        end = next((read for read in reads_of(annotated, job) if read.terminal), None)
        if end is None:
            continue
        waited = annotated.trace.ended - end.done
        # The first attempt may have been lost, so wait for the first retry, too.
        if waited > callbacks.deadline + ALLOWANCE * patience + SLACK:
            message = f"the job {job} has ended, and no callback came within {waited:.0f} s"
            yield Breach(message, (f"{PLACE}/operationId",))


def none_after_acknowledgement(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find callbacks that are repeated after a timely acknowledgement."""
    deadline = _callbacks(annotated).deadline
    found: list[Breach] = []
    seen = False
    for job, calls in _by_job(annotated):
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
                # After a slow acknowledgement the provider may count by another deadline than the documented one.
                slow = (f"{PLACE}/deadline",) if one.answered - one.sent > ORDER_TOLERANCE_SECONDS else ()
                message = f"{call} was acknowledged, but came again for {job} {after:.0f} s later"
                found.append(Breach(message, (*slow, PLACE), again.delivery.number))
            break
    return found if seen else None


def readable_first(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the first poll after each callback with the end that the callback reported."""
    found: list[Breach] = []
    seen = False
    for _, calls in _by_job(annotated):
        call = next((call for call in calls if call.kinds), None)
        if call is None:
            continue
        later = [read for read in reads_of(annotated, call.job) if read.arrived >= call.delivery.sent]
        # A failed poll, or one that a rate limit refused, shows nothing: take the first one that does.
        read = next(
            (read for read in later if read.delivered and (read.under_way or read.terminal or _gone(read))), None
        )
        if read is None or (_gone(read) and not own(annotated, read)):
            continue
        seen = True
        if not read.terminal:
            got = read.stage if read.ok else read.status
            places = tuple(f"{PLACE}/situations/{name}/stages" for name in call.reading.situations)
            message = f"{call} reports {call.stage}, but request {read.number} (the next poll) gets {got}"
            found.append(Breach(message, places, got))
    return found if seen else None


def _gone(read: Step) -> bool:
    return read.status in (404, 410)


def _calls(annotated: AnnotatedTrace) -> list[ReceivedCallback]:
    """Return the genuine callbacks in the order of their arrival."""
    callbacks = _callbacks(annotated)
    found = []
    for delivery in sorted(annotated.trace.deliveries, key=lambda one: one.sent):
        # The fake sends forged callbacks to test receivers; they are not the provider's.
        if delivery.kind != "genuine":
            continue
        value = as_json(delivery.body)
        reading = read_callback(annotated.contract.schemas, callbacks, message_of(delivery.headers, value))
        kinds = frozenset(annotated.contract.graph[name].kind for name in reading.stages)
        found.append(ReceivedCallback(delivery, value, reading, kinds))
    return found


def _by_job(annotated: AnnotatedTrace) -> Iterator[tuple[str, list[ReceivedCallback]]]:
    """Yield the callbacks of each job in the trace; late callbacks of older jobs are left out."""
    calls = _calls(annotated)
    for job in dict.fromkeys(call.job for call in calls):
        if job is not None and job in annotated.jobs:
            yield job, [call for call in calls if call.job == job]


def _callbacks(annotated: AnnotatedTrace) -> Callbacks:
    found = annotated.contract.callbacks
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
        "A null payload for a job that has ended breaks every receiver: fal-ai/fal-js#153.",
        schema,
        _calls_back,
    ),
    ServerRule(
        "NTF-02",
        "signature",
        "MUST",
        "S1",
        "A callback is signed as documented, over the bytes that are sent.",
        "A receiver that cannot verify signatures ends up trusting every sender: Skyvern-AI/skyvern#7987.",
        signature,
        _signs,
    ),
    ServerRule(
        "NTF-03",
        "same-as-poll",
        "MUST",
        "S2",
        "A callback names its own job, and reports the same end and the same video as a poll.",
        "A client that polls and one that is called back must get the same video: vellum-ai/vellum-assistant#5467.",
        same_as_poll,
        _calls_back,
    ),
    ServerRule(
        "NTF-04",
        "retried",
        "MUST",
        "S2",
        "A callback comes at least once, and again if it was not acknowledged: within 30 seconds plus one "
        "and a half times the documented delay.",
        "Without a retry, a receiver that was down for a moment never learns about its job: "
        "google-gemini/cookbook#1297.",
        retried,
        _calls_back,
    ),
    ServerRule(
        "NTF-05",
        "none-after-acknowledgement",
        "SHOULD",
        "S3",
        "A callback that was acknowledged in time does not come again.",
        "A receiver that does not deduplicate handles each repetition again: muxinc/mux-node-sdk#83.",
        none_after_acknowledgement,
        _calls_back,
    ),
    ServerRule(
        "NTF-06",
        "readable-first",
        "MUST",
        "S2",
        "When a callback arrives, a poll already shows the state that it reports.",
        "A receiver that looks the job up still sees it running, and waits forever: lablup/backend.ai#410.",
        readable_first,
        _calls_back,
    ),
)
