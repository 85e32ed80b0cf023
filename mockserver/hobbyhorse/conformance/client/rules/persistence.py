"""Rules about being killed: a job outlives its client, and is taken up where it was bought. Knows no server."""

from __future__ import annotations

from urllib.parse import urlsplit

from hobbyhorse.conformance.client.rule import Rule, each_order
from hobbyhorse.traces.annotated import AnnotatedTrace, Step


@each_order
def resume_not_resubmit(story: AnnotatedTrace) -> list[str] | None:
    """Hold the submissions of a resumed run against those of the runs before it."""
    found: list[str] = []
    resumed = [number for number, run in enumerate(story.trace.runs) if run.resumed]
    runs = {step.number: story.run_of(step) or 0 for step in story.submits}
    if not any(runs[step.number] < number for step in story.submits for number in resumed):
        return None
    for again in story.submits:
        for step in story.submits:
            if runs[step.number] < runs[again.number] and _bought(step) and not story.same(step, again):
                found.append(f"request {again.number} of the resumed client orders again what {_fate(step)}")
                break
    return found


def _bought(step: Step) -> bool:
    """Whether a submission made a job, or may have."""
    return step.ok or step.ambiguous


def _fate(step: Step) -> str:
    if step.job_told is not None:
        return f"request {step.number} had ordered: the job {step.job_told}"
    return f"request {step.number} may have ordered ({f'status {step.status}' if step.status else 'no answer'})"


@each_order
def right_provider(story: AnnotatedTrace) -> list[str] | None:
    """Look for requests that take a job to another base than that of the provider that made it."""
    runs = story.trace.runs
    if story.trace.drill != "moved" or len(runs) < 2:
        return None
    old = runs[0].base
    jobs = {step.job_told for step in story.submits if step.accepted and step.done <= runs[1].started}
    found: list[str] = []
    seen = False
    for step in story.steps:
        number = story.run_of(step)
        if number is None or not runs[number].resumed or not _names(step, jobs):
            continue
        seen = True
        new = runs[number].base
        if _within(step.exchange.url, new) and not _within(step.exchange.url, old):
            found.append(f"request {step.number} asks {new} for a job that {old} made")
    return found if seen else None


def _names(step: Step, jobs: set[str | None]) -> bool:
    if step.role == "media":
        return False
    return step.exchange.job in jobs - {None} or any(job in step.exchange.url for job in jobs if job)


def _within(url: str, base: str) -> bool:
    """Whether an address has a base's scheme, host and port, and a path below its."""
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
        "A client that was killed after it had ordered takes up the same job, and does not order again; the provider's "
        "replay of the same key and body is no new order.",
        "Every deploy buys again what was under way: ArcReel/ArcReel#628, ArcReel/ArcReel#2212, ArcReel/ArcReel#647.",
        resume_not_resubmit,
    ),
    Rule(
        "PER-02",
        "right-provider",
        "MUST",
        "S1",
        "restart",
        "A client that is started again with another base URL asks for a job where it was bought.",
        "The id means nothing elsewhere, so that a paid job counts as lost, or somebody else's is read: "
        "BerriAI/litellm#16753, ArcReel/ArcReel#1822.",
        right_provider,
    ),
)
