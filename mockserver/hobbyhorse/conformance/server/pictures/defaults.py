"""Orders that differ in one parameter only: its documented default, another value, or nothing.

Their videos are compared by their first frames. Only a parameter that shows there is ordered in this way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hobbyhorse.conformance.server.session import PaidJob, Session, Skipped
from hobbyhorse.conformance.server.video_check import DEFAULT, frames_differ
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.forms.expressions import MISSING, replaced
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.contract.values import Model
from hobbyhorse.traces.annotated import Step

# The parameter that puts a mark on each frame.
MARK = "watermark"
PROBE = "defaults"


def has_visible_default(model: Model) -> bool:
    """Whether a model documents the default of a parameter that shows in each frame."""
    return MARK in model.parameters and isinstance(model.defaults.get(MARK), bool)


def orders_of_default(session: Session) -> list[dict[str, Any]]:
    """Return the first order with the default, with the other value, and without the parameter."""
    default = bool(session.model.defaults[MARK])
    at = (*session.submit.model_parameters.pointer, *session.model.parameters[MARK][0])
    return [replaced(session.order, at, value) for value in (default, not default, MISSING)]


def order_defaults(session: Session) -> None:
    """Submit the orders, except the one of the paid job, and compare their videos. Raises Skipped."""
    bodies = orders_of_default(session)
    for body in bodies:
        if not isinstance(try_order(session.contract, session.submit, session.model.id, body), ValidRequest):
            raise Skipped("the model has no order that differs in this parameter only")
    paid = session.finished()
    # All of them run at once.
    steps = [None if body == session.order else _submitted(session, body) for body in bodies]
    films = [session.fetch_video(paid if step is None else _finished(session, step)) for step in steps]
    usual, other, left_out = films
    found = (frames_differ(left_out, usual), frames_differ(left_out, other), frames_differ(usual, other))
    if None in found:
        raise Skipped("the first frames cannot be compared: they need the package av")
    # The video that was fetched last is that of the order without the parameter.
    last = session.videos[-1]
    session.videos[-1] = replace(last, facts={**last.facts, DEFAULT: [MARK, *found]})


def _submitted(session: Session, body: dict[str, Any]) -> Step:
    step = session.submit_order(PROBE, body)
    if step.job_told is None:
        raise Skipped(f"the submission got {step.status} and no job id")
    return step


def _finished(session: Session, step: Step) -> PaidJob:
    job = str(step.job_told)
    end = session.follow(job, PROBE)
    result = session.poll(job, PROBE, "result") if "result" in session.contract.operations else None
    return PaidJob(job, step, end, result)
