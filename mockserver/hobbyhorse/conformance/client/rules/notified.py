"""Rules about callbacks: trusted only if genuine, acted on once, and not waited for forever. Knows no server.

A callback accuses a client only if the client could have acted on it: it was sent while the client's run was going on,
for a job that the client knew, with a valid signature (`_genuine`). A callback that arrives at the very end of a
run, or before the submission's response, proves nothing: the order of the two events is unknown.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import orjson

from hobbyhorse.conformance.client.cases import CLOCK_KINDS
from hobbyhorse.conformance.client.grouping import has_callback_url, undisturbed
from hobbyhorse.conformance.rule import (
    MONEY,
    MUST,
    OBSERVED,
    OUTCOME,
    SECURITY,
    SHOULD,
    VIDEO,
    WIRE,
    Breach,
    Check,
    Evidence,
    each_order,
    rule,
)
from hobbyhorse.contract.forms.signatures import verify
from hobbyhorse.contract.reading import message_of, read_callback
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import EMPTIES, ESTRANGES, MISSIGNS, OUTDATES, UNSENT
from hobbyhorse.scenarios.registry import name_used_for, names_used_for
from hobbyhorse.traces.annotated import ENDS, FAILED_OUTCOMES, READS, AnnotatedTrace, Step
from hobbyhorse.traces.trace import Delivery

# Two events within these seconds have no known order: sending, receiving and recording take time.
SIMULTANEOUS_SECONDS = 0.05
# Seconds before a run's end in which its receiver may be closed already.
CLOSING = 1.0
# The statuses with which a receiver refuses a signature. Other errors may be the receiver's own.
CALLBACK_REFUSALS = frozenset({400, 401, 403})
# The statuses with which it refuses a callback for good. The others ask for another delivery.
REJECTIONS = frozenset(range(400, 500)) - {408, 409, 423, 425, 429}
NULL, LOST, STRANGER = name_used_for(EMPTIES), name_used_for(UNSENT), name_used_for(ESTRANGES)
MISSIGNED, OUTDATED = names_used_for(MISSIGNS), names_used_for(OUTDATES)
# Seconds after a callback within which the end of a run is attributed to it. More would blame the callback for an end
# that another event caused.
SAME_END_SECONDS = 3.0
# Seconds after a callback about the end within which a client reads the job, or ends: twice a usual interval of polls.
WAKING_SECONDS = 20.0
# Seconds after the end of a job in which a client that polls rarely reads it.
TIME_TO_LOOK = 60.0


def _calls_back(contract: Contract) -> bool:
    return contract.callbacks is not None


def _signs(contract: Contract) -> bool:
    return contract.callbacks is not None and contract.callbacks.signature is not None


def _calls_unsigned(contract: Contract) -> bool:
    # A verified signature proves that the provider sent the callback; CBK-04 judges whether clients verify it.
    return contract.callbacks is not None and contract.callbacks.signature is None


def _limits_age(contract: Contract) -> bool:
    signed = contract.callbacks.signature if contract.callbacks is not None else None
    return signed is not None and signed.tolerance is not None


def _reports_progress(contract: Contract) -> bool:
    situations = contract.callbacks.situations.values() if contract.callbacks is not None else ()
    return any(not contract.graph[name].terminal for situation in situations for name in situation.stages)


def each_unbroken_order(check: Check) -> Check:
    """Return a check of each order separately, without orders of a restarted client."""

    # A killed client may have lost callbacks that it had acknowledged, so its later requests prove nothing.
    @functools.wraps(check)
    def unbroken(trace: AnnotatedTrace) -> Evidence:
        if len(trace.runs) < 2:
            yield from check(trace)

    return each_order(unbroken)


@rule(
    "CBK-01",
    "ack-fast",
    level=MUST,
    severity="S3",
    channel=WIRE,
    applies=_calls_back,
    timing=True,
    says="Acknowledge a callback with 2xx within the provider's deadline, and do the work afterwards.",
    because="An unacknowledged callback is delivered again and then given up; the Standard Webhooks specification "
    "requires the response before the work, and muxinc/mux-node-sdk#83 is about duplicate deliveries.",
    fix="Send the 2xx as soon as the signature is verified, put the job's id into a queue, and do the work in another "
    "thread or task.",
    example="callbacks.listening",
)
@each_unbroken_order
def ack_fast(trace: AnnotatedTrace) -> Evidence:
    for delivery in _genuine(trace):
        yield OBSERVED
        yield from _unreceived(trace, delivery)
        status = delivery.status or 200
        # Refusals are the subject of CBK-04, and a client that knows the end may have forgotten the job.
        other = 300 <= status < 500 and status not in CALLBACK_REFUSALS and delivery.note != NULL
        if other and not _knew_the_end(trace, delivery):
            yield Breach(f"callback {delivery.number} for job {delivery.job} was answered with {status}; expected: 2xx")


@rule(
    "CBK-02",
    "dedupe",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    applies=_calls_back,
    says="The same callback twice, in sequence or concurrently, has one effect and is acknowledged twice.",
    because="Deliveries are repeated, even within one second: muxinc/mux-node-sdk#83, rmyndharis/OpenWA#464, "
    "wasp-lang/open-saas#688, kortix-ai/suna#1595, huggingface/hub-docs#2749. A handler that sets a result twice "
    "crashes: spesmilo/electrum#10833, apify/apify-sdk-python#877.",
    fix="Keep the ids of the handled callbacks or jobs in a set, behind a lock, and acknowledge a repetition without "
    "acting on it.",
    example="callbacks.listening",
)
@each_unbroken_order
def dedupe(trace: AnnotatedTrace) -> Evidence:
    for job, deliveries in _by_job(_genuine(trace)):
        # An unacknowledged delivery is rightly repeated. Simultaneous ones were sent before either was acknowledged.
        first = min((one.answered or one.sent for one in deliveries if one.acknowledged), default=float("inf"))
        same = [one for one in deliveries if one.acknowledged or _simultaneous(one, deliveries) or one.sent >= first]
        if len(same) < 2:
            continue
        yield OBSERVED
        yield from _twice(trace, job, f"its terminal stage was delivered {len(same)} times")
        for one in same:
            if one.status is None:
                crashed = _crashed(trace, one) and _ended(trace) - one.sent > CLOSING
            else:
                crashed = not one.acknowledged and one.note != NULL and not _excused(trace, one)
            if crashed:
                answer = f"answered with {one.status}" if one.status is not None else f"not answered ({one.error})"
                yield Breach(f"a repeated callback for job {job} was {answer}; expected: 2xx")


@rule(
    "CBK-03",
    "out-of-order",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    applies=_calls_back,
    says="A callback that follows the first report of a job's terminal stage reopens nothing: no more polls, and the "
    "same outcome.",
    because="A terminated job was started again in lablup/backend.ai#410; late callbacks overwrote newer ones in "
    "vellum-ai/vellum-assistant#5467 and Pulsefy/Soter#263.",
    fix="Ignore the stage in a callback for a job whose terminal stage is already known; acknowledge the callback and "
    "do nothing.",
    example="callbacks.wait",
)
@each_unbroken_order
def out_of_order(trace: AnnotatedTrace) -> Evidence:
    for job, deliveries in _by_job(_genuine(trace)):
        news = _reports_of_end(trace, job, deliveries)
        # The first report may come from a poll or from a callback.
        further = [one for one in deliveries if news and one.sent > news[0][0]]
        if not further:
            continue
        yield OBSERVED
        yield from _reopened(trace, job, further)
        reported = frozenset[str]().union(*(kinds for _, kinds in news), *(kinds for _, kinds in trace.callbacks))
        succeeds = trace.outcome is not None and trace.outcome.kind == "success"
        if succeeds and "success" not in reported and not _shown(trace, _ended(trace)):
            yield Breach(f"the run ended with success although job {job} was reported to have ended without a video")


def _reports_of_end(
    trace: AnnotatedTrace, job: str, deliveries: Iterable[Delivery]
) -> list[tuple[float, frozenset[str]]]:
    """Return when a job's end was reported by responses and callbacks, oldest first, with the kinds of the end."""
    news = [(step.done, step.kinds) for step in trace.steps if step.terminal and step.clean and step.job == job]
    news += [(one.answered or one.sent, _kinds(trace, one)) for one in deliveries if one.acknowledged]
    return sorted((one for one in news if one[1] and one[1] <= ENDS), key=lambda one: one[0])


@rule(
    "CBK-04",
    "signature",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    channel=WIRE,
    applies=_signs,
    says="Refuse a callback that is unsigned or wrongly signed, and do not act on it; do not refuse a genuine "
    "callback.",
    because="One verifier accepted everything, one accepted forgeries, and one was never called: "
    "corsairdev/corsair#969, Skyvern-AI/skyvern#7987, ComposioHQ/composio#2168.",
    fix="Verify the signature over the received bytes with hmac.compare_digest before parsing the body; respond 401 "
    "to a callback without a valid signature.",
    example="callbacks.genuine",
)
@each_unbroken_order
def signature(trace: AnnotatedTrace) -> Evidence:
    for one in trace.deliveries:
        if not _false(trace, one) or not _answering(trace, one):
            continue
        yield OBSERVED
        yield from _believed(trace, one)
    for one in _genuine(trace):
        if one.note != NULL:
            yield OBSERVED
            if one.status in CALLBACK_REFUSALS:
                yield Breach(f"a genuine callback for job {one.job} was refused with {one.status}; expected: 2xx")


@rule(
    "CBK-11",
    "no-replay",
    level=SHOULD,
    severity="S2",
    harm=SECURITY,
    channel=WIRE,
    applies=_limits_age,
    says="Refuse a callback that was signed too long ago, and do not act on it.",
    because="A genuine callback that somebody kept can be sent again, so Standard Webhooks limits the age of its "
    "timestamp; one verifier was never called: ComposioHQ/composio#2168.",
    fix="Read the timestamp that is part of the signed data, and refuse a callback that is older than the documented "
    "tolerance.",
    example="callbacks.genuine",
)
@each_unbroken_order
def no_replay(trace: AnnotatedTrace) -> Evidence:
    for one in trace.deliveries:
        if one.kind in OUTDATED and _sent(one) and _answering(trace, one):
            yield OBSERVED
            yield from _believed(trace, one)


@rule(
    "CBK-05",
    "trust-but-verify",
    level=SHOULD,
    severity="S1",
    harm=SECURITY,
    channel=WIRE,
    applies=_calls_unsigned,
    says="Before acting on a callback that is not signed, read the job from the provider.",
    because="The provider is not the only one that knows a callback URL; code100x/photo-ai#74 accepted unsigned "
    "callbacks.",
    fix="Take only the job's id from a callback that is not signed, and read the stage and the video's URL with a "
    "request to the provider.",
    example="callbacks.wait",
)
@each_unbroken_order
def trust_but_verify(trace: AnnotatedTrace) -> Evidence:
    for job, deliveries in _by_job(_genuine(trace)):
        first = next((one for one in deliveries if one.acknowledged and "success" in _kinds(trace, one)), None)
        effect = _effect(trace, job, first.sent) if first is not None else None
        if first is None or effect is None:
            continue
        yield OBSERVED
        verified = any(first.sent <= step.done and step.arrived <= effect for step in _reads(trace, job))
        if not verified and not _shown(trace, effect):
            yield Breach(f"job {job} was treated as done because of a callback, but was not read first")


@rule(
    "CBK-06",
    "lost-callback",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    applies=_calls_back,
    says="Do not wait forever for a callback, and do not give up a job without it: poll.",
    because="A provider accepted the callback URL and never sent a callback: google-gemini/cookbook#1297.",
    fix="Poll at a long interval while waiting for the callback, and stop at the overall deadline.",
    example="callbacks.wait",
)
@each_unbroken_order
def lost_callback(trace: AnnotatedTrace) -> Evidence:
    accepted, outcome = trace.accepted, trace.outcome
    if accepted is None or outcome is None or trace.trace.jobs is None or not has_callback_url(trace, accepted):
        return
    if any(one.kind == "genuine" and _sent(one) for one in trace.deliveries):
        return
    yield OBSERVED
    waited = outcome.ended - accepted.done
    # An unfinished run was cut off: what it did beyond the longest wait is unknown.
    most = (1.0 if outcome.kind == "unfinished" else 1.25) * trace.patience + 60.0
    if trace.after(accepted, trace.of(*READS, "list")):
        return
    silent = f"no callback arrived for job {accepted.job_told}"
    if waited > most:
        yield Breach(f"{silent}, but the client did not poll it within {waited:.0f} s; allowed: {most:.0f} s")
    # The callback that was not sent tells when the job had ended.
    due = [one.sent for one in trace.deliveries if one.kind == "genuine" and one.job == accepted.job_told]
    if due and outcome.ended - due[0] > TIME_TO_LOOK:
        yield Breach(f"{silent}, which had ended {outcome.ended - due[0]:.0f} s before the client gave it up, unread")


@rule(
    "CBK-07",
    "first-is-not-terminal",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    applies=_reports_progress,
    says="Do not treat a callback that reports progress as the end of the job.",
    because="The first notification may be progress or a challenge: vercel/ai#20561.",
    fix="Look at the stage in the callback: continue to wait unless it is one of the documented terminal stages.",
    example="callbacks.wait",
)
@each_unbroken_order
def first_is_not_terminal(trace: AnnotatedTrace) -> Evidence:
    for job, deliveries in _by_job(_genuine(trace)):
        first = next((one for one in deliveries if _kinds(trace, one) and not _kinds(trace, one) & ENDS), None)
        if first is None:
            continue
        yield OBSERVED
        effect = _effect(trace, job, first.sent)
        if effect is None or _shown(trace, effect):
            continue
        if not any(_kinds(trace, one) & ENDS and one.sent <= effect for one in deliveries):
            yield Breach(f"job {job} was treated as done although its callback reported only progress")


@rule(
    "CBK-08",
    "unknown-job",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    channel=WIRE,
    applies=_calls_back,
    says="Respond to a callback for a job that was never submitted, but request and fetch nothing for that job, and "
    "do not take its stage for that of an own job.",
    because="A client that acts on every callback lets any sender start work, even on another customer's job: "
    "code100x/photo-ai#74.",
    fix="Compare the job's id in a callback with the ids of the client's own submissions, and do nothing for any "
    "other id.",
    example="callbacks.listening",
)
@each_unbroken_order
def unknown_job(trace: AnnotatedTrace) -> Evidence:
    for one in trace.deliveries:
        if one.kind != STRANGER or not _answering(trace, one) or not _knows(trace, one):
            continue
        yield OBSERVED
        yield from _unreceived(trace, one)
        job = _named_job(trace, one)
        if job is None or job in trace.jobs:
            continue
        for step in trace.after(one.sent, trace.steps):
            if step.job == job or job in step.exchange.url:
                yield Breach(f"request {step.number} is about job {job}, which the client did not submit")
        if _failed_without_reason(trace):
            yield Breach(f"the run failed after a callback for job {job}, which the client did not submit")


def _failed_without_reason(trace: AnnotatedTrace) -> bool:
    """Whether a run failed although its job did not, and although nothing else of its traffic was troubled."""
    outcome = trace.outcome
    if outcome is None or outcome.kind not in FAILED_OUTCOMES:
        return False
    calm = all(undisturbed(trace, step) for step in trace.steps) and all(
        one.kind == STRANGER or (one.kind == "genuine" and not one.note) for one in trace.deliveries
    )
    told = [step.kinds for step in trace.steps] + [kinds for _, kinds in trace.callbacks]
    return calm and any("success" in kinds for kinds in told) and not any("failure" in kinds for kinds in told)


@rule(
    "CBK-09",
    "callback-and-poll",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    applies=_calls_back,
    says="The terminal stage of a job has one effect, even if both a poll and a callback report it.",
    because="Two independent code paths for the same event cause two effects: muxinc/mux-node-sdk#83, "
    "rmyndharis/OpenWA#464.",
    fix="Let polls and callbacks feed one place that decides the end of a job, and let only the first report of the "
    "end pass.",
    example="callbacks.wait",
)
@each_unbroken_order
def callback_and_poll(trace: AnnotatedTrace) -> Evidence:
    for job, deliveries in _by_job(_genuine(trace)):
        acknowledged = [one for one in deliveries if one.acknowledged]
        # Repeated deliveries are the subject of CBK-02.
        if len(acknowledged) != 1 or len(deliveries) != 1:
            continue
        until = acknowledged[0].answered or acknowledged[0].sent
        if any(step.success and step.done <= until for step in _reads(trace, job)):
            yield OBSERVED
            yield from _twice(trace, job, "its terminal stage was reported by both a poll and a callback")


@rule(
    "CBK-10",
    "null-payload",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    applies=_calls_back,
    says="A callback with a null payload must not crash the client; take the outcome from the job itself.",
    because="The payload is null if the provider could not build it; an error is sent beside it: fal-ai/fal-js#153.",
    fix="Test each member of the callback for null before reading into it, and poll the job when the payload is "
    "missing.",
    example="callbacks.wait",
)
@each_unbroken_order
def null_payload(trace: AnnotatedTrace) -> Evidence:
    empty = [one for one in _genuine(trace) if one.note == NULL]
    for one in empty:
        yield OBSERVED
        yield from _unreceived(trace, one)
    outcome = trace.outcome
    others = any(one.kind == "genuine" and one.note != NULL and _sent(one) for one in trace.deliveries)
    if not empty or outcome is None or others:
        return
    if outcome.kind == "success" and not _shown(trace, outcome.ended):
        yield Breach("the run ended with success although only a callback with a null payload reported it")
    if outcome.kind in FAILED_OUTCOMES and _went_well(trace, empty[-1]):
        yield Breach(f"the run ended as {outcome.kind!r} although the provider had the video")


@rule(
    "CBK-12",
    "false-callbacks-change-nothing",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    applies=_signs,
    says="A callback that has a wrong signature, or none, or an old one, does not end the run.",
    because="Whoever knows the address could stop a service: a comparison of signatures with unequal lengths raised an "
    "error that nothing caught, and the process ended: inkbox-ai/inkbox#178.",
    fix="Compare the lengths before `timingSafeEqual`, catch every error in the handler of callbacks, and respond 401.",
    example="callbacks.genuine",
)
@each_unbroken_order
def false_callbacks_change_nothing(trace: AnnotatedTrace) -> Evidence:
    false, outcome = [one for one in trace.deliveries if one.kind in MISSIGNED | OUTDATED], trace.outcome
    if not false or outcome is None:
        return
    yield OBSERVED
    if outcome.kind in FAILED_OUTCOMES and _went_well(trace, false[-1]):
        yield Breach(f"the run ended as {outcome.kind!r} when a callback came that was {false[-1].kind}")


@rule(
    "CBK-13",
    "callback-wakes",
    level=SHOULD,
    severity="S4",
    harm=VIDEO,
    channel=WIRE,
    applies=_calls_back,
    timing=True,
    says="A genuine callback about the end of a job wakes the client: within 20 s it reads the job, fetches the video, "
    "or ends, even if the callback came before the response to the submission. It is not refused then, either.",
    because="A client that registers a callback and waits for its next poll learns of the end late, or after its "
    "deadline: gitmoot/gitmoot#1133 and #1228. One that came early was refused and lost: ctrlplanedev/ctrlplane#177.",
    fix="Wait on an event that the receiver sets, and sleep for the whole interval only if it is not set; remember the "
    "callback of a job that is not known yet, or respond 503 to get it once more.",
    example="callbacks.wait",
)
@each_unbroken_order
def callback_wakes(trace: AnnotatedTrace) -> Evidence:
    outcome = trace.outcome
    for one in _genuine(trace) if outcome is not None else ():
        if one.acknowledged and _kinds(trace, one) & ENDS and _was_idle(trace, one):
            yield OBSERVED
            woken = _next_act(trace, one.sent - SIMULTANEOUS_SECONDS) - one.sent
            if woken > WAKING_SECONDS:
                yield Breach(
                    f"a genuine callback reported the end of job {one.job}, but the client did nothing for "
                    f"{woken:.0f} s; allowed: {WAKING_SECONDS:.0f} s"
                )
    yield from _woken_late(trace)


def _next_act(trace: AnnotatedTrace, since: float) -> float:
    """Return when the client first read a job, fetched a file or ended, from a moment on."""
    acts = (step.arrived for step in (*trace.reads, *trace.fetches) if step.arrived >= since)
    return min([*acts, _ended(trace)])


def _woken_late(trace: AnnotatedTrace) -> Evidence:
    """Find a client that was told the end of its job before it knew the job, and has refused or forgotten that."""
    order = trace.accepted
    if order is None or not order.clean or len(trace.submits) > 1 or trace.outcome is None:
        return
    sent = (one for one in trace.deliveries if one.kind == "genuine" and _sent(one) and one.job == order.job_told)
    early = [one for one in sent if _kinds(trace, one) & ENDS and one.sent < order.done and one.status is not None]
    if not early or _knows(trace, early[0]) or not _validly_signed(trace, early[0]):
        return
    first = f"a genuine callback reported the end of job {early[0].job} before the response to its submission"
    if not any(one.acknowledged for one in early):
        refusals = [one.status for one in early if one.status in REJECTIONS]
        if refusals:
            yield OBSERVED
            yield Breach(f"{first}, and was refused with {refusals[0]}; expected: 2xx, or 503 to get it once more")
        return
    woken = _next_act(trace, order.done) - order.done
    yield OBSERVED
    if woken > WAKING_SECONDS:
        yield Breach(
            f"{first}, but after that response the client did nothing for {woken:.0f} s; "
            f"allowed: {WAKING_SECONDS:.0f} s"
        )


def _was_idle(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client had nothing to do but wait: no request was under way, failed, or had a Retry-After."""
    earlier = [step for step in trace.steps if step.arrived <= delivery.sent]
    last = earlier[-1] if earlier else None
    # An end that the client knew already, from a response or from another callback, is no news.
    if last is None or last.done > delivery.sent or _knew_the_end(trace, delivery):
        return False
    return last.ok and last.clean and last.exchange.answer_header("retry-after") is None


def _unreceived(trace: AnnotatedTrace, delivery: Delivery) -> Iterator[Breach]:
    """Yield a breach if a callback was received too late, not at all, or with a crash."""
    callbacks = trace.contract.callbacks
    # A client that ends need not respond any more.
    left = _ended(trace) - delivery.sent
    if callbacks is None or not _sent(delivery) or left <= SIMULTANEOUS_SECONDS:
        return
    callback, allowed = f"callback {delivery.number} for job {delivery.job}", callbacks.deadline
    if delivery.status is not None:
        taken = (delivery.answered or delivery.sent) - delivery.sent
        if taken > allowed:
            yield Breach(f"{callback} was answered after {taken:.1f} s; allowed: {allowed:g} s")
        elif delivery.status >= 500 and not _excused(trace, delivery):
            yield Breach(f"{callback} was answered with {delivery.status}; expected: 2xx")
    elif _timed_out(delivery):
        if left > allowed + SIMULTANEOUS_SECONDS:
            yield Breach(f"{callback} was not answered within {allowed:g} s")
    # A client that knows the end of its job may close its receiver, but a handler must not crash.
    elif left > CLOSING and (_crashed(trace, delivery) or not _knew_the_end(trace, delivery)):
        yield Breach(f"{callback} was not answered: {delivery.error or 'unknown error'}")


def _crashed(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the receiver took a callback and closed the connection without a response, as a crashing handler does.

    A receiver that has been closed refuses connections, or resets ones that it never accepted. So a reset counts only
    if the receiver responded to another delivery at the same time or later.
    """
    error = (delivery.error or "").lower()
    alive = any(one.status is not None and one.sent >= delivery.sent for one in trace.deliveries)
    return "disconnected" in error or (alive and ("readerror" in error or "reset" in error))


def _timed_out(delivery: Delivery) -> bool:
    error = (delivery.error or "").lower()
    return "timeout" in error or "timed out" in error


def _reopened(trace: AnnotatedTrace, job: str, further: Iterable[Delivery]) -> Iterator[Breach]:
    """Yield a breach if the client waits again for a job that has ended."""
    wholes = _wholes(trace, job)
    done = min([step.done for step in wholes[:1]] + [_ended(trace)])
    since = max(done, min(one.sent for one in further))
    reads = [step for step in _reads(trace, job) if step.arrived > since]
    # One read is a careful client that verifies the callback.
    if len(reads) > 1:
        done_job = f"job {job} had ended and its video was fetched"
        yield Breach(f"{done_job}, but {len(reads)} more reads followed another callback; allowed: 1")


def _believed(trace: AnnotatedTrace, false: Delivery) -> Iterator[Breach]:
    """Yield a breach if a false callback was acknowledged, crashed the receiver, or had an effect."""
    # A 5xx makes the provider deliver the false callback again.
    crashed = false.status is not None and false.status >= 500 and _listening(trace, false)
    if crashed or false.acknowledged:
        yield Breach(f"{_article(false)} callback was answered with {false.status}; expected: 401")
    yield from _effects(trace, false)


def _effects(trace: AnnotatedTrace, false: Delivery) -> Iterator[Breach]:
    """Yield a breach for each effect of a forged callback that no genuine callback or response could have had."""
    genuine = (one for one in trace.deliveries if one.kind == "genuine" and _sent(one))
    true = [one.sent for one in genuine if one.job == false.job]
    until = min([moment for moment in true if moment >= false.sent] or [float("inf")])
    # Effects of an earlier genuine callback cannot be separated from effects of the forgery.
    if any(moment < false.sent for moment in true):
        return
    for step in trace.fetches:
        if false.sent < step.arrived < until and step.job == false.job and not _shown(trace, step.arrived):
            yield Breach(f"request {step.number} fetches a video that was reported only by {_article(false)} callback")
    outcome = trace.outcome
    succeeds = outcome is not None and outcome.kind == "success" and false.sent < outcome.ended < until
    if succeeds and not _shown(trace, _ended(trace)):
        yield Breach(f"the run ended with a success that was reported only by {_article(false)} callback")


def _article(false: Delivery) -> str:
    """Return the kind of a false callback with its article."""
    article = "an" if false.kind[:1] in "aeiou" else "a"
    return f"{article} {false.kind}"


def _effect(trace: AnnotatedTrace, job: str, since: float) -> float | None:
    """Return when the client first treated a job as done after a time; None if it did not, or did so earlier."""
    fetched = [step.arrived for step in trace.fetches if step.job in (job, None)]
    # The client had learned of the video in another way.
    if any(moment < since for moment in fetched):
        return None
    outcome = trace.outcome
    ended = [outcome.ended] if outcome is not None and outcome.kind == "success" and outcome.ended > since else []
    return min([*fetched, *ended], default=None)


def _went_well(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the provider had the video in time and no fault occurred outside the callbacks.

    Either a response showed the video, or the run ended before the client read the job.
    """
    usual = tuple({*trace.homes, trace.trace.origins.get("media", trace.home)})
    shown = any(step.success and step.clean and (step.video or "").startswith(usual) for step in trace.steps)
    made = any(job.id == delivery.job and job.kind == "success" for job in trace.trace.jobs or ())
    promptly = trace.outcome is not None and 0 <= trace.outcome.ended - delivery.sent <= SAME_END_SECONDS
    ordinary = all(step.ok and step.exchange.move is None and not step.failure for step in trace.steps)
    return (shown or (made and promptly)) and ordinary and trace.waited < trace.patience / 2


def _twice(trace: AnnotatedTrace, job: str, why: str) -> Iterator[Breach]:
    """Yield a breach for each file of a job that was fetched more than once. Its first frame is a separate file."""
    files = Counter(urlsplit(step.exchange.url).path for step in _wholes(trace, job))
    for count in files.values():
        if count > 1:
            yield Breach(f"a file of job {job} was fetched {count} times; {why}")


def _wholes(trace: AnnotatedTrace, job: str) -> list[Step]:
    """Return the requests for a job's complete video that succeeded without a fault."""
    found = [step for step in trace.fetches if step.delivered and step.status == 200 and step.exchange.move is None]
    return [step for step in found if step.job in (job, None) and step.exchange.header("range") is None]


def _reads(trace: AnnotatedTrace, job: str) -> list[Step]:
    return [step for step in trace.reads if step.job in (job, None)]


def _shown(trace: AnnotatedTrace, before: float) -> bool:
    """Whether a response before a time may have shown the client that there is a video."""
    earlier = (step for step in trace.steps if step.done <= before and step.role != "media")
    return any("success" in step.kinds or step.video is not None or trace.lists(step) for step in earlier)


def _genuine(trace: AnnotatedTrace) -> list[Delivery]:
    """Return the callbacks that the client had to believe: validly signed, for a known job, during its run."""
    found = [one for one in trace.deliveries if one.kind == "genuine" and _sent(one)]
    received = [one for one in found if _listening(trace, one) or (one.acknowledged and _answering(trace, one))]
    if trace.trace.drill in CLOCK_KINDS and _limits_age(trace.contract):
        # By a clock that is wrong, the callback is from another hour: to refuse it is right too.
        received = [one for one in received if one.acknowledged]
    return [one for one in received if _knows(trace, one) and _validly_signed(trace, one)]


def _by_job(deliveries: Iterable[Delivery]) -> list[tuple[str, list[Delivery]]]:
    groups: dict[str, list[Delivery]] = {}
    for one in deliveries:
        groups.setdefault(str(one.job), []).append(one)
    return list(groups.items())


def _simultaneous(one: Delivery, others: Iterable[Delivery]) -> bool:
    return any(other is not one and abs(other.sent - one.sent) <= SIMULTANEOUS_SECONDS for other in others)


def _sent(delivery: Delivery) -> bool:
    """Whether a callback was sent at all."""
    return bool(delivery.body) and delivery.note != LOST


def _ended(trace: AnnotatedTrace) -> float:
    """Return the end of the run, or of the trace."""
    return trace.outcome.ended if trace.outcome is not None else trace.trace.ended


def _listening(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client was running. Its receiver need not respond at the very end of the run."""
    return delivery.sent < _ended(trace) - SIMULTANEOUS_SECONDS


def _answering(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client was running, or responded to the callback at the very end of its run."""
    return _listening(trace, delivery) or (delivery.status is not None and delivery.sent <= _ended(trace))


def _knows(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client knew the job's id when the callback was sent."""
    known = [step for step in trace.submits if step.accepted and step.clean and step.job_told == delivery.job]
    return any(step.done < delivery.sent - SIMULTANEOUS_SECONDS for step in known)


def _knew_the_end(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client needed no callback any more, because it knew the end of the job."""
    polled = any(step.ending and step.done <= delivery.sent for step in trace.steps)
    others = (one for one in trace.deliveries if one.job == delivery.job and one is not delivery)
    return polled or any(one.acknowledged and (one.answered or one.sent) <= delivery.sent for one in others)


def _excused(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the receiver polled the provider meanwhile and failed: it may request another delivery with a 5xx."""
    until = delivery.answered or delivery.sent
    # A 5xx is the only way to request another delivery.
    meanwhile = (step for step in trace.steps if step.done >= delivery.sent and step.arrived <= until)
    return any(not step.ok or step.bad_body for step in meanwhile)


def _validly_signed(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether a callback is signed as the contract documents, as far as the trace shows."""
    signed = trace.contract.callbacks and trace.contract.callbacks.signature
    if not signed:
        return True
    headers = {name.lower(): value for name, value in delivery.headers}
    # Recorded traffic has no secret: there, only the presence of the signature can be checked.
    if trace.trace.secret is None:
        return all(name.lower() in headers for name in signed.headers)
    return verify(signed, trace.trace.secret, delivery.body, headers, now=delivery.sent)


def _false(trace: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether a callback's signature shows that it is forged."""
    signed = trace.contract.callbacks and trace.contract.callbacks.signature
    if not signed or not _sent(delivery):
        return False
    return delivery.kind in MISSIGNED


def _kinds(trace: AnnotatedTrace, delivery: Delivery) -> frozenset[str]:
    return next((kinds for one, kinds in trace.callbacks if one is delivery), frozenset())


def _named_job(trace: AnnotatedTrace, delivery: Delivery) -> str | None:
    """Return the job that the body of a callback names, or None."""
    callbacks = trace.contract.callbacks
    try:
        value = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        return None
    if callbacks is None:
        return None
    named = read_callback(trace.contract.schemas, callbacks, message_of(delivery.headers, value)).values.get("job")
    return named if isinstance(named, str) and named else None
