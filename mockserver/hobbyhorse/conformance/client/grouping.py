"""What the rules about polling and retries both ask of a story: whose request it is, since when, and what was shown."""

from __future__ import annotations

import bisect
import itertools
import operator
from collections import Counter
from collections.abc import Callable, Iterator

from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step, origin, parts

RequestGroup = tuple[Step, ...]
"""The requests of some roles that one run of the client made for one job, oldest first."""


def lines(story: AnnotatedTrace, *roles: str) -> tuple[RequestGroup, ...]:
    """Return the requests of roles, run by run and job by job; submissions run by run; of files, each by itself.

    A request whose answer tells of no job is about the job of which others at its address tell. A file is the same
    under another signature.
    """
    steps = story.of(*roles)
    told = {(step.exchange.url, step.job) for step in steps if step.job}
    alone = Counter(url for url, _ in told)
    jobs = {url: job for url, job in told if alone[url] == 1}
    groups: dict[object, list[Step]] = {}
    for step in steps:
        url = step.exchange.url
        about = "order" if step.role in SUBMISSIONS else step.job or jobs.get(url, url)
        file = parts(url).path if step.role == "media" else None
        groups.setdefault((story.run_of(step), about, file), []).append(step)
    return tuple(tuple(group) for group in groups.values())


def known(step: Step, later: Step) -> bool:
    """Whether a client had an answer when it sent a later request."""
    return step.delivered and step.done <= later.arrived


def rows(line: RequestGroup, is_meant: Callable[[Step], bool]) -> Iterator[tuple[RequestGroup, Step | None]]:
    """Yield the longest rows of neighbours that are all meant, each with the request behind it."""
    start = 0
    for meant, group in itertools.groupby(line, is_meant):
        row = tuple(group)
        start += len(row)
        if meant:
            yield row, line[start] if start < len(line) else None


def between(story: AnnotatedTrace, one: Step, other: Step) -> tuple[Step, ...]:
    """Return the steps from one, which is with them, to another, which is not."""
    numbers = operator.attrgetter("number")
    start, stop = (bisect.bisect_left(story.steps, step.number, key=numbers) for step in (one, other))
    return story.steps[start:stop]


def called_back(story: AnnotatedTrace, one: Step, other: Step) -> bool:
    """Whether a callback came between two requests, or just before: to read at once is careful then."""
    return any(one.arrived - 1.0 <= delivery.sent <= other.arrived for delivery in story.trace.deliveries)


def begun(story: AnnotatedTrace) -> float | None:
    """Return when the last run began to wait: with the acceptance of its job, or its first request, or its start."""
    first = story.accepted.done if story.accepted is not None else next((s.arrived for s in story.steps), None)
    return max(first, story.run.started) if first is not None and story.run is not None else first


def shown_success(story: AnnotatedTrace) -> bool:
    """Whether an answer or a genuine callback showed a success, or may have been read as one, whole or not.

    A list of jobs with the client's own may have, and so may a video's address beside a stage word that no document
    has.
    """
    if any(_may_show(step) or story.lists(step) for step in story.steps):
        return True
    return any("success" in kinds for _, kinds in story.told)


def _may_show(step: Step) -> bool:
    if step.role == "media" or not 200 <= step.status < 300:
        return False
    video = step.reading.values.get("video_url")
    return "success" in step.kinds or (isinstance(video, str) and video != "" and not step.kinds)


def two_steps(story: AnnotatedTrace) -> bool:
    """Whether the video is told by another operation than the status."""
    return "result" in story.contract.operations


def usable(story: AnnotatedTrace, step: Step) -> bool:
    """Whether an answer names a video that a client may fetch."""
    video = step.video or ""
    return video.startswith(("http://", "https://")) and origin(video) != story.trace.origins.get("private")


def reordered(story: AnnotatedTrace, since: Step) -> list[Step]:
    """Return the submissions behind a request that repeat none before it in a way that is safe."""
    before = [one for one in story.submits if one.number < since.number]
    return [again for again in story.after(since, story.submits) if not any(story.same(one, again) for one in before)]


def gave_up(story: AnnotatedTrace) -> bool:
    """Whether the only run of the client ended with a failure or a mistake, and no callback had a say in it."""
    outcome = story.outcome
    return (
        story.trace.drill == "once"
        and len(story.trace.runs) == 1
        and outcome is not None
        and outcome.kind in ("failed", "error")
        and not story.trace.deliveries
    )


def untroubled(story: AnnotatedTrace, step: Step) -> bool:
    """Whether an answer was one that the contract has, untouched; of a file, that it came."""
    if step.role == "media":
        return step.ok and step.exchange.move is None
    operation = story.contract.operations.get(step.role or "")
    names = operation.situations if operation is not None else {}
    return step.clean and (step.exchange.move is None or step.exchange.move.split()[0] in names)
