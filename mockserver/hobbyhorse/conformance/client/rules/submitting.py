"""Rules about submissions: one order creates one job. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, WIRE, Breach, Evidence, rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, canonical, credentials
from hobbyhorse.traces.orders import reads_of

# The contracts' situations that refuse a key because an earlier submission used it.
REUSED = frozenset({"key_mismatch", "key_used", "key_in_flight"})
# Retries of a refused submission: enough for an exponential backoff of a few minutes, too few for a fixed fast loop.
MOST_RETRIES = 8
# Seconds before the first retry of a refused submission: 0.1, less the rounding of recorded times (1 ms).
LEAST_RESEND_GAP = 0.1 - 0.001


def _keyed(contract: Contract) -> bool:
    return contract.idempotency.mode != "none"


def _reuses(contract: Contract) -> bool:
    return bool(REUSED & set(contract.operations["submit"].situations))


@rule(
    "SUB-01",
    "no-ambiguous-resend",
    level=MUST,
    severity="S1",
    channel=WIRE,
    says="After a submission whose outcome is unknown (no response, an incomplete response, 408, 500, 502 or 504), do "
    "not submit again, unless the provider replays idempotency keys and both key and body are the same.",
    because="The first submission may have been accepted and billed: one click became four paid jobs in "
    "Comfy-Org/ComfyUI#16204.",
)
def no_ambiguous_resend(trace: AnnotatedTrace) -> Evidence:
    for order in trace.orders:
        for number, step in enumerate(order):
            if not step.ambiguous:
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
    channel=WIRE,
    applies=_keyed,
    says="All attempts to submit one order carry the same idempotency key; different orders carry different keys.",
    because="A new key for each attempt protects nothing, and one key for all orders returns another order's job: "
    "Comfy-Org/comfy-python-sdk#79, vercel/ai#18384, calesthio/OpenMontage#323.",
)
def stable_key(trace: AnnotatedTrace) -> Evidence:
    # A client that never sends a key and never resends has shown nothing about keys.
    if any(trace.key(step) is not None for order in trace.orders for step in order):
        yield OBSERVED
    owners: dict[object, tuple[int, bytes]] = {}
    for number, order in enumerate(trace.orders):
        yield from _keys_within(trace, order)
        for step in order:
            key, body = trace.key(step), canonical(step.exchange.body)
            # Each API key has idempotency keys of its own.
            owner = credentials(trace.contract, step.exchange), key
            if key is not None and owners.setdefault(owner, (number, body)) != (number, body):
                yield Breach(f"request {step.number} reuses the idempotency key {key!r} of another order")


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
    channel=WIRE,
    applies=_reuses,
    says="If the provider refuses a key because it was used before, look up the existing job; do not submit again with "
    "a new key.",
    because="The refusal means that the first submission exists: a new key pays for the job twice "
    "(Comfy-Org/docs#1723).",
)
def reject_mode(trace: AnnotatedTrace) -> Evidence:
    for order in trace.orders:
        for number, step in enumerate(order):
            if step.delivered and set(step.reading.situations) & REUSED and step.status >= 400:
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
)
def safe_resend_allowed(trace: AnnotatedTrace) -> Evidence:
    for order in trace.orders:
        refused = [step for step in order if step.refused and (step.status == 429 or step.status == 503)]
        if refused:
            yield OBSERVED
        if len(refused) > MOST_RETRIES:
            yield Breach(f"the submission was refused {len(refused)} times; allowed: {MOST_RETRIES} retries")
        for step, again in pairwise(order):
            gap = again.arrived - step.done
            if step in refused and gap < LEAST_RESEND_GAP:
                retried = f"request {again.number} retries the submission only {gap:.3f} s after a refusal"
                yield Breach(f"{retried} ({step.status}, request {step.number}); minimum: 0.1 s")


@rule(
    "SUB-05",
    "no-resubmit-on-failed",
    level=MUST,
    severity="S1",
    channel=WIRE,
    says="Do not resubmit a job that failed, was moderated or was cancelled, unless the caller requests it.",
    because="A content policy refuses the second attempt too, and each attempt may be billed: muxinc/ai#232, "
    "Wei-Shaw/sub2api#3429.",
)
def no_resubmit_on_failed(trace: AnnotatedTrace) -> Evidence:
    failures = [step for step in trace.steps if step.failure]
    for order in trace.orders:
        jobs = {step.job_told for step in order if step.accepted}
        ended = next((step for step in failures if step.job in jobs or step in order), None)
        if ended is None:
            continue
        yield OBSERVED
        for again in trace.after(ended, order):
            yield Breach(f"job {ended.job} failed ({ended.stage}), but request {again.number} submits again")


@rule(
    "SUB-06",
    "no-resubmit-on-own-timeout",
    level=MUST,
    severity="S1",
    channel=WIRE,
    says="Do not resubmit a job that was accepted and has not failed, whatever error the client hits, its own timeout "
    "included: the job continues and is billed.",
    because="A timeout error that suggests trying again pays for the video twice: tinyhumansai/openhuman#5411, "
    "ArcReel/ArcReel#628.",
)
def no_resubmit_on_own_timeout(trace: AnnotatedTrace) -> Evidence:
    for order in trace.orders:
        for number, step in enumerate(order):
            if not step.accepted:
                continue
            # Only a client that waited for the job could have run into its deadline.
            waiting = trace.after(step, reads_of(trace, step.job_told))
            if any(not read.terminal for read in waiting):
                yield OBSERVED
            for again in order[number + 1 :]:
                if not _had_failed(trace, step, again) and not trace.same(step, again):
                    yield Breach(f"request {again.number} submits again while job {step.job_told} is still running")


def _had_failed(trace: AnnotatedTrace, step: Step, again: Step) -> bool:
    """Whether the client knew, when it submitted again, that the job of a submission had failed."""
    before = [one for one in trace.after(step, trace.steps) if one.number < again.number]
    failed = any(one.failure and one.job == step.job_told for one in before)
    return failed or _callback_reported(trace, again.arrived, "failure")


def _callback_reported(trace: AnnotatedTrace, before: float, kind: str) -> bool:
    return any(kind in kinds and delivery.sent <= before for delivery, kinds in trace.callbacks)
