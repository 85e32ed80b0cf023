"""Rules about callbacks: each arrives once, is signed, and agrees with a poll. Knows no server."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hobbyhorse.conformance.rule import MUST, OBSERVED, SECURITY, SHOULD, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.expected import (
    body_of,
    body_pointer,
    presence_places,
    responses_of,
    set_in_lifecycle,
)
from hobbyhorse.conformance.server.receiver import ELSEWHERE, ORDER
from hobbyhorse.conformance.server.rules.lifecycle import PLAUSIBLE
from hobbyhorse.conformance.server.rules.outcomes import REASONS, is_empty
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, resolve
from hobbyhorse.contract.forms.signatures import Signature, read_header, verify
from hobbyhorse.contract.reading import Reading, as_json, message_of, read_callback
from hobbyhorse.contract.values import Callbacks, Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own, reads_of, schema_places
from hobbyhorse.traces.trace import Delivery

PLACE = "lifecycle.json#/callbacks"
# Callbacks and responses take separate connections: within a second their order proves nothing.
ORDER_TOLERANCE_SECONDS = 1.0
# A retry may arrive later than documented, by a factor and some seconds: queues drain slowly and delays have jitter.
SLACK, ALLOWANCE = 30.0, 1.5
# The words of a documented retry.
RETRIES = re.compile(r"\b(again|retr(y|ied|ies)|redeliver|repeat)", re.IGNORECASE)
# An undocumented first delay is a matter of seconds; documented ones are at most a minute.
LONGEST_FIRST_RETRY = 90.0
# 410 tells the sender that the receiver is gone for good.
UNSUBSCRIBED = 410
# An exponential schedule at least doubles the delay; jitter may make less of it, but not of each of three delays.
GROWTH, FEW_DELAYS = 1.3, 3
# The probe that submits with a reachable callback URL, the role that sends a callback once more, and its probe.
ORDERED = "callback:order"
REDELIVER, REDELIVERED = "redeliver", "callback:redelivered"
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
        return f"callback {self.delivery.number} for job {self.job}"


def _calls_back(contract: Contract) -> bool:
    return contract.callbacks is not None


def _signs(contract: Contract) -> bool:
    return contract.callbacks is not None and contract.callbacks.signature is not None


@rule(
    "NTF-01",
    "schema",
    level=MUST,
    severity="S2",
    applies=_calls_back,
    says="Every field of a callback matches the documented schema, and none contradicts its outcome.",
    because="A null payload for a job that has ended breaks every receiver: fal-ai/fal-js#153.",
    fix="Build callbacks with the same serializer as the response to a poll, and validate them against the documented "
    "schema in a test.",
)
def schema(trace: AnnotatedTrace) -> Evidence:
    """Validate each callback against the contract's situations and schemas."""
    for call in _calls(trace):
        yield OBSERVED
        yield from _misshapen(trace, call)


def _misshapen(trace: AnnotatedTrace, call: ReceivedCallback) -> Iterator[Breach]:
    """Yield the violations of one callback; nothing if it fully matches one of its situations."""
    callbacks = _callbacks(trace)
    if call.value is MISSING:
        yield Breach(
            f"{call} is not valid JSON", (f"{PLACE}/operationId",), call.delivery.body[:200].decode(errors="replace")
        )
        return
    names = call.reading.situations
    # Without these two values a receiver cannot use the callback, whatever else of it is only assumed.
    for name in ("job", "stage"):
        if name in callbacks.bindings and name not in call.reading.values:
            yield Breach(f"{call} has no {name}", (f"{PLACE}/bindings/{name}",))
    yield from _contradicting(callbacks, call)
    if not names:
        yield Breach(
            f"{call} matches none of the documented situations: {', '.join(callbacks.situations)}",
            (f"{PLACE}/situations",),
            call.stage,
        )
    found = []
    for name in names:
        at = callbacks.situations[name].schema
        violations = trace.contract.schemas.violations(at, call.value, most=5)
        if not violations:
            return
        for violation in violations:
            places = schema_places(trace.contract.schemas, at, violation)
            found.append(Breach(f"{call} ({name}): {violation}", places, str(violation)))
    yield from found[:5]


def _contradicting(callbacks: Callbacks, call: ReceivedCallback) -> Iterator[Breach]:
    """Yield an error beside a success, and an end before the creation."""
    values = call.reading.values
    for name in ("error_code", "error_message"):
        if call.kinds == {"success"} and values.get(name):
            message = f"{call} reports {call.stage!r}, but has {name} {values[name]!r}"
            yield Breach(message, (f"{PLACE}/bindings/{name}",))
    made, ended = values.get("created_at"), values.get("finished_at")
    if isinstance(made, float) and isinstance(ended, float) and ended < made - ORDER_TOLERANCE_SECONDS:
        places = tuple(
            f"{callbacks.situations[name].example_at}{format_pointer(place.pointer)}"
            for name in call.reading.situations
            for place in callbacks.bindings["finished_at"].request
        )
        yield Breach(f"{call} has finished_at {ended}, which is before created_at {made}", places, ended)


@rule(
    "NTF-02",
    "signature",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    applies=_signs,
    says="A callback is signed as documented, over the exact bytes that are sent.",
    because="A receiver that cannot verify signatures ends up trusting every sender: Skyvern-AI/skyvern#7987.",
    fix="Serialize the callback once, sign these bytes as documented, and send exactly these bytes.",
)
def signature(trace: AnnotatedTrace) -> Evidence:
    """Verify each callback's signature; if another interpretation of the contract fits, name it."""
    how, secret = _callbacks(trace).signature, trace.trace.secret
    if how is None:
        return
    for call in _calls(trace):
        if call.delivery.body and secret:
            yield OBSERVED
            yield from _invalid_signature(trace, how, secret, call)
        # Whoever knows the documentation can sign so, whether or not a secret is registered.
        elif call.delivery.body and _verified(how, "", call):
            yield Breach(f"{call} is signed with an empty secret", (f"{PLACE}/signature/content",))


def _invalid_signature(trace: AnnotatedTrace, how: Signature, secret: str, call: ReceivedCallback) -> Iterator[Breach]:
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
        yield _other_reading(trace.contract, how, secret, call)
    elif (impossible := _impossible_time(trace, how, call)) is not None:
        # However long a callback may take, it is not sent before its job, nor in another century.
        name, words = impossible
        yield Breach(f"{call}: {name} {words}", (f"{at}/headers/{name}",), headers.get(name.lower()))
    elif not _verified(how, secret, call, now=call.delivery.sent):
        message = f"{call} has a timestamp that differs from its arrival time by more than {how.tolerance:g} s"
        yield Breach(message, (f"{at}/tolerance",), {name: headers.get(name.lower()) for name in how.headers})


def _impossible_time(trace: AnnotatedTrace, how: Signature, call: ReceivedCallback) -> tuple[str, str] | None:
    """Return the header whose timestamp cannot be the time at which a callback was sent, and the reason."""
    made = making(trace, call.job)
    for name, pattern in how.headers.items():
        text = next(iter(read_header(pattern, _header(call, name)).get("timestamp", ())), None)
        if text is None or how.tolerance is None:
            continue
        if not re.fullmatch("[0-9]{1,18}", text):
            return name, f"has the timestamp {text!r}, which is not a number of seconds"
        if abs(int(text) - call.delivery.sent) > PLAUSIBLE:
            return name, f"has the timestamp {text}, which is more than ten years from now"
        if made is not None and int(text) < made.arrived - how.tolerance:
            return name, f"has the timestamp {text}, {made.arrived - int(text):.0f} s before the job was submitted"
    return None


def _header(call: ReceivedCallback, name: str) -> str:
    return dict(call.delivery.headers).get(name.lower(), "")


def _signed(how: Signature) -> list[str]:
    """Return the header values that are part of the signed content."""
    return [part for part in ("timestamp", "id") if "{" + part + "}" in how.content]


def _other_reading(contract: Contract, how: Signature, secret: str, call: ReceivedCallback) -> Breach:
    """Return the breach of an invalid signature, with the interpretation that makes it valid, if one does."""
    at = f"{PLACE}/signature"
    ways = [("secret", word) for word in SECRETS] + [("encoding", word) for word in ENCODINGS]
    for name, word in ways:
        other = dataclasses.replace(how, secret=word) if name == "secret" else dataclasses.replace(how, encoding=word)
        if _verified(other, secret, call):
            patch = set_in_lifecycle(contract, f"/callbacks/signature/{name}", word)
            return Breach(
                f"{call} is signed with {name} {word!r}; documented: {getattr(how, name)!r}",
                (f"{at}/{name}",),
                word,
                patch,
            )
    return Breach(f"{call} has an invalid signature", (f"{at}/content",))


def _verified(how: Signature, secret: str, call: ReceivedCallback, now: float | None = None) -> bool:
    try:
        return verify(how, secret, call.delivery.body, dict(call.delivery.headers), now=now)
    except ValueError:  # the secret is not valid base64, so this interpretation cannot be the right one
        return False


@rule(
    "NTF-03",
    "same-as-poll",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_calls_back,
    says="A callback is sent to the submitted URL, names its own job, and reports the same outcome and the same video "
    "as a poll.",
    because="A client that polls and a client that receives callbacks must get the same video: "
    "vellum-ai/vellum-assistant#5467.",
    fix="Build the callback from the stored job, after the update that ends it.",
)
def same_as_poll(trace: AnnotatedTrace) -> Evidence:
    """Compare the job, the outcome and the video of each callback with the last poll."""
    for call in _calls(trace):
        named = (f"{PLACE}/bindings/job",)
        if call.delivery.job in trace.jobs and call.job != call.delivery.job:
            yield Breach(f"{call} was sent to the callback URL of job {call.delivery.job}", named, call.job)
        if not _may_call_back(trace, call.job):
            message = f"{call} is about a job that was submitted without a callback URL"
            yield Breach(message, named, call.job)
        if call.delivery.note == ELSEWHERE and _has_url_of_its_own(trace, call.job):
            yield Breach(f"{call} was {ELSEWHERE} than the submitted one", (f"{PLACE}/operationId",), call.job)
        reads = [read for read in reads_of(trace, call.job) if read.terminal]
        if reads and call.kinds:
            yield OBSERVED
            yield from _differs(_callbacks(trace), call, reads)


def _may_call_back(trace: AnnotatedTrace, job: str | None) -> bool:
    """Whether a job may have callbacks: only jobs that the suite itself submitted without a callback URL may not."""
    urls, binding = _callback_urls(trace, job), trace.contract.operations["submit"].bindings.get("callback_url")
    elsewhere = binding is None or any(place.part != "body" for place in binding.request)
    return not urls or elsewhere or any(url is not MISSING for url in urls)


def _has_url_of_its_own(trace: AnnotatedTrace, job: str | None) -> bool:
    """Whether each submission of a job named a callback URL with the parameter that tells orders apart."""
    urls = _callback_urls(trace, job)
    return bool(urls) and all(isinstance(url, str) and ORDER in dict(parse_qsl(urlsplit(url).query)) for url in urls)


def _callback_urls(trace: AnnotatedTrace, job: str | None) -> list[Any]:
    """Return the callback URLs in the bodies of a job's submissions; empty if one of them is not known.

    Several submissions get one job if a key is repeated, or if the endpoint confuses them. Each of their URLs may then
    be the right one.
    """
    binding = trace.contract.operations["submit"].bindings.get("callback_url")
    places = [place.pointer for place in (binding.request if binding else ()) if place.part == "body"]
    found = list[Any]()
    for step in (one for one in trace.submits if one.accepted and one.job_told == job):
        body = body_of(step)
        if step.exchange.probe is None or body is MISSING:
            return []
        named = (resolve(body, place) for place in places)
        found.append(next((url for url in named if url is not MISSING), MISSING))
    return found


def _differs(callbacks: Callbacks, call: ReceivedCallback, reads: list[Step]) -> Iterator[Breach]:
    """Yield the differences between a callback and the last poll."""
    last = reads[-1]
    if not call.kinds & last.kinds:
        places = tuple(f"{PLACE}/situations/{name}/stages" for name in call.reading.situations)
        message = f"{call} reports {call.stage!r}, but request {last.number} (a poll) reports {last.stage!r}"
        yield Breach(message, places, call.stage)
        return
    # If polls returned several videos (one per read, say), there is no single video to compare with.
    polled = {_file(read.video) for read in reads if read.video is not None}
    # A receiver without a documented video asks for it.
    if len(polled) != 1 or "success" not in call.kinds or "video_url" not in callbacks.bindings:
        return
    video = call.reading.values.get("video_url")
    if not isinstance(video, str) or _file(video) not in polled:
        message = f"{call} has video {video or None!r}, but the poll has {min(polled)!r}"
        yield Breach(message, (f"{PLACE}/bindings/video_url",), video)


def _file(url: str | None) -> str:
    """Return a URL without its query, which may be a signature."""
    return (url or "").partition("?")[0].partition("#")[0]


@rule(
    "NTF-04",
    "retried",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_calls_back,
    says="A callback is delivered at least once and retried until acknowledged; each retry at most 1.5 x the "
    "documented delay + 30 s later.",
    because="Without a retry, a receiver that was briefly down never learns about its job: "
    "google-gemini/cookbook#1297.",
    fix="Put callbacks into a persistent queue, and retry each on the documented schedule until a 2xx arrives.",
)
def retried(trace: AnnotatedTrace) -> Evidence:
    """Find missing callbacks, and unacknowledged callbacks without a retry, if the trace is long enough."""
    for _, calls in _by_job(trace):
        # Only as many retries are due as are documented.
        for number, (call, delay) in enumerate(zip(calls, _callbacks(trace).retries, strict=False)):
            # No retry is due after a 2xx, or after a 410.
            if call.delivery.acknowledged or call.delivery.status == UNSUBSCRIBED:
                break
            following = calls[number + 1] if number + 1 < len(calls) else None
            yield from _late(trace, call, following, number=number, delay=delay)
    yield from _never(trace)


def _late(
    trace: AnnotatedTrace, call: ReceivedCallback, following: ReceivedCallback | None, *, number: int, delay: float
) -> Evidence:
    """Check that an unacknowledged callback is repeated within its delay, if the trace is long enough."""
    one, deadline = call.delivery, _callbacks(trace).deadline
    latest = one.sent + (deadline if one.status is None else 0.0) + ALLOWANCE * delay + SLACK
    came = trace.trace.ended if following is None else following.delivery.sent
    if following is not None:
        yield OBSERVED
    if came > latest:
        outcome = f"refused with {one.status}" if one.status else "not acknowledged"
        waited, allowed = came - one.sent, latest - one.sent
        message = f"{call} was {outcome} and not retried within {waited:.0f} s; allowed: {allowed:.0f} s"
        assumed = (f"{PLACE}/retries/{number}", f"{PLACE}/retries")
        # The delays may be assumed although the retry is documented: no retry at all contradicts the documents.
        never = following is None and number == 0 and waited > longest_first_retry(_callbacks(trace))
        yield Breach(message, _promise(trace.contract) if never else assumed, one.status)


def longest_first_retry(callbacks: Callbacks) -> float:
    """Return the seconds after which a first retry is missing, not late, even if its delay is only assumed."""
    return max(LONGEST_FIRST_RETRY, ALLOWANCE * callbacks.retries[0] + SLACK) if callbacks.retries else 0.0


def promises_retry(contract: Contract) -> bool:
    """Whether the documentation of the callback says that an unacknowledged one is sent again."""
    return any(RETRIES.search(str(contract.schemas.at(place))) for place in _texts(contract))


def _promise(contract: Contract) -> tuple[str, ...]:
    """Return the texts that promise a retry, or else the place of the delays."""
    found = tuple(place for place in _texts(contract) if RETRIES.search(str(contract.schemas.at(place))))
    return found or (f"{PLACE}/retries",)


def _texts(contract: Contract) -> Iterator[str]:
    """Yield the places of the texts that describe the callback and the receiver's responses."""
    operation_id = contract.callbacks.operation_id if contract.callbacks is not None else None
    around = responses_of(contract.operations["submit"]).removesuffix("responses") + "callbacks"
    for pointer, spec in _callback_operations(contract.schemas.at(around)):
        at = around + format_pointer(pointer)
        if spec.get("operationId") == operation_id:
            yield from (f"{at}/{word}" for word in ("summary", "description") if word in spec)
            yield from (f"{at}/responses/{code}/description" for code in spec.get("responses", ()))


def _callback_operations(named: Any) -> Iterator[tuple[Pointer, Mapping[str, Any]]]:
    """Yield the operations of an OpenAPI `callbacks` object: by name, by URL and by method."""
    levels: list[tuple[Pointer, Any]] = [((), named)]
    for _ in ("name", "url", "method"):
        inner = [(at, one) for at, one in levels if isinstance(one, dict)]
        levels = [((*at, name), one[name]) for at, one in inner for name in one]
    yield from ((at, one) for at, one in levels if isinstance(one, dict))


def _never(trace: AnnotatedTrace) -> Iterator[Breach]:
    """Yield the jobs that were submitted with a callback URL, ended long ago, and got no callback."""
    callbacks = _callbacks(trace)
    notified = {call.job for call in _calls(trace)}
    patience = callbacks.retries[0] if callbacks.retries else 0.0
    for order in trace.submits:
        job = order.job_told
        if order.exchange.probe != ORDERED or job is None or job in notified:
            continue
        end = next((read for read in reads_of(trace, job) if read.terminal), None)
        if end is None:
            continue
        waited = trace.trace.ended - end.done
        # The first attempt may have been lost, so wait for the first retry, too.
        if waited > callbacks.deadline + ALLOWANCE * patience + SLACK:
            message = f"job {job} has ended, but no callback arrived within {waited:.0f} s"
            yield Breach(message, (f"{PLACE}/operationId",))


@rule(
    "NTF-05",
    "none-after-acknowledgement",
    level=SHOULD,
    severity="S3",
    applies=_calls_back,
    says="A callback that was acknowledged in time is not sent again.",
    because="A receiver that does not deduplicate handles each repetition again: muxinc/mux-node-sdk#83.",
    fix="Remove a callback from the queue when its 2xx arrives, before the next attempt is scheduled.",
)
def none_after_acknowledgement(trace: AnnotatedTrace) -> Evidence:
    """Find callbacks that are repeated after a timely acknowledgement."""
    deadline = _callbacks(trace).deadline
    for _, calls in _by_job(trace):
        numbers = (number for number, call in enumerate(calls) if _acknowledged_within(deadline, call))
        first = next(numbers, None)
        if first is not None:
            yield OBSERVED
            yield from _repeated(calls[first], calls[first + 1 :])


def _acknowledged_within(deadline: float, call: ReceivedCallback) -> bool:
    one = call.delivery
    return one.acknowledged and one.answered is not None and one.answered - one.sent <= deadline


def _repeated(call: ReceivedCallback, others: Sequence[ReceivedCallback]) -> Iterator[Breach]:
    """Yield the first repetition of an acknowledged callback."""
    one = call.delivery
    acknowledged = one.sent if one.answered is None else one.answered
    later = (other for other in others if other.delivery.sent > acknowledged + ORDER_TOLERANCE_SECONDS)
    again = next((other for other in later if other.stage == call.stage), None)
    if again is not None:
        after = again.delivery.sent - acknowledged
        # After a slow acknowledgement the provider may count by another deadline than the documented one.
        slow = (f"{PLACE}/deadline",) if acknowledged - one.sent > ORDER_TOLERANCE_SECONDS else ()
        message = f"{call} was acknowledged, but sent again {after:.0f} s later"
        yield Breach(message, (*slow, PLACE), again.delivery.number)


@rule(
    "NTF-06",
    "readable-first",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_calls_back,
    says="When a callback arrives, a poll already shows the state that the callback reports.",
    because="A receiver that looks the job up still sees it running, and waits forever: lablup/backend.ai#410.",
    fix="Commit the end of the job before the callback is queued, and serve polls from the same store.",
)
def readable_first(trace: AnnotatedTrace) -> Evidence:
    """Compare the first poll after each callback with the terminal stage that the callback reported."""
    for _, calls in _by_job(trace):
        call = next((call for call in calls if call.kinds), None)
        read = _first_poll_after(trace, call) if call is not None else None
        if call is None or read is None or (_gone(read) and not own(trace, read)):
            continue
        yield OBSERVED
        if not read.terminal:
            got = read.stage if read.ok else read.status
            places = tuple(f"{PLACE}/situations/{name}/stages" for name in call.reading.situations)
            message = f"{call} reports {call.stage!r}, but request {read.number} (the next poll) gets {got!r}"
            yield Breach(message, places, got)


def _first_poll_after(trace: AnnotatedTrace, call: ReceivedCallback) -> Step | None:
    """Return the first poll after a callback that shows the job's state."""
    later = [read for read in reads_of(trace, call.job) if read.arrived >= call.delivery.sent]
    # A failed poll, or one that a rate limit refused, shows nothing.
    return next((read for read in later if read.delivered and (read.under_way or read.terminal or _gone(read))), None)


def _gone(read: Step) -> bool:
    return read.status in (404, 410)


def _reports_failures(contract: Contract) -> bool:
    return contract.callbacks is not None and any(name in contract.callbacks.bindings for name in REASONS)


@rule(
    "NTF-07",
    "reason",
    level=MUST,
    severity="S2",
    applies=_reports_failures,
    says="The callback of a failed job has the documented error code and message.",
    because="A receiver without the reason cannot decide whether to correct the request or to repeat it.",
    fix="Build the callback of a failure from the stored error, as the response to a poll is built.",
)
def reason(trace: AnnotatedTrace) -> Evidence:
    """Find callbacks of failed jobs without an error that every example of their situation shows."""
    contract, callbacks = trace.contract, _callbacks(trace)
    for call in _calls(trace):
        for name in REASONS if call.kinds == {"failure"} else ():
            places = _shown_in_examples(callbacks, call, name)
            if not places or any(is_empty(contract.schemas.at(place)) for place in places):
                continue
            yield OBSERVED
            if is_empty(call.reading.values.get(name, MISSING)):
                where = " or ".join(body_pointer(place) for place in callbacks.bindings[name].request)
                message = f"{call} reports {call.stage!r}, but has no {name} ({where})"
                yield Breach(message, (*presence_places(contract, places), f"{PLACE}/bindings/{name}"))


def _delays_grow(contract: Contract) -> bool:
    return contract.callbacks is not None and contract.callbacks.growing


@rule(
    "NTF-08",
    "growing-delays",
    level=MUST,
    severity="S3",
    applies=_delays_grow,
    says="The delays between the attempts of an unacknowledged callback grow, if the contract says so.",
    because="A receiver that is restarted meets every attempt of a callback within seconds, and loses it for good.",
    fix="Multiply the delay by a constant factor after each attempt that is not acknowledged.",
)
def growing_delays(trace: AnnotatedTrace) -> Evidence:
    """Compare the delays between the attempts of each callback that was refused several times."""
    for job, calls in _by_job(trace):
        sent = [call.delivery.sent for call in _attempts(calls)]
        delays = [later - earlier for earlier, later in pairwise(sent)]
        if not delays:
            continue
        # A longer silence than the first delay shows the growth as well as a late attempt does.
        silent = calls[-1].delivery.sent == sent[-1] and not calls[-1].delivery.acknowledged
        if len(delays) > 1 or (silent and trace.trace.ended - sent[-1] > GROWTH * delays[0]):
            yield OBSERVED
        if len(delays) >= FEW_DELAYS and max(delays) < GROWTH * min(delays):
            words = ", ".join(f"{delay:.1f}" for delay in delays)
            message = f"the attempts of the callback for job {job} are the same time apart: {words} s"
            yield Breach(message, (f"{PLACE}/growing",), delays)


def _redelivers(contract: Contract) -> bool:
    return contract.callbacks is not None and REDELIVER in contract.operations


@rule(
    "NTF-09",
    "redelivered",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_redelivers,
    says="A callback that is requested once more is sent once more, with the same values.",
    because="A receiver that was down for a day requests what it missed, and handles it like every other callback.",
    fix="Send a requested callback through the queue, the serializer and the signature of the first one.",
)
def redelivered(trace: AnnotatedTrace) -> Evidence:
    """Find granted requests without a callback, and callbacks that differ from the first one of their job."""
    calls = _calls(trace)
    for step in trace.of(REDELIVER):
        if not step.ok or step.exchange.job is None:
            continue
        alike = [call for call in calls if call.delivery.job == step.exchange.job]
        before = [call for call in alike if call.delivery.sent < step.arrived]
        again = next((call for call in alike if call.delivery.sent >= step.arrived), None)
        if again is None and trace.trace.ended - step.done > _callbacks(trace).deadline + SLACK:
            message = f"request {step.number} ({step.role}) was granted, but no callback of job {step.exchange.job} "
            yield Breach(f"{message}arrived later", (PLACE,), step.status)
        if again is None or not before:
            continue
        yield OBSERVED
        names = sorted(name for name in before[0].reading.values if _value(before[0], name) != _value(again, name))
        if names:
            message = f"{again}, requested by request {step.number}, differs from the first one in {', '.join(names)}"
            yield Breach(message, (f"{PLACE}/bindings/{names[0]}",), str(_value(again, names[0])))


def _value(call: ReceivedCallback, name: str) -> Any:
    """Return a value of a callback, without what may be signed anew."""
    found = call.reading.values.get(name)
    return _file(found) if isinstance(found, str) else found


def _attempts(calls: Sequence[ReceivedCallback]) -> list[ReceivedCallback]:
    """Return the callbacks of a job up to the first one that was acknowledged."""
    accepted = next((number for number, call in enumerate(calls) if call.delivery.acknowledged), len(calls))
    return list(calls[: accepted + 1])


def _shown_in_examples(callbacks: Callbacks, call: ReceivedCallback, name: str) -> list[str]:
    """Return the places of a value in the examples of the situations that a callback may be."""
    places = callbacks.bindings[name].request if name in callbacks.bindings else ()
    examples = [callbacks.situations[situation].example_at for situation in call.reading.situations]
    return [example + body_pointer(place) for example in examples for place in places if place.part == "body"]


def _calls(trace: AnnotatedTrace) -> list[ReceivedCallback]:
    """Return the genuine callbacks in the order of their arrival."""
    callbacks = _callbacks(trace)
    found = []
    for delivery in sorted(trace.trace.deliveries, key=lambda one: one.sent):
        # The fake sends forged callbacks to test receivers; they are not the provider's.
        if delivery.kind != "genuine":
            continue
        value = as_json(delivery.body)
        reading = read_callback(trace.contract.schemas, callbacks, message_of(delivery.headers, value))
        kinds = frozenset(trace.contract.graph[name].kind for name in reading.stages)
        found.append(ReceivedCallback(delivery, value, reading, kinds))
    return found


def _by_job(trace: AnnotatedTrace) -> Iterator[tuple[str, list[ReceivedCallback]]]:
    """Yield the callbacks of each job in the trace; late callbacks of older jobs are left out, and requested ones."""
    calls, requested = _calls(trace), dict[str | None, float]()
    for step in trace.of(REDELIVER):
        requested.setdefault(step.exchange.job, step.arrived)
    for job in dict.fromkeys(call.job for call in calls):
        if job is not None and job in trace.jobs:
            until = requested.get(job, float("inf"))
            yield job, [call for call in calls if call.job == job and call.delivery.sent < until]


def _callbacks(trace: AnnotatedTrace) -> Callbacks:
    found = trace.contract.callbacks
    assert found is not None
    return found
