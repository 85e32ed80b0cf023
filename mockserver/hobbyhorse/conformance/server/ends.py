"""The last probe: every job of the suite is read until it ends, so that other orders than the first one are judged.

The jobs have been running meanwhile, so this costs no money and little time.
"""

from __future__ import annotations

from hobbyhorse.conformance.server.bodies import FORM
from hobbyhorse.conformance.server.queries import form_queries
from hobbyhorse.conformance.server.session import PaidJob, Session, Skipped
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import order_of
from hobbyhorse.traces.trace import Trace

PROBE = "ends"
# Polls of one job of a fast endpoint, so that no stage is missed between two of them.
CLOSE_POLLS = 30
# A closer look than this finds no stage that a client could act on.
LEAST_PAUSE = 0.02
# The status of an endpoint that limits the rate of requests (RFC 6585, section 4).
TOO_MANY_REQUESTS = 429
# The probes whose orders differ from the first one in the size or the length of the video, or in their form.
OTHER_ORDERS = ("bound:", "bounds:", FORM)


def read_to_the_ends(session: Session) -> None:
    """Poll each accepted job until its end, read its result, and fetch its video if its order was another one.

    The newest of them is looked at in each stage. The job of each model that every rule shares is read once more.
    Raises OutOfTime and EndpointUnreachable.
    """
    operations = session.contract.operations
    # With everything that can be requested, such as the cost.
    asked = {name: value for query in form_queries(operations.get("result")) for name, value in query.items()}
    for number, step in enumerate(unread(session)):
        job = str(step.job_told)
        try:
            if number == 0:
                look_in_each_stage(session, job)
            end = session.follow(job, PROBE)
            result = session.poll(job, PROBE, "result", query=asked) if "result" in operations else None
            _fetch(session, PaidJob(job, step, end, result))
        except Skipped as error:
            session.note(PROBE, f"job {job}: {error}")
    for job in session.delivered:
        for role in ("status", "result"):
            if role in operations:
                session.poll(job, PROBE, role)


def _fetch(session: Session, done: PaidJob) -> None:
    """Fetch the video of an order at a bound. Raises Skipped."""
    step = done.accepted
    order = order_of(AnnotatedTrace(session.contract, Trace(session.contract.key, session.endpoint.base_url)), step)
    if order is not None and done.video is not None and (step.exchange.probe or "").startswith(OTHER_ORDERS):
        session.turn_to(order.model)
        session.fetch_video(done)


def look_in_each_stage(session: Session, job: str) -> None:
    """Read the result of a job in each stage before its end, and cancel it where that has no effect. Raises Skipped."""
    graph, operations, seen = session.contract.graph, session.contract.operations, set[frozenset[str]]()
    # A job that hangs has shown all its stages by then.
    until = session.clock() + session.patience
    while session.clock() < until and not (step := closely(session, job, PROBE)).terminal and step.reading.stages:
        stages = [graph[name] for name in step.reading.stages if not graph[name].terminal]
        if step.reading.stages in seen or not stages:
            # The next stage is still to come.
            if len(seen) >= sum(not stage.terminal for stage in graph):
                return
            continue
        seen.add(step.reading.stages)
        if "result" in operations:
            session.poll(job, PROBE, "result", wait=False)
        # A stage that cannot be told from a cancellable one may have either response.
        if "cancel" in operations and not any(stage.cancellable for stage in stages):
            session.poll(job, f"{PROBE}:cancel", "cancel", wait=False)


def closely(session: Session, job: str, probe: str) -> Step:
    """Poll a job; more often than documented if the first job was so fast that whole stages would be missed."""
    documented, took = session.contract.polling.least_interval, session.paid_seconds
    pause = documented if took is None else max(took / CLOSE_POLLS, LEAST_PAUSE)
    if pause >= documented:
        return session.poll(job, probe)
    session.pause(pause)
    step = session.poll(job, probe, wait=False)
    # An endpoint may refuse more polls than documented.
    return session.poll(job, probe) if step.status == TOO_MANY_REQUESTS else step


def unread(session: Session) -> list[Step]:
    """Return the submissions whose jobs no response has shown at their end, the newest first: it ends last."""
    steps = AnnotatedTrace(session.contract, session.trace()).steps
    ended = {step.job for step in steps if step.terminal and step.job is not None}
    found = {step.job_told: step for step in steps if step.accepted and step.job_told is not None}
    return [step for job, step in reversed(found.items()) if job not in ended]
