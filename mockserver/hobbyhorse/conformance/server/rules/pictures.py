"""Rules about input pictures: the documented ones make a video, and those beyond a limit make none. Knows no server.

A picture may be refused at its submission, or by the failure of its job, because a provider may fetch it later.
"""

from __future__ import annotations

from collections.abc import Iterator

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, SHOULD, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.expected import LIFECYCLE, label
from hobbyhorse.conformance.server.pictures.samples import (
    ALMOST_BYTES,
    ALONE,
    AT,
    BARE,
    BEYOND,
    BYTES,
    ENCODED,
    FORMAT,
    HIGH,
    IN_REQUEST,
    INLINE,
    LOW,
    PORTRAIT,
    SIDE,
    SIGNED,
    UPPER,
    URL,
)
from hobbyhorse.conformance.server.rules.negatives import model_of, refused_for_its_body
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import reads_of

SUCCEEDED, REFUSED, FAILED = "succeeded", "is refused", "fails"


def _limited(contract: Contract) -> bool:
    return any(model.images is not None for model in contract.models)


@rule(
    "PIC-01",
    "pictures-accepted",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_limited,
    says="A picture in each documented format, and exactly at each documented limit, is accepted, and its job does not "
    "fail, whether the picture is in the request, as far as documented, or at a URL of any form.",
    because="Clients check a picture by the documented limits before they submit it, and have no other one to send.",
    fix="Compare the sides, the ratio and the bytes of a picture with the documented limits inclusively, take its "
    "format from its content and not from its URL, and allow a body for the largest picture in base64.",
)
def pictures_accepted(trace: AnnotatedTrace) -> Evidence:
    """Find documented pictures that are refused twice, together and alone, although others are accepted."""
    # An endpoint that cannot fetch any picture from the suite shows nothing about limits.
    if not _takes_pictures(trace):
        return
    for step in _submissions(trace, AT):
        outcome = _outcome(trace, step)
        if outcome == SUCCEEDED:
            yield OBSERVED
        elif outcome is not None:
            yield from _refused(trace, step)


def _refused(trace: AnnotatedTrace, step: Step) -> Iterator[Breach]:
    """Yield the breach of a refused picture, if one of its facets is refused alone, or it is refused again."""
    facets = _facets(step)
    shown = {*facets, ALMOST_BYTES} if BYTES in facets else set(facets)
    later = trace.after(step, trace.submits)
    singles = [one for one in later if (one.exchange.probe or "").startswith(ALONE) and _facets(one)[0] in shown]
    for one in singles:
        outcome = _outcome(trace, one)
        if outcome in (REFUSED, FAILED):
            yield _breach(trace, one, outcome)
            return
    same = [_outcome(trace, one) for one in _submissions(trace, AT) if _facets(one) == facets]
    is_certain = len(same) > 1 and not {SUCCEEDED, None} & set(same)
    if is_certain and len(facets) > 1 and [_outcome(trace, one) for one in singles] == [SUCCEEDED] * len(shown):
        message = f"{label(step)}: a picture at several documented limits ({', '.join(facets)}) is not accepted, "
        places = tuple(dict.fromkeys(place for facet in facets for place in _places(trace, step, facet)))
        yield Breach(f"{message}although a picture at each of them is", places, step.status)


def _breach(trace: AnnotatedTrace, step: Step, outcome: str) -> Breach:
    (facet,) = _facets(step)
    error = next((read.reading.values.get("error_message") for read in _ends(trace, step) if read.failure), None)
    what = f"is refused with {step.status}" if outcome == REFUSED else f"makes job {step.job_told} fail ({error})"
    message = f"{label(step)}: a picture {_words(trace, step, facet)} {what}, although other pictures are accepted"
    return Breach(message, _places(trace, step, facet), step.status if outcome == REFUSED else error)


@rule(
    "PIC-02",
    "pictures-refused",
    level=SHOULD,
    severity="S3",
    harm=MONEY,
    applies=_limited,
    says="A picture in a format that is not documented, or beyond a documented limit, is refused, or its job fails.",
    because="The video of such a picture is blurred, cropped or squeezed, and it is billed.",
    fix="Check the format, the sides, the ratio and the bytes of each picture after it was fetched, by its content.",
)
def pictures_refused(trace: AnnotatedTrace) -> Evidence:
    """Find pictures beyond a limit whose jobs succeed."""
    # If every picture of the suite fails, these fail for another reason.
    if not _takes_pictures(trace):
        return
    for step in _submissions(trace, BEYOND):
        outcome, (facet,) = _outcome(trace, step), _facets(step)
        if outcome is not None:
            yield OBSERVED
        if outcome == SUCCEEDED:
            message = (
                f"{label(step)}: a picture {_words(trace, step, facet, over=True)} makes job {step.job_told} succeed"
            )
            yield Breach(message, _places(trace, step, facet), step.job_told)


def _submissions(trace: AnnotatedTrace, kind: str) -> list[Step]:
    return [step for step in trace.submits if (step.exchange.probe or "").startswith(kind)]


def _takes_pictures(trace: AnnotatedTrace) -> bool:
    """Whether any picture of the suite has made a video."""
    every = [*_submissions(trace, AT), *_submissions(trace, ALONE)]
    return any(_outcome(trace, step) == SUCCEEDED for step in every)


def _outcome(trace: AnnotatedTrace, step: Step) -> str | None:
    """Return how the submission of a picture ended; None if that is not known, or has other reasons."""
    if not step.accepted:
        return REFUSED if step.delivered and refused_for_its_body(trace, step) else None
    ends = _ends(trace, step)
    if any(read.failure for read in ends):
        return FAILED
    return SUCCEEDED if any(read.success for read in ends) else None


def _ends(trace: AnnotatedTrace, step: Step) -> list[Step]:
    return [read for read in reads_of(trace, step.job_told) if read.terminal]


def _facets(step: Step) -> list[str]:
    return (step.exchange.probe or "").split(":", 2)[2].split(",")


def _places(trace: AnnotatedTrace, step: Step, facet: str) -> tuple[str, ...]:
    """Return the place that documents a limit; no limit at all excludes some facets."""
    number = trace.contract.models.index(model_of(trace, step))
    free = facet in (PORTRAIT, INLINE, ALMOST_BYTES) or facet.startswith((URL, IN_REQUEST))
    member = () if free else (facet.partition("/")[0],)
    return (LIFECYCLE + format_pointer(("models", str(number), "images", *member)),)


def _words(trace: AnnotatedTrace, step: Step, facet: str, *, over: bool = False) -> str:
    """Return a facet in words, with its limit."""
    limits = model_of(trace, step).images
    low, high = (limits.aspect if limits is not None else None) or (0.0, 0.0)
    least, most = (limits.least_side, limits.most_bytes) if limits is not None else (None, None)
    more = "beyond the documented limit" if over else "at the documented limit"
    sentences = {
        SIDE: f"whose shorter side is {more} of {least} px",
        LOW: f"whose ratio of width to height is {more} of {low:g}",
        HIGH: f"whose ratio of width to height is {more} of {high:g}",
        BYTES: f"whose size is {more} of {most} bytes",
        ALMOST_BYTES: f"of almost the documented limit of {most} bytes",
        PORTRAIT: "in portrait",
        INLINE: f"that is in the request, below the documented limit of {most} bytes,",
        SIGNED: "at a URL with a query, like a signed one,",
        BARE: "at a URL without an extension",
        ENCODED: "at a URL with encoded characters",
        UPPER: "at a URL with its extension in capital letters",
    }
    if facet.startswith(IN_REQUEST):
        return f"in the documented format {facet.removeprefix(IN_REQUEST)}, in the request itself,"
    word = "undocumented" if over else "documented"
    return sentences.get(facet, f"in the {word} format {facet.removeprefix(FORMAT)}")
