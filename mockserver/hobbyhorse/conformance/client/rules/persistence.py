"""Rules about restarts: a job outlives its client, and is resumed at the provider that made it. Knows no server."""

from __future__ import annotations

from urllib.parse import urlsplit

from hobbyhorse.conformance.client.rule import Rule, each_order
from hobbyhorse.traces.annotated import AnnotatedTrace, Step


@each_order
def resume_not_resubmit(trace: AnnotatedTrace) -> list[str] | None:
    """Compare the submissions of a resumed run with the submissions of earlier runs."""
    found: list[str] = []
    resumed = [number for number, run in enumerate(trace.runs) if run.resumed]
    runs = {step.number: trace.run_of(step) or 0 for step in trace.submits}
    # If no earlier run submitted anything, the resumed run has nothing to resume.
    if not any(runs[step.number] < number for step in trace.submits for number in resumed):
        return None
    for again in trace.submits:
        for step in trace.submits:
            if runs[step.number] < runs[again.number] and _made_job(step) and not trace.same(step, again):
                found.append(f"request {again.number} of the resumed client submits again: {_fate(step)}")
                break
    return found


def _made_job(step: Step) -> bool:
    """Whether a submission made a job, or may have."""
    return step.ok or step.ambiguous


def _fate(step: Step) -> str:
    if step.job_told is not None:
        return f"request {step.number} had made the job {step.job_told}"
    return f"request {step.number} may have made a job ({f'status {step.status}' if step.status else 'no response'})"


@each_order
def right_provider(trace: AnnotatedTrace) -> list[str] | None:
    """Look for requests that use a job's id under another base URL than its own."""
    runs = trace.runs
    if trace.trace.drill != "moved" or len(runs) < 2:
        return None
    old = runs[0].base
    jobs = {step.job_told for step in trace.submits if step.accepted and step.done <= runs[1].started}
    found: list[str] = []
    seen = False
    for step in trace.steps:
        number = trace.run_of(step)
        # Files stay where the provider put them; only requests with a job's id are compared.
        if number is None or not runs[number].resumed or not _names(step, jobs):
            continue
        seen = True
        # One base URL may be below the other, so that a request can belong to both.
        new = runs[number].base
        if _within(step.exchange.url, new) and not _within(step.exchange.url, old):
            found.append(f"request {step.number} requests from {new} a job that {old} made")
    return found if seen else None


def _names(step: Step, jobs: set[str | None]) -> bool:
    if step.role == "media":
        return False
    return step.exchange.job in jobs - {None} or any(job in step.exchange.url for job in jobs if job)


def _within(url: str, base: str) -> bool:
    """Whether a URL has a base's scheme, host and port, and a path below the base's path."""
    one, other = urlsplit(url), urlsplit(base)
    same = (one.scheme.lower(), one.netloc.lower()) == (other.scheme.lower(), other.netloc.lower())
    return same and f"{one.path}/".startswith(f"{other.path.rstrip('/')}/")


RULES = (
    Rule(
        "PER-01",
        "resume-not-resubmit",
        "MUST",
        "S1",
        "restart",
        "A client that was killed after submitting resumes the same job and does not submit again; the provider's "
        "replay of the same key and body is not a new submission.",
        "Every deployment pays again for the running jobs: ArcReel/ArcReel#628, ArcReel/ArcReel#2212, "
        "ArcReel/ArcReel#647.",
        resume_not_resubmit,
    ),
    Rule(
        "PER-02",
        "right-provider",
        "MUST",
        "S1",
        "restart",
        "A client that is restarted with another base URL still requests a job from the provider that made it.",
        "The id means nothing elsewhere: a paid job counts as lost, or another customer's job is read: "
        "BerriAI/litellm#16753, ArcReel/ArcReel#1822.",
        right_provider,
    ),
)
