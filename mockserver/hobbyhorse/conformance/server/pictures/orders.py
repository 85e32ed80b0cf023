"""Submissions with pictures of the suite's own, followed to the ends of their jobs.

A picture goes into the request as a data URI if the contract documents one, else the receiver of callbacks serves it.
At the limits, the first picture in a request is almost as large as documented, and the first ones that are served have
URLs of several forms, such as signed ones.
All jobs run at once. If a picture at several limits is refused, or its job fails, pictures at one limit each follow
until one of them is refused, too; refusals and failures make no video.
"""

from __future__ import annotations

import base64
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import httpx

from hobbyhorse.conformance.server.bodies import replace_parameter
from hobbyhorse.conformance.server.expected import member_schema
from hobbyhorse.conformance.server.pictures.samples import (
    ALONE,
    AT,
    BARE,
    BEYOND,
    BYTES,
    ENCODED,
    HIGH,
    INLINE,
    LOW,
    PORTRAIT,
    SIGNED,
    UPPER,
    URL,
    WIDE,
    Sample,
    addressed,
    alone,
    at_limits,
    beyond,
    in_request,
    inlined,
    usual,
)
from hobbyhorse.conformance.server.rules.media import mentions
from hobbyhorse.conformance.server.session import PaidJob, Session, Skipped
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.contract.values import Model
from hobbyhorse.traces.annotated import Step

# The requests about the jobs of all pictures have this name.
PROBE = "pictures"
# The name of the notes about the picture for all submissions.
OWN = "picture"
# In base64, and with the rest of the body, below 1 MB: the usual limit of whatever is in front of an endpoint.
MOST_INLINE_BYTES = 700_000
# The name of the picture that shows whether a public URL leads to the receiver.
TRIAL, TRIAL_SECONDS = "trial.png", 10.0
# Characters that a URL has to encode, as in the names of uploaded files.
ODD_NAME = " café (1)"
# Sides are whole pixels.
SAME_RATIO = 0.01
# A query like that of a signed URL of an object store.
SIGNATURE = "?X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=0f1e2d3c"
NO_HOST = "the endpoint cannot fetch it from this machine; set --callback-url"


def orders_at_limits(model: Model) -> list[tuple[Sample, ...]]:
    """Return the pictures at the limits by submission; one with several references takes all of them."""
    samples = at_limits(_limits(model))
    together = "first_frame" not in model.parameters and len(model.parameters["references"]) >= len(samples)
    return [tuple(samples)] if together else [(one,) for one in samples]


def orders_in_requests(session: Session) -> list[tuple[Sample, ...]]:
    """Return the pictures that are in the request itself, one in each format in which the contract documents that."""
    return [(one,) for one in in_request(_limits(session.model)) if _documents(session, _scheme(one))]


def order_at_limits(session: Session) -> None:
    """Submit the pictures at the limits, follow their jobs, and find the limit at which one is refused."""
    limits, host = _limits(session.model), _Host(session)
    orders = _with_addresses(session, host, orders_at_limits(session.model)) + orders_in_requests(session)
    try:
        for samples, step in [*_submitted(session, host, AT, orders)]:
            if not _is_refused(session, samples, step):
                continue
            for one in (single for sample in samples for single in alone(limits, sample)):
                if any(_is_refused(session, *pair) for pair in _submitted(session, host, ALONE, [(one,)])):
                    break
            else:
                # Only the same order again tells whether the first one met a passing trouble.
                for again in _submitted(session, host, AT, [samples]):
                    _is_refused(session, *again)
    finally:
        host.close()


def replace_documented(session: Session) -> bool:
    """Send a picture of the suite's own with every submission from now on; return whether the endpoint can have it.

    An endpoint that cannot fetch the documented picture, as one without internet access, makes no video of it, or waits
    for it without end.
    """
    if session.model.images is None or session.picture is not None:
        return False
    sample, host = usual(_limits(session.model)), _Host(session)
    try:
        data = _drawn(sample)
    except ValueError as error:
        session.note(OWN, str(error))
        return False
    address = host.publish(sample, data, lasting=True) or (data if _documents(session, _scheme(sample)) else None)
    if address is None:
        session.note(OWN, host.why_not or NO_HOST)
        return False
    session.note(OWN, "the documented image made no video; from then on, the suite sent an image of its own")
    return session.start_again(address)


def order_beyond_limits(session: Session) -> None:
    """Submit the pictures beyond the limits, and follow the jobs that they get."""
    host = _Host(session)
    orders = [(one,) for one in beyond(_limits(session.model))]
    try:
        for samples, step in [*_submitted(session, host, BEYOND, orders)]:
            _is_refused(session, samples, step)
    finally:
        host.close()


def _limits(model: Model) -> PictureLimits:
    assert model.images is not None
    return model.images


def _with_addresses(session: Session, host: _Host, orders: Sequence[tuple[Sample, ...]]) -> list[tuple[Sample, ...]]:
    """Return the orders, one with a large picture in the request and some with URLs of each form, where possible."""
    every = [_without_bytes(session, host, one) for each in orders for one in each]
    every = inlined(_limits(session.model), every) if _documents(session, _scheme(every[0])) else every
    left = iter(addressed(every) if host.why_not is None else every)
    return [tuple(next(left) for _ in each) for each in orders]


def _without_bytes(session: Session, host: _Host, sample: Sample) -> Sample:
    """Return a sample that need not be hosted, if it cannot be."""
    if sample.nbytes is None or host.why_not is None:
        return sample
    session.note(f"{AT}{BYTES}", host.why_not)
    return replace(sample, nbytes=None, facets=tuple(one for one in sample.facets if one != BYTES))


def _submitted(
    session: Session, host: _Host, kind: str, orders: Iterable[tuple[Sample, ...]]
) -> Iterator[tuple[tuple[Sample, ...], Step]]:
    """Submit the orders, and yield each with its response; note the orders that are left out."""
    for samples in orders:
        name = kind + ",".join(_facets(samples))
        try:
            body = _ordered(session, host, samples)
            more = {} if kind == BEYOND else {"expected": "accepted"}
            yield samples, session.call("submit", probe=name, price=session.price_of(body), body=body, **more)
        except Skipped as error:
            session.note(name, str(error))


def _facets(samples: Iterable[Sample]) -> list[str]:
    return [facet for sample in samples for facet in sample.facets]


def _ordered(session: Session, host: _Host, samples: tuple[Sample, ...]) -> dict[str, Any]:
    """Return a submission with some pictures. Raises Skipped."""
    # Pillow is imported with the first picture: most commands need none.
    drawing = importlib.import_module("hobbyhorse.conformance.server.pictures.drawing")
    order = session.marked("picture")
    try:
        files = [(sample, drawing.drawn(sample)) for sample in samples]
    except ValueError as error:
        raise Skipped(str(error)) from None
    ways: list[Callable[[Sample, bytes], str | None]] = [partial(_inline, session), host.publish]
    for way in ways:
        found = [way(sample, data) or host.publish(sample, data) for sample, data in files]
        addresses = [one for one in found if one is not None]
        if len(addresses) < len(found):
            continue
        body = _placed(session, order, addresses)
        if isinstance(try_order(session.contract, session.submit, session.model.id, body), ValidRequest):
            return body
    raise Skipped(host.why_not or "the model does not take this picture by its URL")


def _placed(session: Session, order: dict[str, Any], addresses: Sequence[str]) -> dict[str, Any]:
    """Return a submission with addresses in the places of its pictures."""
    parameters, around = session.model.parameters, session.submit.model_parameters.pointer
    if "first_frame" in parameters:
        return dict(replace_parameter(session.submit, session.model, order, "first_frame", addresses[0]))
    body: Any = order
    for inner, address in zip(parameters["references"], addresses, strict=False):
        many = isinstance(resolve(order, (*around, *inner)), list)
        body = replaced(body, (*around, *inner), list(addresses) if many else address)
    return dict(body)


def _inline(session: Session, sample: Sample, data: bytes) -> str | None:
    """Return a picture as a data URI, if the contract documents them and the body may be that large."""
    address = _scheme(sample)
    is_large = len(data) > MOST_INLINE_BYTES and INLINE not in sample.facets
    if is_large or any(facet.startswith(URL) for facet in sample.facets) or not _documents(session, address):
        return None
    return address + base64.b64encode(data).decode()


def _scheme(sample: Sample) -> str:
    """Return the beginning of a data URI."""
    return f"data:image/{sample.format};base64,"


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


def _is_refused(session: Session, samples: tuple[Sample, ...], step: Step) -> bool:
    """Follow the job of some pictures; return whether the endpoint has refused them, now or by the job's failure."""
    if step.job_told is None:
        return 400 <= step.status < 500
    try:
        end = session.follow(step.job_told, PROBE)
        reads_result = "result" in session.contract.operations
        result = session.poll(step.job_told, PROBE, "result") if reads_result else None
        failed = end.failure or (result is not None and result.failure)
        if not failed and _begins_with(session, samples[0]):
            done, picture = PaidJob(step.job_told, step, end, result), samples[0]
            shape = picture.width / picture.height if _is_shaped(picture) else None
            session.fetch_video(done, shape=shape, start=_drawn(picture))
    except Skipped as error:
        session.note(f"{PROBE}:{','.join(_facets(samples))}", str(error))
        return False
    return failed


def _begins_with(session: Session, sample: Sample) -> bool:
    """Whether a video begins with the whole of its picture: if the ratio is the usual one, or the video follows it."""
    wide = abs(sample.width / sample.height / float(WIDE) - 1) < SAME_RATIO
    return "first_frame" in session.model.parameters and (wide or (_is_shaped(sample) and _follows_picture(session)))


def _is_shaped(sample: Sample) -> bool:
    """Whether a picture is upright, or at a documented ratio, unlike the picture of the other submissions."""
    return not {PORTRAIT, LOW, HIGH}.isdisjoint(sample.facets)


def _drawn(sample: Sample) -> bytes:
    """Return the file of a picture without padding, which no frame shows."""
    drawing = importlib.import_module("hobbyhorse.conformance.server.pictures.drawing")
    return bytes(drawing.drawn(replace(sample, nbytes=None)))


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

    def publish(self, sample: Sample, data: bytes, *, lasting: bool = False) -> str | None:
        """Serve a picture, and return its URL, or None if the endpoint could not fetch it.

        A lasting one is served to the end of the suite.
        """
        if self._receiver is None or self.why_not is not None:
            return None
        self._count += 1
        number = "usual" if lasting else str(self._count)
        name, kind = f"{number}-{sample.width}x{sample.height}", sample.format
        name += ODD_NAME if ENCODED in sample.facets else ""
        extension = kind.upper() if UPPER in sample.facets else kind
        file = name if BARE in sample.facets else f"{name}.{extension}"
        url = self._receiver.publish(file, data, kind, lasting=lasting)
        return url + SIGNATURE if SIGNED in sample.facets else url

    def close(self) -> None:
        """Serve these pictures no longer; some have many megabytes."""
        if self._receiver is not None:
            self._receiver.withdraw()
