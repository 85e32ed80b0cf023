"""Rules about submissions: one click is one job."""

from __future__ import annotations

from itertools import pairwise

from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, canonical

REUSED = frozenset({"key_mismatch", "key_used", "key_in_flight"})
MOST_RETRIES = 8
LEAST_RESEND_GAP = 0.1 - 0.001
"""Seconds before the first repetition of a submission that was refused: a tenth, as exact as moments are told."""


def no_ambiguous_resend(story: AnnotatedTrace) -> list[str] | None:
    """Hold repeated submissions against those before them whose fate is unknown."""
    found: list[str] = []
    seen = False
    for order in story.orders:
        for number, step in enumerate(order):
            if not step.ambiguous:
                continue
            seen = True
            again = next((other for other in order[number + 1 :] if not story.same(step, other)), None)
            if again is not None:
                how = f"status {step.status}" if step.status else "no answer"
                found.append(
                    f"request {step.number} may have bought a job ({how}), and request {again.number} ordered again"
                )
    return found if seen else None


def stable_key(story: AnnotatedTrace) -> list[str] | None:
    """Hold the keys of the submissions of one order against one another, and against those of other orders."""
    found = []
    owners: dict[str, tuple[int, bytes]] = {}
    for number, order in enumerate(story.orders):
        keys = {story.key(step) for step in order}
        if keys == {None} and not all(step.refused for step in order[:-1]):
            told = f"one order was sent {len(order)} times without a key ({story.contract.idempotency.named})"
            found.append(f"{told}, which the provider would have honoured")
        if len(keys) > 1:
            found.append(f"one order was sent with {len(keys)} keys: {', '.join(sorted(str(key) for key in keys))}")
        for step in order:
            key, body = story.key(step), canonical(step.exchange.body)
            if key is not None and owners.setdefault(key, (number, body)) != (number, body):
                found.append(f"request {step.number} sends the key {key!r} of another order")
    keyed = any(story.key(step) is not None for step in story.submits)
    return list(dict.fromkeys(found)) if keyed or found else None


def reuse_is_not_reordered(story: AnnotatedTrace) -> list[str] | None:
    """Look for another order with another key behind a refusal of the first one's key."""
    found: list[str] = []
    seen = False
    for order in story.orders:
        for number, step in enumerate(order):
            if step.delivered and set(step.reading.situations) & REUSED and step.status >= 400:
                seen = True
                for other in order[number + 1 :]:
                    if story.key(other) != story.key(step):
                        found.append(f"the key was refused ({step.status}), and request {other.number} has a new one")
    return found if seen else None


def safe_resend(story: AnnotatedTrace) -> list[str] | None:
    """Count how often, and how fast, a refused submission is repeated."""
    found: list[str] = []
    seen = False
    for order in story.orders:
        refused = [step for step in order if step.refused and (step.status == 429 or step.status == 503)]
        seen = seen or bool(refused)
        if len(refused) > MOST_RETRIES:
            found.append(f"the order was refused {len(refused)} times and sent again each time")
        for step, again in pairwise(order):
            if step in refused and again.arrived - step.done < LEAST_RESEND_GAP:
                found.append(
                    f"request {again.number} repeats the order {again.arrived - step.done:.3f} s after a refusal"
                )
    return found if seen else None


def no_resubmit_on_failed(story: AnnotatedTrace) -> list[str] | None:
    """Look for another submission behind the news that the job has ended without a video."""
    found: list[str] = []
    seen = False
    for order in story.orders:
        jobs = {step.job_told for step in order if step.accepted}
        ended = next((step for step in story.steps if step.failure and (step.job in jobs or step in order)), None)
        if ended is None:
            continue
        seen = True
        for again in story.after(ended, order):
            found.append(f"the job {ended.job} failed ({ended.stage}), and request {again.number} orders again")
    return found if seen else None


def no_resubmit_on_own_timeout(story: AnnotatedTrace) -> list[str] | None:
    """Look for another submission although a job was accepted and has not failed."""
    found: list[str] = []
    seen = False
    for order in story.orders:
        for number, step in enumerate(order):
            if not step.accepted:
                continue
            waiting = [read for read in story.after(step, story.reads) if read.job == step.job_told]
            seen = seen or any(not read.terminal for read in waiting)
            for again in order[number + 1 :]:
                before = [one for one in story.after(step, story.steps) if one.number < again.number]
                ended = any(one.failure and one.job == step.job_told for one in before)
                ended = ended or _callback_said(story, again.arrived, "failure")
                if not ended and not story.same(step, again):
                    found.append(f"request {again.number} orders again while the job {step.job_told} is under way")
    return found if seen or found else None


def _callback_said(story: AnnotatedTrace, before: float, kind: str) -> bool:
    return any(kind in kinds and delivery.sent <= before for delivery, kinds in story.told)


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
        "After a submission whose fate is unknown (no answer, a broken one, 408, 500, 502, 504), do not submit again, "
        "unless the provider replays idempotency keys and key and body are the same.",
        "The first one may have been accepted and billed: one click became four paid jobs in Comfy-Org/ComfyUI#16204.",
        no_ambiguous_resend,
    ),
    Rule(
        "SUB-02",
        "stable-key",
        "MUST",
        "S1",
        "wire",
        "All tries of one order carry one idempotency key; another order carries another one.",
        "A key made anew for each try protects nothing, and a key for all orders returns somebody else's job: "
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
        "Where the provider refuses a key because it was used, look the job up; do not order again with a new key.",
        "The refusal means that the first order exists: a new key buys it twice (Comfy-Org/docs#1723).",
        reuse_is_not_reordered,
        _reuses,
    ),
    Rule(
        "SUB-04",
        "safe-resend-allowed",
        "SHOULD",
        "S3",
        "wire",
        "An order that was certainly not accepted (429, 503) may be sent again, a few times and with growing pauses.",
        "Immediate repetition keeps the provider overloaded and the key blocked: ddcat-ai/open-ai-canvas#492.",
        safe_resend,
        timing=True,
    ),
    Rule(
        "SUB-05",
        "no-resubmit-on-failed",
        "MUST",
        "S1",
        "wire",
        "A job that failed, was moderated or cancelled is not ordered again without being asked.",
        "A content policy refuses the second time, too, and each try may be billed: muxinc/ai#232, "
        "Wei-Shaw/sub2api#3429.",
        no_resubmit_on_failed,
    ),
    Rule(
        "SUB-06",
        "no-resubmit-on-own-timeout",
        "MUST",
        "S1",
        "wire",
        "A job that was accepted and has not failed is not ordered again, whatever the client ran into, be it its own "
        "deadline: the job goes on, and is billed.",
        "A time-out that invites to try again buys the video twice: tinyhumansai/openhuman#5411, ArcReel/ArcReel#628.",
        no_resubmit_on_own_timeout,
    ),
)
