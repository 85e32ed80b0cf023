"""Why a client gets no video from a faultless server: the requests, the outcome and the likely cause. No server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.traces.annotated import GAVE_UP, AnnotatedTrace, Step
from hobbyhorse.traces.trace import Outcome

# Requests listed of a client that submits no job: enough to recognize a wrong base URL or path.
MOST_LISTED = 5
# Polls of a client that gave up waiting, below which its HTTP client probably answers further polls from a cache.
FEW_POLLS = 2

# The share of a client's own patience that the provider's longest job may take: the client sees several polls of a job
# under way, and still has time for the download and for one retry with a pause.
PATIENCE_SHARE = 0.6

# Statuses that refuse the key, not the content (RFC 9110, sections 15.5.2 and 15.5.4).
KEY_REFUSED = (401, 403)


def without_video(trace: AnnotatedTrace) -> str | None:
    """Return why a run against a faultless server gave no video; None if it gave one."""
    if not trace.submits:
        sent = [f"{step.exchange.method} {step.exchange.url} ({step.status})" for step in trace.steps[:MOST_LISTED]]
        sent += [f"and {len(trace.steps) - MOST_LISTED} more"] if len(trace.steps) > MOST_LISTED else []
        return f"the client submitted no job; its requests: {', '.join(sent) or 'none'}{_ending(trace)}"
    if trace.outcome is None or trace.outcome.kind == "success":
        return None
    last = trace.steps[-1]
    return (
        f"the client got no video from a server without faults; its last request was "
        f"{last.exchange.method} {last.exchange.url} ({last.status}){_ending(trace)}"
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """What test cases are adapted to in a client: its patience, and the operation with which it submits.

    `share` is the share of their usual durations that jobs take. Requests have the form that the operation `role` has.
    """

    share: float = 1.0
    role: str = "submit"

    def to_json(self) -> dict[str, Any]:
        """Return the members that differ from the usual ones."""
        share = {"share": self.share} if self.share != 1 else {}
        return {**share, **({"role": self.role} if self.role != "submit" else {})}

    def with_role(self, happy: AnnotatedTrace) -> Fit:
        """Return the fit with the operation that a client used on a server without faults."""
        return replace(self, role=_submitting(happy) or self.role)

    def with_share(self, stuck: AnnotatedTrace) -> Fit:
        """Return the fit with the patience that a client had with a job that never ends."""
        return replace(self, share=fitting_share(stuck))


def _submitting(trace: AnnotatedTrace) -> str | None:
    """Return the operation to which every submission was sent, and of which a documented request is known."""
    roles = {step.role for step in trace.submits}
    known = {operation.role for operation, model, _ in documented_jobs(trace.contract) if model.id == trace.trace.model}
    return next(iter(roles)) if len(roles) == 1 and roles <= known else None


def own_deadline(stuck: AnnotatedTrace) -> float | None:
    """Return how long a client waited for a job that never ends, in seconds, if it then gave up by itself."""
    # Not `ended`: a client may cancel a job that it gives up.
    waited = stuck.accepted is not None and not any(one.terminal for one in stuck.reads)
    return stuck.waited if waited and _gave_up(stuck.outcome) else None


def _gave_up(outcome: Outcome | None) -> TypeGuard[Outcome]:
    """Whether a run ended by itself without its video: it was not cut off, and its threads were not stuck."""
    return outcome is not None and outcome.kind in GAVE_UP and not outcome.stuck


def fitting_share(trace: AnnotatedTrace) -> float:
    """Return the share of their usual durations that jobs must take, so that the client of a trace waits for their end.

    It is 1 unless the client gave up, on a server without other faults, while its job was under way.
    """
    outcome, waited = trace.outcome, trace.waited
    if not _gave_up(outcome):
        return 1.0
    if trace.trace.jobs and trace.run is not None and not any(step.delivered for step in trace.steps):
        # It waited for the response to its submission, which comes at the end of the job.
        waited = outcome.ended - trace.run.started
    elif trace.accepted is None or not trace.reads or not trace.reads[-1].under_way:
        return 1.0
    graph = trace.contract.graph
    longest = sum(graph[name].lasts[1] for name in graph.path(graph.initial))
    return min(1.0, PATIENCE_SHARE * waited / longest) if longest and waited else 1.0


def refused(trace: AnnotatedTrace) -> bool:
    """Whether the server refused every submission because of its content, not because of the key."""
    statuses = [step.status for step in trace.submits]
    return bool(statuses) and trace.accepted is None and not any(status in KEY_REFUSED for status in statuses)


def _ending(trace: AnnotatedTrace) -> str:
    """Describe how the run ended, with the likely cause."""
    outcome, words = trace.outcome, _likely_cause(trace)
    words = f"; {words}" if words else ""
    if outcome is None:
        return words
    return f"{words}; the run ended as {outcome.kind!r}" + (f": {outcome.message}" if outcome.message else "")


def _likely_cause(trace: AnnotatedTrace) -> str | None:
    if any(step.status == 401 for step in trace.steps):
        return "does the client send its API key in the provider's scheme?"
    if trace.accepted is None or trace.fetches:
        return None
    done = next((step for step in trace.steps if step.success), None)
    if done is not None and trace.after(done, trace.polls):
        return _wrong_word(trace, done)
    if any(step.video for step in trace.steps):
        return "the client received the URL of its video, on the base URL's host, but did not fetch the video"
    if len(trace.polls) <= FEW_POLLS and trace.outcome is not None and trace.outcome.kind in ("timeout", "unfinished"):
        polls = f"{len(trace.polls)} poll{'s' if len(trace.polls) != 1 else ''}"
        return (
            f"only {polls} reached the server, although the client waited {trace.waited:.0f} s: "
            "does its HTTP client cache GET requests, or does it wait for something else?"
        )
    return None


def _wrong_word(trace: AnnotatedTrace, done: Step) -> str:
    words = ", ".join(repr(stage.name) for stage in trace.contract.graph if stage.terminal)
    return (
        f"request {done.number} returned stage {done.stage!r}, but the client polled on: does it expect another word? "
        f"The contract's last stages: {words}"
    )
