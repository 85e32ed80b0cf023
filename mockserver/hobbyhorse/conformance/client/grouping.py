"""Questions that several rules ask of a trace: which requests belong together, and what the client knew. No rules."""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, Message
from hobbyhorse.traces.annotated import GAVE_UP, READS, SUBMISSIONS, AnnotatedTrace, Step, origin, parts, remembered

# Polls of a running job in a row, after which a client that fails has met its own deadline. One that fails because it
# cannot read such a response fails at the first.
STEADY_POLLS = 3

# Requests of a run after which it has no bound of its own, if it was cut off: a client that counts its attempts allows
# fewer.
ENDLESS_REQUESTS = 300
# The longest wait in recorded traffic, in seconds, if the contract only assumes one: no deadline of a client is longer.
RECORDED_WAIT = 43_200.0

RequestGroup = tuple[Step, ...]
"""The requests of some roles that one run of the client made for one job, oldest first."""


@remembered
def request_groups(trace: AnnotatedTrace, *roles: str) -> tuple[RequestGroup, ...]:
    """Group the requests of some roles by run and job, submissions by run, and downloads by file.

    If a response names no job, its request is about the job that other responses at its URL name. A file is identified
    by its path: a fresh signature in the query does not make it another file. In recorded traffic, which shows no runs,
    another page or a long silence is another run.
    """
    steps = trace.of(*roles)
    named = {(step.exchange.url, step.job) for step in steps if step.job}
    # A URL that serves several jobs, such as that of a list, identifies none of them.
    jobs_at = Counter(url for url, _ in named)
    jobs = {url: job for url, job in named if jobs_at[url] == 1}
    groups: dict[object, list[Step]] = {}
    for step in steps:
        url = step.exchange.url
        about = "order" if step.role in SUBMISSIONS else step.job or jobs.get(url, url)
        file = parts(url).path if step.role == "media" else None
        groups.setdefault((trace.run_of(step), step.exchange.page, about, file), []).append(step)
    return tuple(part for group in groups.values() for part in _visits(trace, group))


def _visits(trace: AnnotatedTrace, group: list[Step]) -> Iterator[RequestGroup]:
    """Split the requests of a group at each silence that shows a new run."""
    begun = [n for n, step in enumerate(group) if n == 0 or _returns(trace, group[n - 1], step)]
    for start, end in itertools.pairwise([*begun, len(group)]):
        yield tuple(group[start:end])


def _returns(trace: AnnotatedTrace, before: Step, step: Step) -> bool:
    # A silence that the response itself requested is none.
    return before.exchange.answer_header("retry-after") is None and trace.is_resumed(step, before.arrived)


def had_response(step: Step, later: Step) -> bool:
    """Whether the client is known to have had a complete response when it sent a later request."""
    return step.delivered and step.timed and step.done <= later.arrived


def consecutive(group: RequestGroup, is_meant: Callable[[Step], bool]) -> Iterator[tuple[RequestGroup, Step | None]]:
    """Yield each longest stretch of neighbours that all satisfy a predicate, with the request that follows it."""
    start = 0
    for meant, steps in itertools.groupby(group, is_meant):
        stretch = tuple(steps)
        start += len(stretch)
        if meant:
            yield stretch, group[start] if start < len(group) else None


def between(trace: AnnotatedTrace, one: Step, other: Step) -> tuple[Step, ...]:
    """Return the steps from one (inclusive) to another (exclusive)."""
    numbers = operator.attrgetter("number")
    start, stop = (bisect.bisect_left(trace.steps, step.number, key=numbers) for step in (one, other))
    return trace.steps[start:stop]


def has_callback_url(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a submission has a URL for callbacks."""
    binding = trace.contract.operations[step.role or ""].bindings.get("callback_url")
    try:
        message = Message({}, {}, step.exchange.header, orjson.loads(step.exchange.body))
    except orjson.JSONDecodeError:
        return False
    places = binding.request if binding is not None else ()
    return any(place.get(message) not in (MISSING, None, "") for place in places)


def called_back(trace: AnnotatedTrace, one: Step, other: Step) -> bool:
    """Whether a callback was sent between two requests, or up to a second earlier.

    A careful client reads the job immediately after a callback, so the pause between such requests proves nothing.
    """
    return callbacks_between(trace, one, other) > 0


def callbacks_between(trace: AnnotatedTrace, one: Step, other: Step) -> int:
    """Return how many callbacks were sent between two requests, or up to a second earlier."""
    return sum(one.arrived - 1.0 <= delivery.sent <= other.arrived for delivery in trace.deliveries)


def wait_began(trace: AnnotatedTrace) -> float | None:
    """Return when the last run began to wait: at its start, or when its job was accepted if that is later.

    Without an accepted submission it is the first request; None if there is no request.
    """
    first = trace.accepted.done if trace.accepted is not None else next((s.arrived for s in trace.steps), None)
    return max(first, trace.run.started) if first is not None and trace.run is not None else first


def allowed_wait(trace: AnnotatedTrace, margin: tuple[float, float]) -> float:
    """Return the seconds that a client may wait: the longest wait, times a factor, and some seconds more.

    If no document limits the wait, a client may have another deadline, or count its polls. Then only a wait without a
    bound is too long.
    """
    factor, more = margin
    longest = factor * trace.patience + more
    if trace.contract.polling_documented or endless(trace):
        return longest
    return math.inf if trace.outcome is not None else max(longest, RECORDED_WAIT)


def endless(trace: AnnotatedTrace) -> bool:
    """Whether the last run had to be cut off, after more requests than a client makes that counts them."""
    outcome = trace.outcome
    if outcome is None or outcome.kind != "unfinished":
        return False
    last = len(trace.runs) - 1
    return sum(trace.run_of(step) in (None, last) for step in trace.steps) >= ENDLESS_REQUESTS


def shown_success(trace: AnnotatedTrace) -> bool:
    """Whether a response or a genuine callback, complete or not, may have been read as a success.

    This includes a list with one of the client's jobs, and a video URL beside an unknown stage word.
    """
    if any(_may_show(step) or trace.lists(step) for step in trace.steps):
        return True
    return any("success" in kinds for _, kinds in trace.callbacks)


def _may_show(step: Step) -> bool:
    if step.role == "media" or not 200 <= step.status < 300:
        return False
    video = step.reading.values.get("video_url")
    return "success" in step.kinds or (isinstance(video, str) and video != "" and not step.kinds)


def has_result_operation(trace: AnnotatedTrace) -> bool:
    """Whether the video URL is in the response of an operation other than the status."""
    return "result" in trace.contract.operations


def usable(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a response has a video URL that a client may fetch."""
    video = step.video or ""
    return video.startswith(("http://", "https://")) and origin(video) != trace.trace.origins.get("private")


def submitted_again(trace: AnnotatedTrace, since: Step) -> list[Step]:
    """Return the submissions after a request that do not safely repeat an earlier submission."""
    before = [one for one in trace.submits if one.number < since.number]
    return [again for again in trace.after(since, trace.submits) if not any(trace.same(one, again) for one in before)]


def gave_up(trace: AnnotatedTrace) -> bool:
    """Whether the client's only run ended with a failure or an error, without the influence of a callback."""
    outcome = trace.outcome
    return (
        trace.trace.drill == "once"
        and len(trace.runs) == 1
        and outcome is not None
        and outcome.kind in ("failed", "error")
        and not trace.deliveries
    )


def undisturbed(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a response was one of the contract's, without a fault; for a file, whether it was delivered."""
    if step.role == "media":
        return step.ok and step.exchange.move is None
    operation = trace.contract.operations.get(step.role or "")
    names = operation.situations if operation is not None else {}
    # A scenario may answer with a documented situation: that is the provider's behaviour, not a distortion.
    return step.clean and (step.exchange.move is None or step.exchange.move.split()[0] in names)


def stopped_waiting(trace: AnnotatedTrace) -> bool:
    """Whether the client's own deadline ended its last run, however short that deadline is.

    The client reports a timeout itself, or its last responses show that nothing but the deadline can have ended it. An
    exception with "timeout" in its name may instead be the timeout of one request.
    """
    outcome = trace.outcome
    if outcome is None or outcome.kind not in GAVE_UP:
        return False
    if outcome.told:
        return outcome.kind == "timeout"
    # A callback may be the reason for an inferred failure.
    if outcome.kind != "timeout" and trace.deliveries:
        return False
    needed = 1 if outcome.kind == "timeout" else STEADY_POLLS
    last = [step for step in trace.steps if step.role != "cancel"][-needed:]
    return len(last) == needed and all(
        step.role in READS and step.under_way and undisturbed(trace, step) for step in last
    )


def went_on(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether the trace shows the client's reaction to a response: a later request, or the end of its run.

    A run that was cut off, or a recording that ends there, shows none.
    """
    ended = trace.outcome is not None and trace.outcome.kind != "unfinished"
    return ended or trace.steps[-1].number > step.number


def misleading_date(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a response requests a wait until a date that a correct client may misread.

    In virtual time, `datetime` in installed packages reads the real clock, so a date seems far away or long past.
    Nothing is misread if the runner has seen no package read it. A date without a zone, as `asctime` writes it, is
    misread even so: by nearly every client, for which VAR-19 is the rule.
    """
    wait = step.exchange.answer_header("retry-after")
    if wait is None or wait.strip().isdecimal():
        return False
    return trace.trace.real_dates or (trace.trace.virtual and "," not in wait)
