"""Rules about callbacks: believed only if genuine, acted on once, and not waited for in vain."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import orjson

from hobbyhorse.conformance.client.rule import ClientCheck, Rule, each_order
from hobbyhorse.contract.forms.expressions import MISSING, Message
from hobbyhorse.contract.forms.signatures import verify
from hobbyhorse.contract.reading import message_of, read_callback
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import ENDS, READS, AnnotatedTrace, Step
from hobbyhorse.traces.trace import Delivery

SIMULTANEOUS_SECONDS = 0.05
"""Seconds within which it cannot be said what came first."""
CLOSING = 1.0
"""Seconds before its end in which a client's receiver may be gone already."""
CALLBACK_REFUSALS = frozenset({400, 401, 403})
NULL = "null_payload"
SAME_END_SECONDS = 3.0
"""Seconds after a callback within which a run ends because of it."""


def each_unbroken_order(check: ClientCheck) -> ClientCheck:
    """Return a check that looks at each order by itself; at none whose client was started again."""

    @functools.wraps(check)
    def unbroken(story: AnnotatedTrace) -> list[str] | None:
        return check(story) if len(story.trace.runs) < 2 else None

    return each_order(unbroken)


@each_unbroken_order
def ack_fast(story: AnnotatedTrace) -> list[str] | None:
    """Hold what the receiver answered, and when, against the provider's deadline."""
    genuine = _genuine(story)
    return [sentence for delivery in genuine for sentence in _unreceived(story, delivery)] if genuine else None


@each_unbroken_order
def dedupe(story: AnnotatedTrace) -> list[str] | None:
    """Count what a callback that came more than once has set off."""
    found: list[str] = []
    seen = False
    for job, deliveries in _by_job(_genuine(story)):
        same = [one for one in deliveries if one.acknowledged or _at_once(one, deliveries)]
        if len(same) < 2:
            continue
        seen = True
        found += _twice(story, job, f"its end was told {len(same)} times")
        for one in same:
            if one.status is not None and not one.acknowledged and one.note != NULL and not _excused(story, one):
                found.append(f"a callback for {job} that came again was answered {one.status}; 2xx stops it")
    return found if seen else None


@each_unbroken_order
def out_of_order(story: AnnotatedTrace) -> list[str] | None:
    """Look at what a callback behind the end's first news changes."""
    found: list[str] = []
    seen = False
    for job, deliveries in _by_job(_genuine(story)):
        news = [(step.done, step.kinds) for step in story.steps if step.terminal and step.clean and step.job == job]
        news += [(one.answered or one.sent, _kinds(story, one)) for one in deliveries if one.acknowledged]
        news = sorted((one for one in news if one[1] and one[1] <= ENDS), key=lambda one: one[0])
        further = [one for one in deliveries if news and one.sent > news[0][0]]
        if not further:
            continue
        seen = True
        found += _reopened(story, job, further)
        told = frozenset[str]().union(*(kinds for _, kinds in news), *(kinds for _, kinds in story.told))
        succeeds = story.outcome is not None and story.outcome.kind == "success"
        if succeeds and "success" not in told and not _shown(story, _ended(story)):
            found.append(f"the run ends with success although {job} was told to have ended without a video")
    return found if seen else None


@each_unbroken_order
def signature(story: AnnotatedTrace) -> list[str] | None:
    """Hold the answers to genuine and to false callbacks against their signatures, and look for what they set off."""
    false = [one for one in story.trace.deliveries if _false(story, one) and _answering(story, one)]
    right = [one for one in _genuine(story) if one.note != NULL]
    found: list[str] = []
    for one in false:
        crashed = one.status is not None and one.status >= 500 and _listening(story, one)
        if crashed or one.acknowledged:
            found.append(f"a callback that was {one.kind} was answered {one.status}; it is refused with 401")
        found += _effects(story, one)
    for one in right:
        if one.status in CALLBACK_REFUSALS:
            found.append(f"a genuine callback for {one.job} was refused with {one.status}")
    return found if false or right else None


@each_unbroken_order
def trust_but_verify(story: AnnotatedTrace) -> list[str] | None:
    """Look for a read of the job between its callback and what that sets off."""
    found: list[str] = []
    seen = False
    for job, deliveries in _by_job(_genuine(story)):
        first = next((one for one in deliveries if one.acknowledged and "success" in _kinds(story, one)), None)
        effect = _effect(story, job, first.sent) if first is not None else None
        if first is None or effect is None:
            continue
        seen = True
        asked = any(first.sent <= step.done and step.arrived <= effect for step in _reads(story, job))
        if not asked and not _shown(story, effect):
            found.append(f"{job} was taken as done on the word of a callback, without a look at the job")
    return found if seen else None


@each_unbroken_order
def lost_callback(story: AnnotatedTrace) -> list[str] | None:
    """Look for a run that waits for a callback that never comes, and never asks."""
    accepted, outcome = story.accepted, story.outcome
    if accepted is None or outcome is None or story.trace.jobs is None or not _named(story, accepted):
        return None
    if any(one.kind == "genuine" and _sent(one) for one in story.trace.deliveries):
        return None
    waited = outcome.ended - accepted.done
    most = (1.0 if outcome.kind == "unfinished" else 1.25) * story.patience + 60.0
    if waited > most and not story.after(accepted, story.of(*READS, "list")):
        return [f"no callback came for {accepted.job_told}, and in {waited:.0f} s nobody asked for the job"]
    return []


@each_unbroken_order
def first_is_not_terminal(story: AnnotatedTrace) -> list[str] | None:
    """Look for an effect of a callback that tells of no end."""
    found: list[str] = []
    seen = False
    for job, deliveries in _by_job(_genuine(story)):
        first = next((one for one in deliveries if _kinds(story, one) and not _kinds(story, one) & ENDS), None)
        effect = _effect(story, job, first.sent) if first is not None else None
        if first is None:
            continue
        seen = True
        ended = [one for one in deliveries if _kinds(story, one) & ENDS and effect is not None and one.sent <= effect]
        if effect is not None and not ended and not _shown(story, effect):
            found.append(f"{job} was taken as done although its callback told of no end")
    return found if seen else None


@each_unbroken_order
def unknown_job(story: AnnotatedTrace) -> list[str] | None:
    """Look at what a callback for a job that nobody ordered sets off."""
    strange = [one for one in story.trace.deliveries if one.kind == "unknown_job" and _answering(story, one)]
    strange = [one for one in strange if _knows(story, one)]
    found: list[str] = []
    for one in strange:
        found += _unreceived(story, one)
        job = _job_told(story, one)
        if job is None or job in story.jobs:
            continue
        asks = [step for step in story.after(one.sent, story.steps) if step.job == job or job in step.exchange.url]
        found += [f"request {step.number} asks for {job}, which nobody ordered" for step in asks]
    return found if strange else None


@each_unbroken_order
def callback_and_poll(story: AnnotatedTrace) -> list[str] | None:
    """Count what the end of a job sets off that was told by a poll and by a callback."""
    found: list[str] = []
    seen = False
    for job, deliveries in _by_job(_genuine(story)):
        acknowledged = [one for one in deliveries if one.acknowledged]
        if len(acknowledged) != 1 or len(deliveries) != 1:
            continue
        until = acknowledged[0].answered or acknowledged[0].sent
        if any(step.success and step.done <= until for step in _reads(story, job)):
            seen = True
            found += _twice(story, job, "its end was told by a poll and by a callback")
    return found if seen else None


@each_unbroken_order
def null_payload(story: AnnotatedTrace) -> list[str] | None:
    """Look at what becomes of a run whose callback has no payload."""
    empty = [one for one in _genuine(story) if one.note == NULL]
    if not empty:
        return None
    found = [sentence for one in empty for sentence in _unreceived(story, one)]
    outcome = story.outcome
    if outcome is None:
        return found
    others = [one for one in story.trace.deliveries if one.kind == "genuine" and one.note != NULL and _sent(one)]
    if outcome.kind == "success" and not _shown(story, outcome.ended) and not others:
        found.append("the run ends with success although only a callback without a payload told of it")
    if outcome.kind in ("failed", "error") and not others and _went_well(story, empty[-1]):
        found.append(f"the run ends as {outcome.kind!r} although the provider showed the video")
    return found


def _unreceived(story: AnnotatedTrace, delivery: Delivery) -> list[str]:
    """Return how a callback was not received as it should be: too late, not at all, or with a crash."""
    callbacks = story.contract.callbacks
    if callbacks is None or not _sent(delivery):
        return []
    left = _ended(story) - delivery.sent
    if left <= SIMULTANEOUS_SECONDS:
        return []
    what = f"the callback {delivery.number} for {delivery.job}"
    if delivery.status is not None:
        taken = (delivery.answered or delivery.sent) - delivery.sent
        if taken > callbacks.deadline:
            return [f"{what} was answered after {taken:.1f} s; {callbacks.deadline:g} s are allowed"]
        if delivery.status >= 500 and not _excused(story, delivery):
            return [f"{what} was answered {delivery.status}"]
        return []
    if "timeout" in (delivery.error or "").lower() or "timed out" in (delivery.error or "").lower():
        late = left > callbacks.deadline + SIMULTANEOUS_SECONDS
        return [f"{what} was not answered within {callbacks.deadline:g} s"] if late else []
    if left > CLOSING and not _knew_the_end(story, delivery):
        return [f"{what} was not answered: {delivery.error or 'no reason is known'}"]
    return []


def _reopened(story: AnnotatedTrace, job: str, further: Iterable[Delivery]) -> list[str]:
    """Return what shows that a job that has ended is waited for again."""
    wholes = _wholes(story, job)
    done = min([step.done for step in wholes[:1]] + [_ended(story)])
    since = max(done, min(one.sent for one in further))
    reads = [step for step in _reads(story, job) if step.arrived > since]
    if len(reads) > 1:
        return [f"{job} had ended and its video was there; {len(reads)} more reads came after another callback"]
    return []


def _effects(story: AnnotatedTrace, false: Delivery) -> list[str]:
    """Return what a false callback has set off before anything else could."""
    genuine = (one for one in story.trace.deliveries if one.kind == "genuine" and _sent(one))
    true = [one.sent for one in genuine if one.job == false.job]
    until = min([moment for moment in true if moment >= false.sent] or [float("inf")])
    if any(moment < false.sent for moment in true):
        return []
    found = []
    for step in story.fetches:
        if false.sent < step.arrived < until and step.job == false.job and not _shown(story, step.arrived):
            found.append(f"request {step.number} fetches a video that only a callback told of that was {false.kind}")
    outcome = story.outcome
    succeeds = outcome is not None and outcome.kind == "success" and false.sent < outcome.ended < until
    if succeeds and not _shown(story, _ended(story)):
        found.append(f"the run ends with success that only a callback told of that was {false.kind}")
    return found


def _effect(story: AnnotatedTrace, job: str, since: float) -> float | None:
    """Return when a job was first taken as done after a moment; None if it was not, or had been before."""
    fetched = [step.arrived for step in story.fetches if step.job in (job, None)]
    if any(moment < since for moment in fetched):
        return None
    outcome = story.outcome
    ended = [outcome.ended] if outcome is not None and outcome.kind == "success" and outcome.ended > since else []
    return min([*fetched, *ended], default=None)


def _went_well(story: AnnotatedTrace, empty: Delivery) -> bool:
    """Whether the provider had the video in good time, and nothing but callbacks was out of the ordinary.

    It showed the video, or the run was over before anybody looked.
    """
    usual = tuple({*story.homes, story.trace.origins.get("media", story.home)})
    shown = any(step.success and step.clean and (step.video or "").startswith(usual) for step in story.steps)
    made = any(job.id == empty.job and job.kind == "success" for job in story.trace.jobs or ())
    at_once = story.outcome is not None and 0 <= story.outcome.ended - empty.sent <= SAME_END_SECONDS
    ordinary = all(step.ok and step.exchange.move is None and not step.failure for step in story.steps)
    return (shown or (made and at_once)) and ordinary and story.lasted < story.patience / 2


def _twice(story: AnnotatedTrace, job: str, why: str) -> list[str]:
    """Return a sentence for each file of a job that was fetched more than once; its picture is another file."""
    files = Counter(urlsplit(step.exchange.url).path for step in _wholes(story, job))
    return [f"a file of {job} was fetched {count} times; {why}" for count in files.values() if count > 1]


def _wholes(story: AnnotatedTrace, job: str) -> list[Step]:
    """Return the requests for a job's whole video that were granted without trouble."""
    found = [step for step in story.fetches if step.delivered and step.status == 200 and step.exchange.move is None]
    return [step for step in found if step.job in (job, None) and step.exchange.header("range") is None]


def _reads(story: AnnotatedTrace, job: str) -> list[Step]:
    return [step for step in story.reads if step.job in (job, None)]


def _shown(story: AnnotatedTrace, before: float) -> bool:
    """Whether the client may have read in an answer, before a moment, that there is a video."""
    told = (step for step in story.steps if step.done <= before and step.role != "media")
    return any("success" in step.kinds or step.video is not None or story.lists(step) for step in told)


def _genuine(story: AnnotatedTrace) -> list[Delivery]:
    """Return the callbacks that the client had to believe: rightly signed, for a job that it knew, while it ran."""
    found = [one for one in story.trace.deliveries if one.kind == "genuine" and _sent(one)]
    heard = [one for one in found if _listening(story, one) or (one.acknowledged and _answering(story, one))]
    return [one for one in heard if _knows(story, one) and _right(story, one)]


def _by_job(deliveries: Iterable[Delivery]) -> list[tuple[str, list[Delivery]]]:
    groups: dict[str, list[Delivery]] = {}
    for one in deliveries:
        groups.setdefault(str(one.job), []).append(one)
    return list(groups.items())


def _at_once(one: Delivery, others: Iterable[Delivery]) -> bool:
    return any(other is not one and abs(other.sent - one.sent) <= SIMULTANEOUS_SECONDS for other in others)


def _sent(delivery: Delivery) -> bool:
    """Whether a callback was on its way at all."""
    return bool(delivery.body) and delivery.note != "lost"


def _ended(story: AnnotatedTrace) -> float:
    """Return when the client was last there."""
    return story.outcome.ended if story.outcome is not None else story.trace.ended


def _listening(story: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client's run was going on: its receiver need not answer at its end."""
    return delivery.sent < _ended(story) - SIMULTANEOUS_SECONDS


def _answering(story: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client's run was going on, or a callback was answered at the very moment of its end."""
    return _listening(story, delivery) or (delivery.status is not None and delivery.sent <= _ended(story))


def _knows(story: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client had been told the job's id by then."""
    told = [step for step in story.submits if step.accepted and step.clean and step.job_told == delivery.job]
    return any(step.done < delivery.sent - SIMULTANEOUS_SECONDS for step in told)


def _knew_the_end(story: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the client had no more need of callbacks, for it knew that the job has ended."""
    told = any(step.ending and step.done <= delivery.sent for step in story.steps)
    others = (one for one in story.trace.deliveries if one.job == delivery.job and one is not delivery)
    return told or any(one.acknowledged and (one.answered or one.sent) <= delivery.sent for one in others)


def _excused(story: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether the receiver asked the provider meanwhile and got no answer of use: it may ask to be told again."""
    until = delivery.answered or delivery.sent
    meanwhile = (step for step in story.steps if step.done >= delivery.sent and step.arrived <= until)
    return any(not step.ok or step.bad_body for step in meanwhile)


def _right(story: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether a callback is signed as the contract says, for all that can be known."""
    signed = story.contract.callbacks and story.contract.callbacks.signature
    if not signed:
        return True
    headers = {name.lower(): value for name, value in delivery.headers}
    if story.trace.secret is None:
        return all(name.lower() in headers for name in signed.headers)
    return verify(signed, story.trace.secret, delivery.body, headers, now=delivery.sent)


def _false(story: AnnotatedTrace, delivery: Delivery) -> bool:
    """Whether a callback is one that its signature tells to be false."""
    signed = story.contract.callbacks and story.contract.callbacks.signature
    if not signed or not _sent(delivery):
        return False
    return delivery.kind in ("forged", "unsigned") or (delivery.kind == "stale" and signed.tolerance is not None)


def _kinds(story: AnnotatedTrace, delivery: Delivery) -> frozenset[str]:
    return next((kinds for one, kinds in story.told if one is delivery), frozenset())


def _job_told(story: AnnotatedTrace, delivery: Delivery) -> str | None:
    """Return the job that a callback's own bytes name."""
    callbacks = story.contract.callbacks
    try:
        value = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        return None
    if callbacks is None:
        return None
    told = read_callback(story.contract.schemas, callbacks, message_of(delivery.headers, value)).values.get("job")
    return told if isinstance(told, str) and told else None


def _named(story: AnnotatedTrace, step: Step) -> bool:
    """Whether a submission names an address for callbacks."""
    binding = story.contract.operations[step.role or ""].bindings.get("callback_url")
    try:
        message = Message({}, {}, step.exchange.header, orjson.loads(step.exchange.body))
    except orjson.JSONDecodeError:
        return False
    places = binding.request if binding is not None else ()
    return any(place.get(message) not in (MISSING, None, "") for place in places)


def _calls_back(contract: Contract) -> bool:
    return contract.callbacks is not None


def _signs(contract: Contract) -> bool:
    return contract.callbacks is not None and contract.callbacks.signature is not None


def _tells_progress(contract: Contract) -> bool:
    told = contract.callbacks.situations.values() if contract.callbacks is not None else ()
    return any(not contract.graph[name].terminal for situation in told for name in situation.stages)


def _rule(
    number: int,
    name: str,
    how: str,
    statement: str,
    why: str,
    check: ClientCheck,
    applies: Callable[[Contract], bool] = _calls_back,
    timing: bool = False,
) -> Rule:
    level, severity, channel = how.split()
    return Rule(f"CBK-{number:02}", name, level, severity, channel, statement, why, check, applies, timing)


RULES = (
    _rule(
        1,
        "ack-fast",
        "MUST S3 wire",
        "A callback is answered 2xx within the provider's deadline; the work comes after the answer.",
        "What is not acknowledged is delivered again, and then given up; the Standard Webhooks specification asks for "
        "an answer before the work, and muxinc/mux-node-sdk#83 is about what comes twice.",
        ack_fast,
        timing=True,
    ),
    _rule(
        2,
        "dedupe",
        "MUST S1 wire",
        "The same callback twice, one after the other or at once, has one effect and two acknowledgements.",
        "Deliveries are repeated, even in the same second: muxinc/mux-node-sdk#83, rmyndharis/OpenWA#464, "
        "wasp-lang/open-saas#688, kortix-ai/suna#1595, huggingface/hub-docs#2749.",
        dedupe,
    ),
    _rule(
        3,
        "out-of-order",
        "MUST S2 outcome",
        "A callback behind the end's first news opens nothing again: no more polls, and the same outcome.",
        "A job was started after it had been terminated in lablup/backend.ai#410; late ones overwrote newer ones in "
        "vellum-ai/vellum-assistant#5467 and Pulsefy/Soter#263.",
        out_of_order,
    ),
    _rule(
        4,
        "signature",
        "MUST S1 wire",
        "A callback that is unsigned, wrongly signed or signed too long ago is refused and sets nothing off; a genuine "
        "one is not refused.",
        "A verifier that always says yes, one that accepted forgeries, and one that nobody called: "
        "corsairdev/corsair#969, Skyvern-AI/skyvern#7987, ComposioHQ/composio#2168.",
        signature,
        applies=_signs,
    ),
    _rule(
        5,
        "trust-but-verify",
        "SHOULD S1 wire",
        "Before a callback's word is acted on, the job is read from the provider.",
        "An address that takes callbacks is known to more than the provider; code100x/photo-ai#74 took unsigned ones "
        "as they came.",
        trust_but_verify,
    ),
    _rule(
        6,
        "lost-callback",
        "MUST S2 outcome",
        "A callback that does not come is not waited for for ever: the job is polled, or the run ends.",
        "A provider took the address and never delivered: google-gemini/cookbook#1297.",
        lost_callback,
    ),
    _rule(
        7,
        "first-is-not-terminal",
        "MUST S2 wire",
        "A callback that tells of progress is not taken as the end.",
        "The first notification may be progress or a challenge: vercel/ai#20561.",
        first_is_not_terminal,
        applies=_tells_progress,
    ),
    _rule(
        8,
        "unknown-job",
        "MUST S1 wire",
        "A callback for a job that was never ordered is answered, and nothing is asked or fetched for it.",
        "Where whatever comes is acted on, anybody can set off work, and somebody else's: code100x/photo-ai#74.",
        unknown_job,
    ),
    _rule(
        9,
        "callback-and-poll",
        "MUST S1 wire",
        "An end that is told by a poll and by a callback has one effect.",
        "Two ways to the same end are two effects where nobody holds them together: muxinc/mux-node-sdk#83, "
        "rmyndharis/OpenWA#464.",
        callback_and_poll,
    ),
    _rule(
        10,
        "null-payload",
        "MUST S2 outcome",
        "A callback whose payload is null crashes nothing and decides nothing that the job itself does not say.",
        "The payload is null where it could not be built, with an error beside it: fal-ai/fal-js#153.",
        null_payload,
    ),
)
