"""Rules about the hand-over: the caller gets the video that it paid for, or the provider's reason. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator

from hobbyhorse.conformance.client.reasons import beginning_of, mentioned, reasons_of, reasons_of_callback
from hobbyhorse.conformance.client.rules.retrying import FATAL_ORDER
from hobbyhorse.conformance.client.variations import variations
from hobbyhorse.conformance.rule import MUST, OBSERVED, OUTCOME, SHOULD, VIDEO, Breach, Evidence, each_order, rule
from hobbyhorse.traces.annotated import ENDS, FAILED_OUTCOMES, GAVE_UP, AnnotatedTrace, Step
from hobbyhorse.traces.trace import Outcome

# The share of the longest wait after which a client may have stopped because of its own deadline.
NEARLY = 0.9
Report = tuple[str, tuple[str, ...], tuple[str, ...]]
"""The source of a reason, its code and message, and the beginning of the response."""


@rule(
    "RES-09",
    "deliver-the-video",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    channel=OUTCOME,
    says="A video that was downloaded completely reaches the caller, whatever its order and its prompt are.",
    because="The video is paid for, and then lost by the client's own error: a long prompt was used as a file name "
    "(basujindal/stable-diffusion#2, SkyworkAI/SkyReels-V2#92, neggles/animatediff-cli#18).",
    fix="Name the file after the job's id instead of the prompt, and write it only after the whole body is in memory "
    "or in a temporary file.",
    example="save",
)
@each_order
def deliver_the_video(trace: AnnotatedTrace) -> Evidence:
    outcome = trace.outcome
    whole = next((step for step in trace.fetches if _whole(trace, step)), None)
    if whole is None or outcome is None or outcome.kind == "unfinished" or whole.done > outcome.ended:
        return
    # Any trouble with another request may be why the client failed, and so may its own deadline.
    after = trace.after(whole, trace.steps)
    if not all(step.ok and step.exchange.move is None for step in after) or _hurried(trace):
        return
    if any(step.failure for step in trace.steps) or any(kinds & (ENDS - {"success"}) for _, kinds in trace.callbacks):
        return
    yield OBSERVED
    fetched = f"request {whole.number} returned the complete video"
    if outcome.kind in GAVE_UP:
        yield Breach(f"{fetched}, but the run ended as {outcome.kind!r}{_with(outcome)}")
    elif outcome.size == 0:
        yield Breach(f"{fetched}, but the client delivers an empty one{_with(outcome)}")


def _whole(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a step is a complete download, without a fault, of a video that a clean response gave."""
    if not step.ok or step.status != 200 or step.exchange.move is not None or not step.exchange.size:
        return False
    givers = [other for other in trace.steps if other.number < step.number and other.video == step.exchange.url]
    return bool(givers) and givers[-1].clean and givers[-1].success and givers[-1].exchange.move is None


def _hurried(trace: AnnotatedTrace) -> bool:
    return trace.last_wait_began is None or trace.waited >= NEARLY * trace.patience


def _with(outcome: Outcome) -> str:
    return f": {outcome.message[:200]}" if outcome.message else ""


@rule(
    "RES-10",
    "give-the-reason",
    level=SHOULD,
    severity="S4",
    channel=OUTCOME,
    says="If the provider fails a job or refuses an order and says why, the error exposes the provider's code, its "
    "message, or the response; for a refused order, the HTTP status is enough.",
    because="Without the reason the caller cannot tell a forbidden prompt from an outage, and pays to try again: "
    "nexu-io/open-design#7116, obviyus/SuperSeriousBot#350, ASFHyP3/hyp3-sdk#67.",
    fix="Copy the provider's code and message from the response into the error; if they are missing, copy the status "
    "and the beginning of the body.",
    example="Failed",
)
@each_order
def give_the_reason(trace: AnnotatedTrace) -> Evidence:
    outcome = trace.outcome
    if outcome is None or outcome.kind not in FAILED_OUTCOMES or outcome.reasons is None:
        return
    # An error in another form has its own rules: what the client learned of it is in that form.
    if variations(trace.trace.scenario or {}):
        return
    for source, reasons, response in (*_failures(trace, outcome), *_refusals(trace, outcome)):
        if reasons:
            yield OBSERVED
            learned = {*outcome.reasons, *mentioned(reasons, outcome.message)}
            if learned.isdisjoint((*reasons, *response)):
                given = " or ".join(map(repr, reasons))
                yield Breach(f"{source} gave the reason {given}, but the run ended as {outcome.kind!r} without it")
            return


def _failures(trace: AnnotatedTrace, outcome: Outcome) -> Iterator[Report]:
    """Yield the reports of the failure of the last job."""
    bought = [step.job_told for step in trace.submits if step.accepted][-1:]
    for step in trace.reads:
        clean = step.failure and step.clean and step.exchange.move is None
        if clean and step.job in bought and step.done <= outcome.ended:
            yield f"request {step.number}", reasons_of(step), beginning_of(step)
    for delivery, kinds in trace.callbacks:
        in_time = delivery.job in bought and delivery.acknowledged and delivery.sent <= outcome.ended
        # A client that asks again after a callback, and is told something else, may end for what it was told.
        asked = any(
            step.job in (None, delivery.job) and _told_otherwise(step)
            for step in trace.reads
            if step.arrived >= delivery.sent
        )
        if in_time and not asked and kinds and kinds <= {"failure", "cancelled", "expired"}:
            yield "a callback", reasons_of_callback(trace, delivery), ()


def _told_otherwise(step: Step) -> bool:
    return not step.failure or step.exchange.move is not None


def _refusals(trace: AnnotatedTrace, outcome: Outcome) -> Iterator[Report]:
    """Yield the refusal of the order if it was the end of the run and its status did not reach the caller."""
    last = trace.steps[-1] if trace.steps else None
    if last is None or last not in trace.submits or not last.delivered or last.status not in FATAL_ORDER:
        return
    # A response that is not the provider's own has no reason.
    if last.reading.situations and last.done <= outcome.ended and str(last.status) not in outcome.message:
        yield f"request {last.number}", reasons_of(last), beginning_of(last)


@rule(
    "RES-11",
    "own-video",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    channel=OUTCOME,
    says="Each run returns the video of the job that it submitted, also if other runs go on at the same time or came "
    "before it.",
    because="One client object kept the current job in a field, so that concurrent orders got each other's videos: "
    "xorbitsai/xagent#1282, pardahlman/PainlessHttp#3, logto-io/js#1124.",
    fix="Keep the job's id and all other state of a run in local variables or in an object per run, not on the shared "
    "client.",
    example="collect",
)
def own_video(trace: AnnotatedTrace) -> Evidence:
    jobs = [_jobs_of(trace, number) for number, _ in enumerate(trace.runs)]
    for number, run in enumerate(trace.runs):
        returned = _returned(trace, run.outcome) if run.outcome is not None else frozenset()
        # The same order again may be given the same video again.
        others = [ids for ids, other in zip(jobs, trace.runs, strict=True) if other.request != run.request]
        if not returned or not others:
            continue
        yield OBSERVED
        # Jobs with equal videos cannot be told apart.
        foreign = frozenset[str]().union(*others) - jobs[number]
        if not returned & jobs[number] and returned <= foreign:
            ordered = f"ordered job {min(jobs[number])}" if jobs[number] else "made no job"
            yield Breach(
                f"run {number + 1} of {len(trace.runs)} {ordered}, but returned the video of job {min(returned)}"
            )


@rule(
    "RES-13",
    "keep-earlier-videos",
    level=SHOULD,
    severity="S1",
    harm=VIDEO,
    channel=OUTCOME,
    says="A run leaves the file alone that an earlier run has returned.",
    because="Each run saved its video under the same name, so that only the last one was left: "
    "C0untFloyd/roop-unleashed#405, DuxSec/videoGenerator#9.",
    fix="Give each file a name of its own, such as the job's id, or use a temporary file.",
    example="save",
)
def keep_earlier_videos(trace: AnnotatedTrace) -> Evidence:
    for number, run in enumerate(trace.runs):
        outcome = run.outcome
        if outcome is None or outcome.replaced is None or len(trace.runs) < 2:
            continue
        yield OBSERVED
        if outcome.replaced:
            yield Breach(
                f"run {number + 1} of {len(trace.runs)} returned {outcome.saved[:200]}, but another run has "
                "overwritten or removed that file"
            )


def _jobs_of(trace: AnnotatedTrace, number: int) -> frozenset[str]:
    """Return the jobs that a run made, or that it resumes."""
    first = max(n for n, run in enumerate(trace.runs) if n <= number and (n == 0 or not run.resumed))
    made = [step for step in trace.submits if first <= (trace.run_of(step) or 0) <= number]
    return frozenset(job for step in made for job in (step.job_told, step.exchange.made) if job is not None)


def _returned(trace: AnnotatedTrace, outcome: Outcome) -> frozenset[str]:
    """Return the jobs whose video a run returned; none if it cannot be identified."""
    if outcome.by_reference:
        return frozenset(step.job for step in trace.reads if step.job and step.video and step.video == outcome.message)
    videos = trace.trace.jobs or ()
    return frozenset(job.id for job in videos if job.sha256 is not None and job.sha256 == outcome.sha256)
