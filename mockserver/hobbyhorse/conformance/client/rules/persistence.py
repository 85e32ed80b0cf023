"""Rules about restarts: a job outlives its client, and is resumed at the provider that made it. Knows no server."""

from __future__ import annotations

from urllib.parse import urlsplit

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, RESTART, VIDEO, Breach, Evidence, each_order, rule
from hobbyhorse.traces.annotated import AnnotatedTrace, Step


@rule(
    "PER-01",
    "resume-not-resubmit",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=RESTART,
    says="A client that is killed after submitting resumes the same job and does not submit again; the provider's "
    "replay of the same key and body is not a new submission.",
    because="Otherwise, every deployment pays again for the running jobs: ArcReel/ArcReel#628, ArcReel/ArcReel#2212, "
    "ArcReel/ArcReel#647.",
    fix="Save a note with the order and its idempotency key before the submission, add the job's id after it, and "
    "continue from this note after a restart.",
    example="collect",
)
@each_order
def resume_not_resubmit(trace: AnnotatedTrace) -> Evidence:
    resumed = [number for number, run in enumerate(trace.runs) if run.resumed]
    runs = {step.number: trace.run_of(step) or 0 for step in trace.submits}
    # If no earlier run submitted anything, the resumed run has nothing to resume.
    if not any(runs[step.number] < number for step in trace.submits for number in resumed):
        return
    yield OBSERVED
    for again in trace.submits:
        earlier = (step for step in trace.submits if runs[step.number] < runs[again.number])
        first = next((step for step in earlier if _made_job(step) and not trace.same(step, again)), None)
        if first is not None:
            yield Breach(f"request {again.number} of the resumed client submits again: {_fate(first)}")


def _made_job(step: Step) -> bool:
    """Whether a submission made a job, or may have."""
    return step.ok or step.ambiguous


def _fate(step: Step) -> str:
    if step.job_told is not None:
        return f"request {step.number} had created job {step.job_told}"
    return f"request {step.number} may have created a job ({f'status {step.status}' if step.status else 'no response'})"


@rule(
    "PER-02",
    "right-provider",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    channel=RESTART,
    says="A client that is restarted with another base URL still requests each job from the provider that created the "
    "job.",
    because="Another provider does not know the id: a paid job counts as lost, or another customer's job is read: "
    "BerriAI/litellm#16753, ArcReel/ArcReel#1822.",
    fix="Save the base URL with the job's id, and send the requests about a saved job to the saved base URL.",
    example="new",
)
@each_order
def right_provider(trace: AnnotatedTrace) -> Evidence:
    runs = trace.runs
    if trace.trace.drill != "moved" or len(runs) < 2:
        return
    old = runs[0].base
    jobs = {step.job_told for step in trace.submits if step.accepted and step.done <= runs[1].started}
    for step in trace.steps:
        number = trace.run_of(step)
        # Files stay where the provider put them; only requests with a job's id are compared.
        if number is None or not runs[number].resumed or not _names(step, jobs):
            continue
        yield OBSERVED
        # One base URL may be under the other, so that a request can belong to both.
        new = runs[number].base
        if _within(step.exchange.url, new) and not _within(step.exchange.url, old):
            yield Breach(f"request {step.number} asks {new} for a job that was created at {old}")


def _names(step: Step, jobs: set[str | None]) -> bool:
    if step.role == "media":
        return False
    return step.exchange.job in jobs - {None} or any(job in step.exchange.url for job in jobs if job)


def _within(url: str, base: str) -> bool:
    """Whether a URL has a base's scheme, host and port, and a path under the base's path."""
    one, other = urlsplit(url), urlsplit(base)
    same = (one.scheme.lower(), one.netloc.lower()) == (other.scheme.lower(), other.netloc.lower())
    return same and f"{one.path}/".startswith(f"{other.path.rstrip('/')}/")
