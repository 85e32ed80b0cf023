"""Rules about submissions: one order creates one job. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from hobbyhorse.conformance.client.grouping import had_response, misleading_date, went_on
from hobbyhorse.conformance.client.rules.retrying import requested_wait
from hobbyhorse.conformance.rule import (
    MONEY,
    MUST,
    OBSERVED,
    OUTCOME,
    PROVIDERS,
    SHOULD,
    VIDEO,
    WIRE,
    Breach,
    Evidence,
    rule,
)
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import ENDS, GAVE_UP, SUBMISSIONS, AnnotatedTrace, Step, canonical, credentials
from hobbyhorse.traces.orders import reads_of

# The situation of a submission whose first attempt is in progress.
IN_FLIGHT = "key_in_flight"
# The contracts' situations that refuse a key because an earlier submission used it.
REUSED = frozenset({"key_mismatch", "key_used", IN_FLIGHT})
# The statuses of a refusal that a later attempt may not meet.
TOO_MANY, UNAVAILABLE = 429, 503
REFUSED_FOR_NOW = frozenset({TOO_MANY, UNAVAILABLE})
# Retries of a refused submission: enough for an exponential backoff of a few minutes, too few for a fixed fast loop.
MOST_RETRIES = 8
# Seconds between retries, on average, from which their number does not matter: they end at the client's own deadline,
# which RTY-06 judges.
SLOW_RETRIES = 10.0
# Seconds before the first retry of a refused submission: 0.1, less the rounding of recorded times (1 ms).
LEAST_RESEND_GAP = 0.1 - 0.001
# Statuses of a proxy that lost the response to a submission. 500 is absent: it does not invite another attempt.
LOST = frozenset({408, 502, 504})
# The classes of the stages that end a job which is not billed.
WITHOUT_VIDEO = ENDS - {"success"}
# Seconds: a longer requested wait, or a later end of the run, may mean that the client's own deadline ended it.
PROMPTLY = 60.0


def _keyed(contract: Contract) -> bool:
    return contract.idempotency.mode != "none"


def _reuses(contract: Contract) -> bool:
    return bool(REUSED & set(contract.operations["submit"].situations))


@rule(
    "SUB-01",
    "no-ambiguous-resend",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    says="After a submission whose outcome is unknown (no response, an incomplete response, 408, 500, 502 or 504), do "
    "not submit again, unless the provider replays idempotency keys and both key and body are the same.",
    because="The first submission may have been accepted and billed: one click became four paid jobs in "
    "Comfy-Org/ComfyUI#16204.",
    fix="After a timeout, a lost response or a 500, do not send the submission again: raise an error that calls the "
    "outcome unknown, or repeat it with the same idempotency key if the provider replays keys.",
    example="submit",
)
def no_ambiguous_resend(trace: AnnotatedTrace) -> Evidence:
    for order in trace.orders:
        for number, step in enumerate(order):
            if not step.ambiguous or not went_on(trace, step):
                continue
            yield OBSERVED
            again = next((other for other in order[number + 1 :] if not trace.same(step, other)), None)
            if again is not None:
                how = f"status {step.status}" if step.status else "no response"
                yield Breach(
                    f"request {step.number} may have created a job ({how}), but request {again.number} submits again"
                )


@rule(
    "SUB-02",
    "stable-key",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    applies=_keyed,
    says="All attempts to submit one order carry the same idempotency key; different orders carry different keys.",
    because="A new key for each attempt protects nothing, and one key for all orders returns another order's job: "
    "Comfy-Org/comfy-python-sdk#79, vercel/ai#18384, calesthio/OpenMontage#323.",
    fix="Generate the idempotency key once per order, before the first attempt, and send it with every attempt.",
    example="new",
)
def stable_key(trace: AnnotatedTrace) -> Evidence:
    # One submission, or several without a key, show nothing about keys.
    if len(trace.submits) > 1 and any(trace.key(step) is not None for order in trace.orders for step in order):
        yield OBSERVED
    owners: dict[object, tuple[int, bytes]] = {}
    for number, order in enumerate(trace.orders):
        yield from _keys_within(trace, order)
        for step in order:
            key, body = trace.key(step), canonical(step.exchange.body)
            if key is None:
                continue
            # Each API key has idempotency keys of its own.
            owner, first = owners.setdefault((credentials(trace.contract, step.exchange), key), (number, body))
            if owner != number:
                yield Breach(f"request {step.number} reuses the idempotency key {key!r} of another order")
            elif first != body:
                yield Breach(f"request {step.number} sends the idempotency key {key!r} with another body than before")


def _keys_within(trace: AnnotatedTrace, order: tuple[Step, ...]) -> Iterator[Breach]:
    """Yield a breach if the attempts to submit one order have no key although they need one, or several keys."""
    keys = {trace.key(step) for step in order}
    # Without a key, a resend is safe only after certain refusals.
    if keys == {None} and not all(step.refused for step in order[:-1]):
        sent = f"one order was submitted {len(order)} times without an idempotency key"
        yield Breach(f"{sent}, although the provider supports it: {trace.contract.idempotency.named}")
    if len(keys) > 1:
        yield Breach(f"one order was submitted with {len(keys)} idempotency keys: {', '.join(sorted(map(str, keys)))}")


@rule(
    "SUB-03",
    "reject-mode",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    applies=_reuses,
    says="If the provider refuses a key because it was used before, look up the existing job; do not submit again with "
    "a new key.",
    because="The refusal means that the first submission exists: a new key pays for the job twice "
    "(Comfy-Org/docs#1723).",
    fix="When a key is refused because it was used, look up the job that it made, or report the order as unknown; do "
    "not generate another key.",
    example="submit",
)
def reject_mode(trace: AnnotatedTrace) -> Evidence:
    for order in trace.orders:
        for number, step in enumerate(order):
            used = step.delivered and set(step.reading.situations) & REUSED and step.status >= 400
            if used and went_on(trace, step):
                yield OBSERVED
                for other in order[number + 1 :]:
                    if trace.key(other) != trace.key(step):
                        refusal = f"the key was refused as used ({step.status}, request {step.number})"
                        yield Breach(f"{refusal}, but request {other.number} submits with a new key")


@rule(
    "SUB-04",
    "safe-resend-allowed",
    level=SHOULD,
    severity="S3",
    channel=WIRE,
    timing=True,
    says="A submission that was certainly not accepted (429, 503) may be retried a few times, with growing pauses.",
    because="Immediate retries keep the provider overloaded and the key blocked: ddcat-ai/open-ai-canvas#492.",
    fix="Bound the retries of a refused submission by a small number, such as 5, and double the pause after each.",
    example="submit",
)
def safe_resend_allowed(trace: AnnotatedTrace) -> Evidence:
    for order in trace.orders:
        refused = [step for step in order if step.refused and step.status in REFUSED_FOR_NOW]
        # A client may also report the refusal, which SUB-07 judges.
        if refused and refused[0].number < order[-1].number:
            yield OBSERVED
        # The wait that a Retry-After requests, and the number of such waits, are subjects of RTY-01 and RTY-06.
        own = [step for step in refused if step.exchange.answer_header("retry-after") is None]
        if len(own) > MOST_RETRIES and own[-1].arrived - own[0].arrived < SLOW_RETRIES * (len(own) - 1):
            yield Breach(f"the submission was refused {len(own)} times; allowed: {MOST_RETRIES} retries")
        for step, again in pairwise(order):
            gap = again.arrived - step.done
            if step in own and gap < LEAST_RESEND_GAP:
                retried = f"request {again.number} retries the submission only {gap:.3f} s after a refusal"
                yield Breach(f"{retried} ({step.status}, request {step.number}); minimum: 0.1 s")


@rule(
    "SUB-05",
    "no-resubmit-on-failed",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    says="Do not resubmit a job that failed, was moderated or was cancelled, unless the caller requests it.",
    because="A content policy refuses the second attempt too, and each attempt may be billed: muxinc/ai#232, "
    "Wei-Shaw/sub2api#3429.",
    fix="Put the submission outside the loop that waits, so that a failed job ends the call with an error.",
    example="wait",
)
def no_resubmit_on_failed(trace: AnnotatedTrace) -> Evidence:
    failures = [step for step in trace.steps if step.failure]
    for order in trace.orders:
        jobs = {step.job_told for step in order if step.accepted}
        ended = next((step for step in failures if step.job in jobs or step in order), None)
        if ended is None or not went_on(trace, ended):
            continue
        yield OBSERVED
        for again in trace.after(ended, order):
            yield Breach(f"job {ended.job} failed ({ended.stage}), but request {again.number} submits again")


@rule(
    "SUB-06",
    "no-resubmit-on-own-timeout",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    says="Do not resubmit a job that was accepted and has not failed, whatever error the client hits, its own timeout "
    "included: the job continues and is billed.",
    because="A timeout error that suggests trying again pays for the video twice: tinyhumansai/openhuman#5411, "
    "ArcReel/ArcReel#628.",
    fix="Keep the accepted job's id, and let every later error report it; a retry decorator must surround single "
    "requests, never the whole call.",
    example="collect",
)
def no_resubmit_on_own_timeout(trace: AnnotatedTrace) -> Evidence:
    failures = tuple(step for step in trace.steps if step.failure)
    for order in trace.orders:
        accepted: list[tuple[Step, int | None]] = []
        for again in order:
            running = (step for step, failed in accepted if not _had_failed(trace, failed, again))
            if (step := next((one for one in running if not trace.same(one, again)), None)) is not None:
                yield Breach(f"request {again.number} submits again while job {step.job_told} is still running")
            if not again.accepted:
                continue
            failed = next((one.number for one in trace.after(again, failures) if one.job == again.job_told), None)
            accepted.append((again, failed))
            # Only a client that waited for the job could have run into its deadline.
            if any(not read.terminal for read in trace.after(again, reads_of(trace, again.job_told))):
                yield OBSERVED


def _had_failed(trace: AnnotatedTrace, failed: int | None, again: Step) -> bool:
    """Whether the client knew, when it submitted again, that a job had failed; `failed` is the request that said so."""
    read = failed is not None and failed < again.number
    return read or _callback_reported(trace, again.arrived, "failure")


def _callback_reported(trace: AnnotatedTrace, before: float, kind: str) -> bool:
    return any(kind in kinds and delivery.sent <= before for delivery, kinds in trace.callbacks)


@rule(
    "SUB-07",
    "one-refusal-survives",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Retry a submission at least once if the response invites it (429 or 503 with Retry-After, or the word that "
    "the first attempt with its key is in progress), or if the response was lost and the provider replays idempotency "
    "keys.",
    because="A client that reports the first 429 or 408 loses orders that the next attempt would have placed: "
    "shrimbly/node-banana#116.",
    fix="Retry a submission that was refused with 429 or 503 after its Retry-After, at least once.",
    example="submit",
)
def one_refusal_survives(trace: AnnotatedTrace) -> Evidence:
    # In a crowd, CON-01 judges. A client that was killed could not retry.
    if trace.trace.drill == "crowd":
        return
    for order in trace.orders:
        yield from _told_to_wait(trace, order)
        first, later = order[0], order[1:]
        if not _invites(trace, first):
            continue
        if later:
            yield OBSERVED
        elif _gave_up_order(trace, first):
            yield OBSERVED
            yield Breach(f"request {first.number} {_unused_chance(trace, first)}")


def _told_to_wait(trace: AnnotatedTrace, order: Sequence[Step]) -> Evidence:
    """Find a client that gives up because its own first attempt is still in progress."""
    # Not of the first attempt: a client without an earlier one would be told something untrue.
    waits = [step for step in order[1:] if step.delivered and IN_FLIGHT in step.reading.situations]
    for step in waits[:1]:
        if step is not order[-1]:
            yield OBSERVED
        elif _gave_up_order(trace, step):
            yield OBSERVED
            told = f"request {step.number} was told that the first attempt with its key is in progress ({step.status})"
            yield Breach(f"{told}, but the client gave up the job")


def _unused_chance(trace: AnnotatedTrace, step: Step) -> str:
    """Describe a submission that a client gave up without a retry."""
    if step.refused:
        return f"was refused ({step.status}), but the client gave up without a retry"
    lost = "was not answered completely, and the provider replays idempotency keys"
    # Without a key, a retry may pay twice (SUB-01): the bug is that there was no key.
    return f"{lost}, but the client {'gave up without a retry' if trace.key(step) else 'sent no key to retry with'}"


def _invites(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a response to a submission invites another attempt, which can create no second job."""
    if step.delivered and step.status in REFUSED_FOR_NOW:
        wait = requested_wait(step)
        # A 429 without a Retry-After may mean a quota that is used up for the month, and such a 503 may come from a
        # proxy that has lost the response: a careful client repeats neither.
        invited = wait is not None and wait.seconds <= PROMPTLY
        return invited and not misleading_date(trace, step)
    lost = not step.delivered or step.status in LOST
    return lost and not step.accepted and trace.contract.idempotency.mode == "replay"


def _gave_up_order(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether the run of a submission reported soon after it that there is no video."""
    number = trace.owner_of(step)
    outcome = trace.runs[number].outcome if number is not None else None
    # After another request, another response may be the reason: the client may have looked for its job.
    if outcome is None or outcome.kind not in GAVE_UP or trace.after(step, trace.steps):
        return False
    return outcome.ended - step.done <= PROMPTLY


@rule(
    "SUB-08",
    "one-purchase",
    level=MUST,
    severity="S1",
    channel=PROVIDERS,
    says="Submit an order to another provider only if the first one certainly has no job of it that may be billed: it "
    "refused the submission, or the client has seen that the job failed or was cancelled.",
    because="One click, two billed jobs at two providers: a lost response to the first submission, or a timeout, leads "
    "to the second one, while the first one renders (elizaOS/eliza#19302, elixir-vibe/llm_proxy#4).",
    harm=MONEY,
    fix="Cancel the first provider's job and wait for the confirmation, or for its failure, before ordering elsewhere; "
    "repeat a submission whose response was lost at the same provider.",
    example="submit",
)
def one_purchase(trace: AnnotatedTrace) -> Evidence:
    partner = trace.partner
    if partner is None:
        return
    for step in trace.submits:
        earlier = [one for one in partner.submits if _precedes(one, step) and partner.run_of(one) == trace.run_of(step)]
        # A submission that is refused buys nothing.
        if step.refused or not earlier:
            continue
        yield OBSERVED
        for other in earlier:
            if not _settled(partner, other, step):
                yield Breach(_bought_twice(trace, step, partner, other))


def _precedes(one: Step, other: Step) -> bool:
    """Whether a request was sent before a request to the other provider."""
    # Requests of one moment are in the order of their arrival.
    return (one.arrived, one.exchange.number) < (other.arrived, other.exchange.number)


def _settled(partner: AnnotatedTrace, other: Step, step: Step) -> bool:
    """Whether the client knew, when it sent a step, that an earlier submission has no job, or a failed one."""
    if other.refused:
        return had_response(other, step)
    job = other.job_told or other.exchange.made
    before = [one for one in partner.after(other, partner.steps) if had_response(one, step)]
    if job is not None and any(one.failure and one.job == job for one in before):
        return True
    told = [(one.job, kinds) for one, kinds in partner.callbacks if one.sent <= step.arrived]
    if any(named == job and kinds and kinds <= WITHOUT_VIDEO for named, kinds in told):
        return True
    # A repeated submission with the same key shows what became of the first one.
    again = [one for one in before if one.role in SUBMISSIONS and not one.ambiguous and partner.same(other, one)]
    return other.ambiguous and any(_settled(partner, one, step) for one in again)


def _bought_twice(trace: AnnotatedTrace, step: Step, partner: AnnotatedTrace, other: Step) -> str:
    here, there = trace.contract.key, partner.contract.key
    bought = f"one click, two billed jobs at two providers: request {step.number} submits to {here}"
    if other.refused:
        return f"{bought} before {there} has answered request {other.number}, the submission of the same order"
    if other.accepted:
        return f"{bought}, although job {other.job_told} at {there} had neither failed nor been cancelled"
    how = f"status {other.status}" if other.status else "no response"
    return f"{bought}, although request {other.number} to {there} may have created a job ({how})"
