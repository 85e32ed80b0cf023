"""Submissions with pictures of the suite's own, followed to the ends of their jobs.

A picture goes into the request as a data URI if the contract documents one, else the receiver of callbacks serves it.
All jobs run at once. If a picture at several limits is refused, or its job fails, pictures at one limit each follow
until one of them is refused, too; refusals and failures make no video.
"""

from __future__ import annotations

import base64
import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx

from hobbyhorse.conformance.server.bodies import replace_parameter
from hobbyhorse.conformance.server.expected import member_schema
from hobbyhorse.conformance.server.pictures.samples import (
    ALONE,
    AT,
    BEYOND,
    BYTES,
    PORTRAIT,
    Sample,
    alone,
    at_limits,
    beyond,
)
from hobbyhorse.conformance.server.rules.media import mentions
from hobbyhorse.conformance.server.session import PaidJob, Session, Skipped
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.traces.annotated import Step

# The requests about the jobs of all pictures have this name.
PROBE = "pictures"
# In base64, and with the rest of the body, below 1 MB: the usual limit of whatever is in front of an endpoint.
MOST_INLINE_BYTES = 700_000
# The name of the picture that shows whether a public URL leads to the receiver.
TRIAL, TRIAL_SECONDS = "trial.png", 10.0
NO_HOST = "the endpoint cannot fetch it from this machine; set --callback-url"


def order_at_limits(session: Session) -> None:
    """Submit the pictures at the limits, follow their jobs, and find the limit at which one is refused."""
    limits, host = _limits(session), _Host(session)
    samples = [_without_bytes(session, host, one) for one in at_limits(limits)]
    try:
        for sample, step in [*_submitted(session, host, AT, samples)]:
            if not _is_refused(session, sample, step):
                continue
            for one in alone(limits, sample):
                if any(_is_refused(session, *pair) for pair in _submitted(session, host, ALONE, [one])):
                    break
    finally:
        host.close()


def order_beyond_limits(session: Session) -> None:
    """Submit the pictures beyond the limits, and follow the jobs that they get."""
    host = _Host(session)
    try:
        for sample, step in [*_submitted(session, host, BEYOND, beyond(_limits(session)))]:
            _is_refused(session, sample, step)
    finally:
        host.close()


def _limits(session: Session) -> PictureLimits:
    limits = session.model.images
    assert limits is not None
    return limits


def _without_bytes(session: Session, host: _Host, sample: Sample) -> Sample:
    """Return a sample that need not be hosted, if it cannot be."""
    if sample.nbytes is None or host.why_not is None:
        return sample
    session.note(f"{AT}{BYTES}", host.why_not)
    return replace(sample, nbytes=None, facets=tuple(one for one in sample.facets if one != BYTES))


def _submitted(session: Session, host: _Host, kind: str, samples: list[Sample]) -> Iterator[tuple[Sample, Step]]:
    """Submit a job for each sample, and yield it with its response; note the samples that are left out."""
    for sample in samples:
        name = kind + ",".join(sample.facets)
        try:
            body = _ordered(session, host, sample)
            more = {} if kind == BEYOND else {"expected": "accepted"}
            yield sample, session.call("submit", probe=name, price=session.price_of(body), body=body, **more)
        except Skipped as error:
            session.note(name, str(error))


def _ordered(session: Session, host: _Host, sample: Sample) -> dict[str, Any]:
    """Return a submission with a sample's picture. Raises Skipped."""
    # Pillow is imported with the first picture: most commands need none.
    drawing = importlib.import_module("hobbyhorse.conformance.server.pictures.drawing")
    order = session.marked("picture")
    try:
        data: bytes = drawing.drawn(sample)
    except ValueError as error:
        raise Skipped(str(error)) from None
    for address in _addresses(session, host, sample, data):
        for name in ("first_frame", "references"):
            body = replace_parameter(session.submit, session.model, order, name, address)
            if body is not order and isinstance(
                try_order(session.contract, session.submit, session.model.id, body), ValidRequest
            ):
                return dict(body)
    raise Skipped(host.why_not or "the model takes no picture by its URL")


def _addresses(session: Session, host: _Host, sample: Sample, data: bytes) -> Iterator[str]:
    """Yield the ways to give a picture to the endpoint, the preferred one first."""
    address = f"data:image/{sample.format};base64,"
    if len(data) <= MOST_INLINE_BYTES and _documents(session, address):
        yield address + base64.b64encode(data).decode()
    if host.why_not is None:
        yield host.publish(sample, data)


def _documents(session: Session, address: str) -> bool:
    """Whether the contract names data URIs: a schema without a pattern names no scheme at all."""
    model = session.model
    for pointer in (at for name in ("first_frame", "references") for at in model.parameters.get(name, ())):
        at = member_schema(session.contract, model.schema, pointer)
        schema = session.contract.schemas.at(at) if at is not None else None
        pattern = schema.get("pattern") if isinstance(schema, dict) else None
        if isinstance(pattern, str) and re.search(pattern, address):
            return True
    return False


def _is_refused(session: Session, sample: Sample, step: Step) -> bool:
    """Follow the job of a picture; return whether the endpoint has refused the picture, now or by the job's failure."""
    if step.job_told is None:
        return 400 <= step.status < 500
    try:
        end = session.follow(step.job_told, PROBE)
        reads_result = "result" in session.contract.operations
        result = session.poll(step.job_told, PROBE, "result") if reads_result else None
        failed = end.failure or (result is not None and result.failure)
        if not failed and PORTRAIT in sample.facets and _follows_picture(session):
            done = PaidJob(step.job_told, step, end, result)
            session.fetch_video(done, shape=sample.width / sample.height)
    except Skipped as error:
        session.note(f"{PROBE}:{','.join(sample.facets)}", str(error))
        return False
    return failed


def _follows_picture(session: Session) -> bool:
    """Whether the documentation promises a video in the shape of the picture."""
    model = session.model
    return "first_frame" in model.parameters and mentions(session.contract, model.schema_file, "aspect")


class _Host:
    """The receiver as the host of pictures. `why_not` says why the endpoint cannot fetch them, or is None."""

    def __init__(self, session: Session) -> None:
        self._receiver, self._count = session.receiver, 0
        self.why_not = None if self._is_reachable(session) else NO_HOST

    def _is_reachable(self, session: Session) -> bool:
        """Whether a picture can be fetched: a public URL may lead to callbacks alone, so it is tried."""
        if self._receiver is None or not self._receiver.is_public:
            return self._receiver is not None
        try:
            found = session.endpoint.http.get(self._receiver.publish(TRIAL, TRIAL.encode()), timeout=TRIAL_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return found.content == TRIAL.encode()

    def publish(self, sample: Sample, data: bytes) -> str:
        """Serve a picture, and return its URL."""
        assert self._receiver is not None
        self._count += 1
        return self._receiver.publish(f"{self._count}-{sample.width}x{sample.height}.{sample.format}", data)

    def close(self) -> None:
        """Serve no picture any more; some have many megabytes."""
        if self._receiver is not None:
            self._receiver.withdraw()
