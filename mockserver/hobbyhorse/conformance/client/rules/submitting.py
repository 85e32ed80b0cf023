"""Rules about submissions: one order makes one job. Knows no server."""

from __future__ import annotations

from itertools import pairwise

from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, canonical

# The contracts' situations that refuse a key because an earlier submission used it.
REUSED = frozenset({"key_mismatch", "key_used", "key_in_flight"})
# Retries of a refused submission: enough for an exponential backoff of a few minutes, too few for a fixed fast loop.
MOST_RETRIES = 8
# Seconds before the first retry of a refused submission: 0.1, less the rounding of recorded times (1 ms).
LEAST_RESEND_GAP = 0.1 - 0.001


def no_ambiguous_resend(trace: AnnotatedTrace) -> list[str] | None:
    """Look for a submission after another one with an unknown outcome."""
    found: list[str] = []
    seen = False
    for order in trace.orders:
        for number, step in enumerate(order):
            if not step.ambiguous:
                continue
            seen = True
            again = next((other for other in order[number + 1 :] if not trace.same(step, other)), None)
            if again is not None:
                how = f"status {step.status}" if step.status else "no response"
                found.append(
                    f"request {step.number} may have made a job ({how}), and request {again.number} submitted again"
                )
    return found if seen else None


def stable_key(trace: AnnotatedTrace) -> list[str] | None:
    """Compare the idempotency keys within an order, and between orders."""
    found = []
    owners: dict[str, tuple[int, bytes]] = {}
    for number, order in enumerate(trace.orders):
        keys = {trace.key(step) for step in order}
        # Without a key, a resend is safe only after certain refusals.
        if keys == {None} and not all(step.refused for step in order[:-1]):
            sent = f"one order was submitted {len(order)} times without a key ({trace.contract.idempotency.named})"
            found.append(f"{sent}, although the provider honours it")
        if len(keys) > 1:
            found.append(f"one order was submitted with {len(keys)} keys: {', '.join(sorted(map(str, keys)))}")
        for step in order:
            key, body = trace.key(step), canonical(step.exchange.body)
            if key is not None and owners.setdefault(key, (number, body)) != (number, body):
                found.append(f"request {step.number} sends the key {key!r} of another order")
    # A client that never sends a key and never resends has shown nothing about keys.
    keyed = any(trace.key(step) is not None for step in trace.submits)
    return list(dict.fromkeys(found)) if keyed or found else None


def reuse_is_not_reordered(trace: AnnotatedTrace) -> list[str] | None:
    """Look for a submission with a new key after the refusal of a used key."""
    found: list[str] = []
    seen = False
    for order in trace.orders:
        for number, step in enumerate(order):
            if step.delivered and set(step.reading.situations) & REUSED and step.status >= 400:
                seen = True
                for other in order[number + 1 :]:
                    if trace.key(other) != trace.key(step):
                        found.append(f"the key was refused ({step.status}), and request {other.number} has a new key")
    return found if seen else None


def safe_resend(trace: AnnotatedTrace) -> list[str] | None:
    """Count the retries of a refused submission, and measure the pauses before them."""
    found: list[str] = []
    seen = False
    for order in trace.orders:
        refused = [step for step in order if step.refused and (step.status == 429 or step.status == 503)]
        seen = seen or bool(refused)
        if len(refused) > MOST_RETRIES:
            found.append(f"the submission was refused {len(refused)} times and retried each time")
        for step, again in pairwise(order):
            if step in refused and again.arrived - step.done < LEAST_RESEND_GAP:
                found.append(
                    f"request {again.number} retries the submission {again.arrived - step.done:.3f} s after a refusal"
                )
    return found if seen else None


def no_resubmit_on_failed(trace: AnnotatedTrace) -> list[str] | None:
    """Look for another submission after a response that the job has ended without a video."""
    found: list[str] = []
    seen = False
    for order in trace.orders:
        jobs = {step.job_told for step in order if step.accepted}
        ended = next((step for step in trace.steps if step.failure and (step.job in jobs or step in order)), None)
        if ended is None:
            continue
        seen = True
        for again in trace.after(ended, order):
            found.append(f"the job {ended.job} failed ({ended.stage}), and request {again.number} submits again")
    return found if seen else None


def no_resubmit_on_own_timeout(trace: AnnotatedTrace) -> list[str] | None:
    """Look for another submission while an accepted job has not failed."""
    found: list[str] = []
    seen = False
    for order in trace.orders:
        for number, step in enumerate(order):
            if not step.accepted:
                continue
            # Only a client that waited for the job could have run into its deadline.
            waiting = [read for read in trace.after(step, trace.reads) if read.job == step.job_told]
            seen = seen or any(not read.terminal for read in waiting)
            for again in order[number + 1 :]:
                before = [one for one in trace.after(step, trace.steps) if one.number < again.number]
                ended = any(one.failure and one.job == step.job_told for one in before)
                ended = ended or _callback_reported(trace, again.arrived, "failure")
                if not ended and not trace.same(step, again):
                    found.append(f"request {again.number} submits again while the job {step.job_told} is under way")
    return found if seen or found else None


def _callback_reported(trace: AnnotatedTrace, before: float, kind: str) -> bool:
    return any(kind in kinds and delivery.sent <= before for delivery, kinds in trace.callbacks)


def _keyed(contract: Contract) -> bool:
    return contract.idempotency.mode != "none"


def _reuses(contract: Contract) -> bool:
    return bool(REUSED & set(contract.operations["submit"].situations))


RULES = (
    Rule(
        "SUB-01",
        "no-ambiguous-resend",
        "MUST",
        "S1",
        "wire",
        "After a submission whose outcome is unknown (no response, an incomplete one, 408, 500, 502 or 504), do not "
        "submit again, unless the provider replays idempotency keys and both key and body are the same.",
        "The first submission may have been accepted and billed: one click became four paid jobs in "
        "Comfy-Org/ComfyUI#16204.",
        no_ambiguous_resend,
    ),
    Rule(
        "SUB-02",
        "stable-key",
        "MUST",
        "S1",
        "wire",
        "All attempts to submit one order carry the same idempotency key; every other order carries a different key.",
        "A new key for each attempt protects nothing, and one key for all orders returns another order's job: "
        "Comfy-Org/comfy-python-sdk#79, vercel/ai#18384, calesthio/OpenMontage#323.",
        stable_key,
        _keyed,
    ),
    Rule(
        "SUB-03",
        "reject-mode",
        "MUST",
        "S1",
        "wire",
        "If the provider refuses a key because it was used before, look up the existing job; do not submit again with "
        "a new key.",
        "The refusal means that the first submission exists: a new key pays for the job twice (Comfy-Org/docs#1723).",
        reuse_is_not_reordered,
        _reuses,
    ),
    Rule(
        "SUB-04",
        "safe-resend-allowed",
        "SHOULD",
        "S3",
        "wire",
        "A submission that was certainly not accepted (429, 503) may be retried a few times, with growing pauses.",
        "Immediate retries keep the provider overloaded and the key blocked: ddcat-ai/open-ai-canvas#492.",
        safe_resend,
        timing=True,
    ),
    Rule(
        "SUB-05",
        "no-resubmit-on-failed",
        "MUST",
        "S1",
        "wire",
        "Do not resubmit a job that failed, was moderated or was cancelled, unless the caller requests it.",
        "A content policy refuses the second attempt too, and each attempt may be billed: muxinc/ai#232, "
        "Wei-Shaw/sub2api#3429.",
        no_resubmit_on_failed,
    ),
    Rule(
        "SUB-06",
        "no-resubmit-on-own-timeout",
        "MUST",
        "S1",
        "wire",
        "Do not resubmit a job that was accepted and has not failed, whatever error the client meets, its own deadline "
        "included: the job continues and is billed.",
        "A timeout error that suggests trying again pays for the video twice: tinyhumansai/openhuman#5411, "
        "ArcReel/ArcReel#628.",
        no_resubmit_on_own_timeout,
    ),
)
