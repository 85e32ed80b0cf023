"""Rules about the video: the file has the ordered properties, and is served like a file. Knows no server."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import order_behind, order_of
from hobbyhorse.traces.trace import Video

# The documents of the model name no other rate.
FPS = 24
# Pixels of each tier; no document defines a tier for a picture that is not 16:9.
AREAS = {720: 1280 * 720, 1080: 1920 * 1080}
CODECS = frozenset({"h264", "hevc", "av1", "vp9"})
# Two percent: sides are rounded to even numbers, or to the blocks of the codec.
SIZE_TOLERANCE = 0.02
# Encoders end on a whole frame or audio block, so a video may be slightly off; a missing second is never rounding.
HALF_A_SECOND = 0.5
# The greatest mean difference, of 255, of two encodings of one picture; two different pictures differ by more.
ALIKE = 24
# Seconds by which picture and sound may differ: an AAC block is 0.02 s long, and encoders pad with a few of them.
IN_STEP = 0.1
TYPES = frozenset({"video/mp4", "application/octet-stream", "binary/octet-stream"})
MEDIA_PROBES = ("job:media", "job:range", "job:head", "retention:before")

VideoCheck = Callable[[AnnotatedTrace, Video, "Order | None"], "list[Breach] | None"]


def _each(check: VideoCheck) -> Callable[[AnnotatedTrace], list[Breach] | None]:
    """Return a rule's check that applies a check to each video and its order."""

    def over(annotated: AnnotatedTrace) -> list[Breach] | None:
        found = [check(annotated, video, _order_for(annotated, video)) for video in annotated.trace.videos]
        seen = [breaches for breaches in found if breaches is not None]
        return [breach for breaches in seen for breach in breaches] if seen else None

    return over


def _facts(check: Callable[[AnnotatedTrace, Mapping[str, Any], Order | None], list[Breach] | None]) -> VideoCheck:
    """Return a check of a video's properties, for videos that could be read."""
    return lambda annotated, video, order: (
        check(annotated, video.facts, order) if video.facts and not video.error else None
    )


def _order_for(annotated: AnnotatedTrace, video: Video) -> Order | None:
    """Return the order that a video belongs to."""
    if video.job is not None:
        return order_behind(annotated, video.job)
    source = next((step for step in annotated.steps if step.video == video.url), None)
    if source is None:
        return None
    return order_of(annotated, source) if source.role in SUBMISSIONS else order_behind(annotated, source.job)


def _container(annotated: AnnotatedTrace, video: Video, order: Order | None) -> list[Breach] | None:
    places = _promised(annotated.contract, order, "mp4")
    if video.error:
        return [Breach(f"the video of {video.job} is not a complete MP4: {video.error}", places, video.error)]
    codec = video.facts.get("video_codec")
    # The properties in a recorded trace may be incomplete.
    if codec is None:
        return None
    if codec not in CODECS:
        return [Breach(f"the video codec is {codec}; playable: {', '.join(sorted(CODECS))}", places, codec)]
    return []


def _frame_rate(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    rate = facts.get("fps")
    if rate is None:
        return None
    places = _promised(annotated.contract, order, "24 frames")
    found = []
    if not math.isclose(float(rate), FPS, abs_tol=0.001):
        found.append(Breach(f"the video has {float(rate):g} frames per second, not {FPS}", places, rate))
    if facts.get("constant_frame_rate") is False:
        found.append(Breach("the video's frame rate is not constant", places, False))
    return found


def _frames(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    frames, seconds = facts.get("frames"), facts.get("video_seconds")
    if order is None or frames is None or seconds is None:
        return None
    places = _parameter(order, "duration")
    found = []
    if frames != FPS * order.seconds:
        message = f"the video has {frames} frames; {order.seconds} s have {FPS * order.seconds}"
        found.append(Breach(message, places, frames))
    # A frame of tolerance, for containers that count up to the last frame's start; 1e-6 for floats.
    if abs(float(seconds) - order.seconds) > 1 / FPS + 1e-6:
        found.append(Breach(f"the video lasts {float(seconds):.3f} s, not {order.seconds} s", places, float(seconds)))
    return found


def _length(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    seconds = facts.get("video_seconds")
    if order is None or seconds is None:
        return None
    if abs(float(seconds) - order.seconds) <= HALF_A_SECOND:
        return []
    message = f"the video lasts {float(seconds):.3f} s; ordered: {order.seconds} s"
    return [Breach(message, _parameter(order, "duration"), float(seconds))]


def _sides(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    width, height = facts.get("width"), facts.get("height")
    found = re.fullmatch(r"(\d+)[pP]", order.resolution or "") if order is not None else None
    # A tier without a documented size cannot be checked.
    area = AREAS.get(int(found.group(1))) if found is not None else None
    if order is None or area is None or not width or not height:
        return None
    places, size = _parameter(order, "resolution"), f"{width}x{height}"
    breaches = []
    if abs(width * height - area) > SIZE_TOLERANCE * area:
        message = f"the video is {size}, {width * height} pixels; {order.resolution} has about {area}"
        breaches.append(Breach(message, places, size))
    if width % 2 or height % 2:
        breaches.append(Breach(f"the video is {size}; both sides must be even", places, size))
    return breaches


def _aspect(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    width, height = facts.get("width"), facts.get("height")
    if not width or not height:
        return None
    wanted, places = facts.get("asked_aspect"), _promised(annotated.contract, order, "aspect")
    # With a picture, the picture's aspect wins over the ratio parameter.
    if wanted is None and order is not None and order.first_frame is None and order.ratio:
        across, _, down = order.ratio.partition(":")
        wanted = int(across) / int(down) if across.isdigit() and down.isdigit() and int(down) else None
        places = _parameter(order, "aspect_ratio")
    if not isinstance(wanted, int | float) or wanted <= 0:
        return None
    if abs(width / height - wanted) <= SIZE_TOLERANCE * wanted:
        return []
    return [Breach(f"the video is {width}x{height}, aspect {width / height:.3f}; ordered: {wanted:.3f}", places)]


def _first_frame(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    apart = facts.get("first_frame_difference")
    if apart is None:
        return None
    if apart <= ALIKE:
        return []
    places = () if order is None else _parameter(order, "first_frame")
    return [Breach(f"the first frame is not the submitted picture: they differ by {apart:.0f} of 255", places, apart)]


def _audio(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    places = _promised(annotated.contract, order, "audio")
    # Without a promise of sound, a silent video keeps the contract.
    if not places or facts.get("video_seconds") is None:
        return None
    sound = facts.get("audio_seconds")
    if facts.get("audio_codec") is None or sound is None:
        return [Breach("the video has no sound", places)]
    if abs(float(sound) - float(facts["video_seconds"])) > IN_STEP:
        message = f"the sound lasts {float(sound):.3f} s, the picture {float(facts['video_seconds']):.3f} s"
        return [Breach(message, places, float(sound))]
    return []


def _moov_first(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    if "moov_first" not in facts:
        return None
    return (
        [] if facts["moov_first"] else [Breach("the index (moov) follows the media, so the video cannot be streamed")]
    )


def ranges(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the responses to range requests with the requested bytes."""
    found: list[Breach] = []
    seen = False
    for step in _files(annotated):
        requested = re.fullmatch(r"bytes=(\d*)-(\d*)", step.exchange.header("range") or "")
        if requested is None or not any(requested.groups()) or not step.delivered or step.status not in (200, 206, 416):
            continue
        # A client may request a range beyond the end; the suite's own ranges always exist.
        if step.status == 416 and step.exchange.probe != "job:range":
            continue
        seen = True
        found += _range(step, *requested.groups())
    return found if seen else None


def _range(step: Step, first: str, last: str) -> Iterator[Breach]:
    """Yield the violations in the response to one range."""
    if step.status != 206:
        yield Breach(f"request {step.number} for a range of the video gets {step.status}, not 206", (), step.status)
        return
    received = step.exchange.answer_header("content-range") or ""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", received.strip())
    if found is None:
        yield Breach(f"request {step.number} gets 206 with an invalid Content-Range {received!r}", (), received)
        return
    start, end, total = int(found.group(1)), int(found.group(2)), found.group(3)
    wanted = _wanted(first, last, None if total == "*" else int(total))
    if wanted is not None and wanted != (start, end):
        yield Breach(f"request {step.number} for bytes {wanted[0]}-{wanted[1]} gets {received!r}", (), received)
    if _plain(step) and step.exchange.size != end - start + 1:
        yield Breach(f"request {step.number} gets {step.exchange.size} bytes as {received!r}", (), step.exchange.size)


def _wanted(first: str, last: str, total: int | None) -> tuple[int, int] | None:
    """Return the first and last byte that a range requests; None if they depend on an unknown file size."""
    if total is None:
        return None
    if not first:
        return max(0, total - int(last)), total - 1
    return int(first), min(int(last), total - 1) if last else total - 1


def headers(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the headers of videos with the received bytes."""
    found: list[Breach] = []
    seen = False
    whole = {step.exchange.url: step.exchange.size for step in _files(annotated) if _complete(step)}
    for step in _files(annotated):
        if step.status != 200 or not step.delivered or step.exchange.method not in ("GET", "HEAD"):
            continue
        seen = True
        kind = (step.exchange.answer_header("content-type") or "").partition(";")[0].strip().lower()
        if kind not in TYPES:
            found.append(Breach(f"request {step.number} gets the video with Content-Type {kind or 'none'!r}", (), kind))
        size = step.exchange.size if step.exchange.method == "GET" else whole.get(step.exchange.url)
        length = step.exchange.answer_header("content-length")
        # A HEAD response may omit the length (RFC 9110, 9.3.2).
        if not _plain(step) or size is None or (step.exchange.method == "HEAD" and length is None):
            continue
        if length is None or not length.isdigit() or int(length) != size:
            message = f"request {step.number}: the video has {size} bytes, its Content-Length is {length}"
            found.append(Breach(message, (), length))
    return found if seen else None


def _files(annotated: AnnotatedTrace) -> Iterator[Step]:
    """Yield the requests for videos."""
    urls = {step.video for step in annotated.steps if step.video} | {video.url for video in annotated.trace.videos}
    yield from (
        step for step in annotated.of("media") if step.exchange.probe in MEDIA_PROBES or step.exchange.url in urls
    )


def _complete(step: Step) -> bool:
    return step.exchange.method == "GET" and step.status == 200 and step.delivered and _plain(step)


def _plain(step: Step) -> bool:
    """Whether the counted bytes are the transferred ones: no content coding was undone."""
    return (step.exchange.answer_header("content-encoding") or "identity").strip().lower() == "identity"


def _promised(contract: Contract, order: Order | None, word: str) -> tuple[str, ...]:
    """Return the schema descriptions that mention a word: of the order's model, or of every model if it is unknown."""
    models = contract.models if order is None else (order.model,)
    return tuple(
        f"{model.schema_file}#/description" for model in models if _mentions(contract, model.schema_file, word)
    )


def _mentions(contract: Contract, file: str, word: str) -> bool:
    schema = contract.schemas.document(file)
    return isinstance(schema, dict) and word in str(schema.get("description", "")).lower()


def _parameter(order: Order, name: str) -> tuple[str, ...]:
    """Return the place where the contract describes a parameter of a model."""
    found = []
    for pointer in order.model.parameters.get(name, ())[:1]:
        steps = [step for name in pointer for step in (("items",) if name.isdigit() else ("properties", name))]
        found.append(f"{order.model.schema_file}#{format_pointer(tuple(steps))}")
    return tuple(found)


def _sounds(contract: Contract) -> bool:
    return any(_mentions(contract, model.schema_file, "audio") for model in contract.models)


container_and_codecs = _each(_container)
frame_rate = _each(_facts(_frame_rate))
frames_and_duration = _each(_facts(_frames))
sides_for_tier = _each(_facts(_sides))
aspect = _each(_facts(_aspect))
first_frame = _each(_facts(_first_frame))
audio = _each(_facts(_audio))
moov_first = _each(_facts(_moov_first))
length = _each(_facts(_length))

UNDOCUMENTED = "Most providers do not document it."

RULES = (
    ServerRule(
        "MED-01",
        "container-and-codecs",
        "MUST",
        "S1",
        "The video is a complete MP4, in a codec that every player supports.",
        "An HTML page or JSON saved as a video is only noticed by its viewer: openclaw/openclaw#117339.",
        container_and_codecs,
    ),
    ServerRule(
        "MED-02",
        "frame-rate",
        "SHOULD",
        "S3",
        f"The video has a constant rate of 24 frames per second. {UNDOCUMENTED}",
        "A clip with another rate stutters when it is cut together with others.",
        frame_rate,
    ),
    ServerRule(
        "MED-03",
        "frames-and-duration",
        "SHOULD",
        "S3",
        f"The video has exactly 24 frames for each ordered second, and that length to a frame. {UNDOCUMENTED}",
        "Concatenated clips drift from their sound, by a frame each.",
        frames_and_duration,
    ),
    ServerRule(
        "MED-04",
        "sides-for-tier",
        "SHOULD",
        "S2",
        "The video has the area of the ordered tier (720P: 1280x720, 1080P: 1920x1080) within 2 %, and even sides. "
        f"{UNDOCUMENTED}",
        "A customer who pays for the expensive tier and gets the cheap one notices only by measuring.",
        sides_for_tier,
    ),
    ServerRule(
        "MED-05",
        "aspect",
        "SHOULD",
        "S2",
        "The video has the aspect of the submitted picture, or the ordered aspect, within 2 %. Not every provider "
        "documents it.",
        "A squeezed or cropped picture is not the submitted one.",
        aspect,
    ),
    ServerRule(
        "MED-06",
        "first-frame",
        "SHOULD",
        "S1",
        "The first frame of a video made from a picture is that picture. The threshold of similarity is ours.",
        "A video of another picture belongs to another user: danny-avila/LibreChat#14344.",
        first_frame,
    ),
    ServerRule(
        "MED-07",
        "audio",
        "SHOULD",
        "S3",
        "If the documents of a model promise sound, the video has it, as long as the picture within 0.1 s.",
        "Players stop at the shorter of the two.",
        audio,
        _sounds,
    ),
    ServerRule(
        "MED-08",
        "moov-first",
        "SHOULD",
        "S3",
        f"The index of the file precedes its media. {UNDOCUMENTED}",
        "A browser must fetch the whole file before it can show the first frame.",
        moov_first,
    ),
    ServerRule(
        "MED-09",
        "ranges",
        "SHOULD",
        "S3",
        f"A range of the video can be requested: 206, with a correct Content-Range. {UNDOCUMENTED}",
        "Without ranges no player can seek, and some browsers do not play at all.",
        ranges,
    ),
    ServerRule(
        "MED-10",
        "headers",
        "SHOULD",
        "S3",
        f"The video has its Content-Length, and the type video/mp4 or a generic binary one. {UNDOCUMENTED}",
        "Clients detect a broken download by its length; SDKs match the type: OpenRouterTeam/python-sdk#175.",
        headers,
    ),
    ServerRule(
        "MED-11",
        "length",
        "MUST",
        "S1",
        "The video has the ordered length within half a second.",
        "Each second is paid for.",
        length,
    ),
)
