"""Rules about waiting: it ends, the job's id outlives it, and it is not taken for the job's end. Knows no server."""

from __future__ import annotations

from hobbyhorse.conformance.client.rule import Rule, each_order
from hobbyhorse.traces.annotated import ENDS, GAVE_UP, READS, AnnotatedTrace, Step

SLACK, GRACE = 1.25, 60.0
"""How far beyond the longest wait a client may go: a part of it, and seconds."""
UNSEEN = 3
"""How many times as long in recorded traffic, where nobody sees that a client is started again."""
DEADLINE_SHOWN_SHARE = 0.9
"""The part of the longest wait after which a client has shown whether it has a deadline."""


@each_order
def has_deadline(story: AnnotatedTrace) -> list[str] | None:
    """Hold the reads of a job that never ended against the longest wait."""
    if story.accepted is None or story.ended:
        return None
    longest = (SLACK * story.patience + GRACE) * (1 if story.trace.runs else UNSEEN)
    waits = [(read, waited) for read in story.reads if (waited := _waited(story, read)) is not None]
    late = [(read, waited) for read, waited in waits if waited > longest]
    found = [f"request {read.number} still asks after {waited:.0f} s, of {longest:.0f}" for read, waited in late[-1:]]
    outcome = story.outcome
    if outcome is not None and outcome.kind == "unfinished" and story.lasted > longest:
        found.append(f"the client had not finished {story.lasted:.0f} s after the job was accepted, of {longest:.0f}")
    if found:
        return found
    stayed = max((waited for _, waited in waits), default=0.0) >= DEADLINE_SHOWN_SHARE * story.patience
    return [] if _gave_up(story, stayed, longest) else None


def _waited(story: AnnotatedTrace, read: Step) -> float | None:
    """Return how long a read's job had been waited for, in the run that the read belongs to, or in one go."""
    accepted = [step.done for step in story.submits if step.accepted and step.job_told == read.job]
    before = [moment for moment in accepted if moment <= read.arrived]
    if not before:
        return None
    number = story.run_of(read)
    if number is not None:
        return read.arrived - max(before[-1], story.trace.runs[number].started)
    begun = seen = before[-1]
    for other in story.reads:
        if other.job == read.job and seen < other.arrived <= read.arrived:
            begun = other.arrived if other.arrived - seen > story.patience / 2 else begun
            seen = other.arrived
    return read.arrived - begun


def _gave_up(story: AnnotatedTrace, stayed: bool, longest: float) -> bool:
    """Whether the client is known to have stopped waiting before its job had ended."""
    outcome = story.outcome
    if outcome is None:
        accepted = story.accepted
        return stayed and accepted is not None and story.trace.ended - accepted.done > longest
    if outcome.kind not in GAVE_UP:
        return False
    return (outcome.kind == "timeout" and outcome.told) or stayed or _last_word_is_under_way(story)


def _last_word_is_under_way(story: AnnotatedTrace) -> bool:
    return bool(story.reads) and story.reads[-1].under_way


@each_order
def id_in_error(story: AnnotatedTrace) -> list[str] | None:
    """Look for the id of a job that had not ended in how the run ended."""
    outcome = story.outcome
    if outcome is None or outcome.kind not in GAVE_UP or story.exposed is None or not story.knew:
        return None
    deadline = outcome.kind == "timeout" and outcome.told
    if story.ended and not deadline:
        return None
    if story.exposed:
        return []
    return [f"the run ended as {outcome.kind!r}, and whoever called it did not learn the id of the job"]


@each_order
def timeout_is_no_outcome(story: AnnotatedTrace) -> list[str] | None:
    """Hold what the client reports of a job that had not ended against what it was last told."""
    outcome = story.outcome
    if outcome is None or story.accepted is None or story.ended or outcome.kind == "unfinished":
        return None
    if outcome.kind == "success":
        return ["the client reports success, and was never told that the job had ended"]
    if outcome.kind != "failed":
        return []
    if not outcome.told or not _only_under_way(story):
        return None
    return [f"the client names a failure of the provider, which last said {story.reads[-1].stage!r}"]


def _only_under_way(story: AnnotatedTrace) -> bool:
    """Whether the client was told nothing of a job but that it is under way, last so, and troubles that pass."""
    about = [step for step in story.steps if step.role in (*READS, "cancel")]
    calm = all(step.under_way or (step.transient and not step.ok) for step in about)
    told = all(kinds and not kinds & ENDS for _, kinds in story.told)
    return calm and told and _last_word_is_under_way(story)


RULES = (
    Rule(
        "TMO-01",
        "has-deadline",
        "MUST",
        "S2",
        "wire",
        "Without being asked to, stop waiting for a job that never ends within the provider's longest wait (a quarter "
        "of it and a minute over is allowed).",
        "A job that hangs at the provider hangs its client for good: fal-ai/fal-java#9, mindroom-ai/mindroom#1996, "
        "ATH-MaaS/Pixelle-Video#48.",
        has_deadline,
        timing=True,
    ),
    Rule(
        "TMO-02",
        "id-in-error",
        "MUST",
        "S2",
        "outcome",
        "When a job is given up that has not ended, its id reaches whoever called the client.",
        "The job goes on and is billed; without its id the video can never be collected: Comfy-Org/comfy-mcp#238, "
        "novitalabs/javascript-sdk#3.",
        id_in_error,
    ),
    Rule(
        "TMO-03",
        "timeout-not-success",
        "MUST",
        "S1",
        "outcome",
        "The client's own deadline is reported as that: neither as success nor as a failure of the provider.",
        "A time-out was reported as success, and the advice to try again bought the video twice: "
        "tinyhumansai/openhuman#5411; the other way round in fal-ai/fal#1143.",
        timeout_is_no_outcome,
    ),
)
