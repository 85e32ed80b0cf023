"""Rules about the video: the file has the ordered properties, and is served as documented. Knows no server."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, SHOULD, VIDEO, Breach, Check, Evidence, rule
from hobbyhorse.conformance.server.expected import binding_places, label, operation_of
from hobbyhorse.conformance.server.video_check import DEFAULT, LATER, START
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import order_behind, order_of
from hobbyhorse.traces.trace import Video

# The model's documentation names no other rate.
FPS = 24
# Pixels of each tier; no documentation defines a tier for an image that is not 16:9.
AREAS = {720: 1280 * 720, 1080: 1920 * 1080}
CODECS = frozenset({"h264", "hevc", "av1", "vp9"})
# Two percent: dimensions are rounded to even numbers, or to the blocks of the codec.
SIZE_TOLERANCE = 0.02
# A tier is documented for 16:9; a ratio that is further away from that may have its size in another way.
OTHER_PROPORTIONS = 0.1
# Encoders end on a whole frame or audio block, so a video may be slightly off; a missing second is never rounding.
HALF_A_SECOND = 0.5
# The maximum mean difference, of 255, between two encodings of an image. Two images differ by more.
ALIKE = 24
# The maximum mean difference between an image and the first frame that is certainly that image: a codec changes less.
SAME = 6
# Of 255 shades, the least mean difference of a part of a frame with a mark on it; a codec changes it by one or two.
MARKED = 4
# Seconds by which the durations of video and audio may differ: an AAC block lasts 0.02 s, and encoders pad with a few.
IN_STEP = 0.1
# The greatest sample of a sound that nobody hears: 60 dB below the loudest one.
SILENT = 0.001
# A link that responds within this time is slow, not silent; file servers respond within a second.
LEAST_WAIT = 5.0
# Bytes a second: a file that arrives faster and is cut by the suite is long, not stuck.
SLOWEST = 10_000
# A failure of the file server may be temporary; the suite requests the file this often.
FEW_TRIES = 2
TYPES = frozenset({"video/mp4", "application/octet-stream", "binary/octet-stream"})
MEDIA_PROBES = ("job:media", "job:range", "job:head", "retention:before")

UNDOCUMENTED = "Most providers do not document it."


def _sounds(contract: Contract) -> bool:
    return any(mentions(contract, model.schema_file, "audio") for model in contract.models)


@dataclass(frozen=True, slots=True)
class OrderedVideo:
    """A video with the order that it belongs to, if the trace has it."""

    contract: Contract
    video: Video
    order: Order | None

    def fact(self, name: str) -> Any:
        """Return a property of the file, or None."""
        return self.video.facts.get(name)

    def promised(self, word: str) -> tuple[str, ...]:
        """Return the schema descriptions that mention a word: of the order's model, or of all if it is unknown."""
        models = self.contract.models if self.order is None else (self.order.model,)
        files = (model.schema_file for model in models)
        return tuple(f"{file}#/description" for file in files if mentions(self.contract, file, word))


VideoCheck = Callable[[OrderedVideo], Evidence]


def each_video(check: VideoCheck) -> Check:
    """Apply a check to each video of a trace; placed between `@rule` and the generator."""

    @wraps(check)
    def over(trace: AnnotatedTrace) -> Evidence:
        for video in trace.trace.videos:
            yield from check(OrderedVideo(trace.contract, video, _order_for(trace, video)))

    return over


def each_readable_video(check: VideoCheck) -> Check:
    """Apply a check to each video of a trace with readable properties."""

    @each_video
    @wraps(check)
    def readable(one: OrderedVideo) -> Evidence:
        if one.video.facts and not one.video.error:
            yield from check(one)

    return readable


def _order_for(trace: AnnotatedTrace, video: Video) -> Order | None:
    """Return the order that a video belongs to."""
    if video.job is not None:
        return order_behind(trace, video.job)
    source = next((step for step in trace.steps if step.video == video.url), None)
    if source is None:
        return None
    return order_of(trace, source) if source.role in SUBMISSIONS else order_behind(trace, source.job)


@rule(
    "MED-01",
    "container-and-codecs",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    says="The video is a complete MP4, in a codec that every player supports.",
    because="An HTML page or JSON saved as a video is only noticed by its viewer: openclaw/openclaw#117339.",
    fix="Check the file with a probe before the job succeeds: MP4 container, a supported codec, no error page in "
    "place of the video.",
)
@each_video
def container_and_codecs(one: OrderedVideo) -> Evidence:
    """Check that a video is readable, and its codec."""
    codec, places = one.fact("video_codec"), one.promised("mp4")
    if one.video.error:
        yield Breach(
            f"the video of job {one.video.job} is not a complete MP4: {one.video.error}", places, one.video.error
        )
    # The properties in a recorded trace may be incomplete.
    elif codec is not None:
        yield OBSERVED
        if codec not in CODECS:
            yield Breach(f"the video codec is {codec}; playable: {', '.join(sorted(CODECS))}", places, codec)


@rule(
    "MED-02",
    "frame-rate",
    level=SHOULD,
    severity="S3",
    says=f"The video has a constant rate of 24 frames per second. {UNDOCUMENTED}",
    because="A clip with another rate stutters when it is cut together with others.",
    fix="Encode with a constant rate of 24 frames per second.",
)
@each_readable_video
def frame_rate(one: OrderedVideo) -> Evidence:
    """Check the frame rate, and that it is constant."""
    rate = one.fact("fps")
    if rate is None:
        return
    yield OBSERVED
    places = one.promised("24 frames")
    if not math.isclose(float(rate), FPS, abs_tol=0.001):
        yield Breach(f"the video has {float(rate):g} frames per second; expected: {FPS}", places, rate)
    if one.fact("constant_frame_rate") is False:
        yield Breach("the video's frame rate is not constant", places, False)


@rule(
    "MED-03",
    "frames-and-duration",
    level=SHOULD,
    severity="S3",
    says=f"The video has exactly 24 frames per ordered second, and its duration is accurate to one frame. "
    f"{UNDOCUMENTED}",
    because="Concatenated clips drift from their sound, by one frame each.",
    fix="Cut the encoded video to exactly the ordered number of frames.",
)
@each_readable_video
def frames_and_duration(one: OrderedVideo) -> Evidence:
    """Compare the number of frames and their duration with the ordered duration."""
    frames, seconds, order = one.fact("frames"), one.fact("video_seconds"), one.order
    if order is None or frames is None or seconds is None:
        return
    yield OBSERVED
    places = _parameter(order, "duration")
    if frames != FPS * order.seconds:
        message = f"the video has {frames} frames; expected for {order.seconds} s: {FPS * order.seconds}"
        yield Breach(message, places, frames)
    # A frame of tolerance, for containers that count up to the last frame's start; 1e-6 for floats.
    if abs(float(seconds) - order.seconds) > 1 / FPS + 1e-6:
        yield Breach(f"the video lasts {float(seconds):.3f} s; ordered: {order.seconds} s", places, float(seconds))


@rule(
    "MED-04",
    "sides-for-tier",
    level=SHOULD,
    severity="S2",
    harm=MONEY,
    says="The video has the size of the ordered tier (720P: 1280x720, 1080P: 1920x1080) within 2 %, and even "
    "dimensions. If it has other proportions, its area, its height, its longer or its shorter side may be that of the "
    f"tier: no document says which. {UNDOCUMENTED}",
    because="A customer who pays for the expensive tier and gets the cheap one notices only by measuring.",
    fix="Render in the ordered tier, and check the dimensions of the file before the job succeeds.",
)
@each_readable_video
def sides_for_tier(one: OrderedVideo) -> Evidence:
    """Compare the area of a video with the area of its tier."""
    width, height, order = one.fact("width"), one.fact("height"), one.order
    found = re.fullmatch(r"(\d+)[pP]", order.resolution or "") if order is not None else None
    # A tier without a documented size cannot be checked.
    lines = int(found[1]) if found is not None else 0
    if order is None or lines not in AREAS or not width or not height:
        return
    yield OBSERVED
    places, size = _parameter(order, "resolution"), f"{width}x{height}"
    if not _is_of_tier(width, height, lines):
        message = f"the video is {size}, {width * height} pixels; expected for {order.resolution}: about {AREAS[lines]}"
        yield Breach(message, places, size)
    if width % 2 or height % 2:
        yield Breach(f"the video is {size}; both dimensions must be even", places, size)


def _is_of_tier(width: int, height: int, lines: int) -> bool:
    """Whether a size is that of a tier, in one of the ways in which a video of other proportions may have it."""
    area = AREAS[lines]
    sizes: list[tuple[float, float]] = [(width * height, area)]
    if not 1 - OTHER_PROPORTIONS < width / height / (area / lines**2) < 1 + OTHER_PROPORTIONS:
        sizes += (height, lines), (min(width, height), lines), (max(width, height), area / lines)
    return any(abs(size - expected) <= SIZE_TOLERANCE * expected for size, expected in sizes)


@rule(
    "MED-05",
    "aspect",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    says="The video has the aspect ratio of the submitted image, or the ordered one, within 2 %. Not every provider "
    "documents it.",
    because="A squeezed or cropped image is not the submitted one.",
    fix="Take the aspect ratio from the order or from the submitted image, after its EXIF rotation is applied.",
)
@each_readable_video
def aspect(one: OrderedVideo) -> Evidence:
    """Compare a video's aspect ratio with the submitted image's, or with the ordered one."""
    width, height = one.fact("width"), one.fact("height")
    wanted, places = _wanted_aspect(one)
    if not width or not height or not isinstance(wanted, int | float) or wanted <= 0:
        return
    yield OBSERVED
    if abs(width / height - wanted) > SIZE_TOLERANCE * wanted:
        yield Breach(f"the video is {width}x{height}, ratio {width / height:.3f}; expected: {wanted:.3f}", places)


def _wanted_aspect(one: OrderedVideo) -> tuple[Any, tuple[str, ...]]:
    """Return the aspect ratio that a video should have, or None, and the places in the contract that define it."""
    wanted, order = one.fact("asked_aspect"), one.order
    # If an image was submitted, its aspect ratio overrides the ratio parameter.
    if wanted is not None or order is None or order.first_frame is not None or not order.ratio:
        return wanted, one.promised("aspect")
    across, _, down = order.ratio.partition(":")
    ratio = int(across) / int(down) if across.isdigit() and down.isdigit() and int(down) else None
    return ratio, _parameter(order, "aspect_ratio")


@rule(
    "MED-06",
    "first-frame",
    level=SHOULD,
    severity="S1",
    harm=VIDEO,
    says="The first frame of a video made from an image is that image. The similarity threshold is hobbyhorse's own.",
    because="A video of another image belongs to another user: danny-avila/LibreChat#14344.",
    fix="Keep the submitted image with the job, and compare it with the first frame before the job succeeds.",
)
def first_frame(trace: AnnotatedTrace) -> Evidence:
    """Compare the first frame of each video with the submitted image."""
    # An endpoint for tests may draw no image at all: the suite's own images are compared if it draws one of them.
    # So it does if an image comes a little later: then the video fades in, or begins with a title.
    facts = [video.facts for video in trace.trace.videos if not video.error]
    drawn = [one[name] for one in facts for name in (START, LATER) if name in one]
    names = ("first_frame_difference", *((START,) if any(apart <= SAME for apart in drawn) else ()))
    for video in trace.trace.videos:
        found = [video.facts[name] for name in names if name in video.facts and not video.error]
        for apart in found[:1]:
            yield from _alike(OrderedVideo(trace.contract, video, _order_for(trace, video)), float(apart))


def _alike(one: OrderedVideo, apart: float) -> Evidence:
    """Find a video whose first frame is another image."""
    yield OBSERVED
    if apart > ALIKE:
        places = () if one.order is None else _parameter(one.order, "first_frame")
        message = f"the first frame differs from the submitted image by {apart:.0f} of 255; allowed: {ALIKE}"
        yield Breach(message, places, apart)


@rule(
    "MED-07",
    "audio",
    level=SHOULD,
    severity="S3",
    applies=_sounds,
    says="If the documentation of a model promises sound, the video has an audio track that can be heard, and whose "
    "duration matches the video's to within 0.1 s.",
    because="Players stop at the end of the shorter track.",
    fix="Mix the sound to the duration of the video, and cut or pad it at the end.",
)
@each_readable_video
def audio(one: OrderedVideo) -> Evidence:
    """Compare the duration of the audio with the duration of the video."""
    places, seconds, sound = one.promised("audio"), one.fact("video_seconds"), one.fact("audio_seconds")
    # Without a promise of sound, a silent video keeps the contract.
    if not places or seconds is None:
        return
    yield OBSERVED
    if one.fact("audio_codec") is None or sound is None:
        yield Breach("the video has no audio track; the documentation promises sound", places)
    elif one.fact("loudness") is not None and one.fact("loudness") < SILENT:
        yield Breach("the audio track of the video is silent; the documentation promises sound", places)
    elif abs(float(sound) - float(seconds)) > IN_STEP:
        message = f"the audio lasts {float(sound):.3f} s, but the video {float(seconds):.3f} s"
        yield Breach(message, places, float(sound))


@rule(
    "MED-08",
    "moov-first",
    level=SHOULD,
    severity="S3",
    says=f"The file's index (moov) precedes its media data. {UNDOCUMENTED}",
    because="A browser must fetch the whole file before it can show the first frame.",
    fix="Move the index to the front, for example with ffmpeg's -movflags +faststart.",
)
@each_readable_video
def moov_first(one: OrderedVideo) -> Evidence:
    """Find files whose index follows the media data."""
    if "moov_first" not in one.video.facts:
        return
    yield OBSERVED
    if not one.fact("moov_first"):
        yield Breach("the index (moov) follows the media data, so the video cannot be streamed")


@rule(
    "MED-09",
    "ranges",
    level=SHOULD,
    severity="S3",
    says=f"A server that accepts ranges of the video returns 206 with a correct Content-Range. {UNDOCUMENTED}",
    because="Without range requests, players cannot seek, and some browsers do not play the video at all.",
    fix="Serve the video from a store that supports ranges, and return 206 with the Content-Range of the bytes that "
    "are sent.",
)
def ranges(trace: AnnotatedTrace) -> Evidence:
    """Compare the responses to range requests with the requested bytes."""
    for step in _files(trace):
        requested = re.fullmatch(r"bytes=(\d*)-(\d*)", step.exchange.header("range") or "")
        if requested is None or not any(requested.groups()) or not step.delivered or step.status not in (200, 206, 416):
            continue
        # A client may request a range beyond the end; the suite's own ranges always exist.
        if step.status == 416 and step.exchange.probe != "job:range":
            continue
        # A server may ignore Range (RFC 9110, section 14.2), unless it announces that it does not.
        if step.status == 200 and (step.exchange.answer_header("accept-ranges") or "none").strip().lower() != "bytes":
            continue
        yield OBSERVED
        yield from _range(step, *requested.groups())


def _range(step: Step, first: str, last: str) -> Iterator[Breach]:
    """Yield the violations in the response to one range."""
    if step.status != 206:
        yield Breach(f"range request {step.number} for the video gets {step.status}; expected: 206", (), step.status)
        return
    received = step.exchange.answer_header("content-range") or ""
    found = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", received.strip())
    if found is None:
        yield Breach(f"range request {step.number} gets 206 with an invalid Content-Range: {received!r}", (), received)
        return
    start, end, total = int(found.group(1)), int(found.group(2)), found.group(3)
    wanted = _wanted(first, last, None if total == "*" else int(total))
    if wanted is not None and wanted != (start, end):
        yield Breach(f"range request {step.number} for bytes {wanted[0]}-{wanted[1]} gets {received!r}", (), received)
    if _plain(step) and step.exchange.size != end - start + 1:
        message = f"range request {step.number} gets {step.exchange.size} bytes, but the Content-Range is {received!r}"
        yield Breach(message, (), step.exchange.size)


def _wanted(first: str, last: str, total: int | None) -> tuple[int, int] | None:
    """Return the first and last byte that a range requests; None if they depend on an unknown file size."""
    if total is None:
        return None
    if not first:
        return max(0, total - int(last)), total - 1
    return int(first), min(int(last), total - 1) if last else total - 1


@rule(
    "MED-10",
    "headers",
    level=SHOULD,
    severity="S3",
    says=f"The video has a correct Content-Length, and the type video/mp4 or a generic binary type. {UNDOCUMENTED}",
    because="Clients detect a broken download by its length; SDKs match the type: OpenRouterTeam/python-sdk#175.",
    fix="Set Content-Length to the size of the file, and Content-Type to video/mp4.",
)
def headers(trace: AnnotatedTrace) -> Evidence:
    """Compare the headers of videos with the received bytes."""
    whole = {step.exchange.url: step.exchange.size for step in _files(trace) if _complete(step)}
    for step in _files(trace):
        if step.status != 200 or not step.delivered or step.exchange.method not in ("GET", "HEAD"):
            continue
        yield OBSERVED
        kind = (step.exchange.answer_header("content-type") or "").partition(";")[0].strip().lower()
        if kind not in TYPES:
            message = f"request {step.number}: the video has Content-Type {kind or 'none'!r}; expected: video/mp4"
            yield Breach(message, (), kind)
        yield from _length(step, step.exchange.size if step.exchange.method == "GET" else whole.get(step.exchange.url))


def _length(step: Step, size: int | None) -> Iterator[Breach]:
    """Yield the violation if a response's Content-Length is not the size of the video, which may be unknown."""
    length = step.exchange.answer_header("content-length")
    # A HEAD response may omit the length (RFC 9110, 9.3.2).
    if not _plain(step) or size is None or (step.exchange.method == "HEAD" and length is None):
        return
    if length is None or not re.fullmatch("[0-9]{1,18}", length) or int(length) != size:
        message = f"request {step.number}: the video has {size} bytes, but its Content-Length is {length}"
        yield Breach(message, (), length)


@rule(
    "MED-11",
    "length",
    level=MUST,
    severity="S1",
    harm=MONEY,
    says="The video has the ordered duration, to within half a second.",
    because="Each second is paid for.",
    fix="Take the duration from the order, and check it in the file before the job succeeds.",
)
@each_readable_video
def length(one: OrderedVideo) -> Evidence:
    """Compare the duration of a video with the ordered one."""
    seconds, order = one.fact("video_seconds"), one.order
    if order is None or seconds is None:
        return
    yield OBSERVED
    if abs(float(seconds) - order.seconds) > HALF_A_SECOND:
        message = f"the video lasts {float(seconds):.3f} s; ordered: {order.seconds} s"
        yield Breach(message, _parameter(order, "duration"), float(seconds))


def _files(trace: AnnotatedTrace) -> Iterator[Step]:
    """Yield the requests for videos."""
    urls = {step.video for step in trace.steps if step.video} | {video.url for video in trace.trace.videos}
    yield from (step for step in trace.of("media") if step.exchange.probe in MEDIA_PROBES or step.exchange.url in urls)


def _complete(step: Step) -> bool:
    return step.exchange.method == "GET" and step.status == 200 and step.delivered and _plain(step)


def _plain(step: Step) -> bool:
    """Whether the counted bytes are the transferred ones: no content coding was undone."""
    return (step.exchange.answer_header("content-encoding") or "identity").strip().lower() == "identity"


def mentions(contract: Contract, file: str, word: str) -> bool:
    """Whether the description of a schema contains a word."""
    schema = contract.schemas.document(file)
    return isinstance(schema, dict) and word in str(schema.get("description", "")).lower()


def _parameter(order: Order, name: str) -> tuple[str, ...]:
    """Return the place where the contract describes a parameter of a model."""
    found = []
    for pointer in order.model.parameters.get(name, ())[:1]:
        steps = [step for name in pointer for step in (("items",) if name.isdigit() else ("properties", name))]
        found.append(f"{order.model.schema_file}#{format_pointer(tuple(steps))}")
    return tuple(found)


def _shows_video(contract: Contract) -> bool:
    return any("video_url" in operation.bindings for operation in contract.operations.values())


@rule(
    "MED-12",
    "delivered",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    applies=_shows_video,
    says="A job that has succeeded has a link to its video, and the link delivers the complete file.",
    because="The video is paid for; a link that breaks off or never answers is noticed only by its user.",
    fix="Report the success only after the upload is complete, together with a link that serves the whole file.",
)
def delivered(trace: AnnotatedTrace) -> Evidence:
    """Find successes without a link, and links that delivered no complete file in repeated requests."""
    yield from _without_link(trace)
    links: dict[str, list[Step]] = {}
    for step in trace.fetches:
        if step.exchange.probe == "job:media":
            links.setdefault(step.exchange.url, []).append(step)
    for url, tries in links.items():
        # Of a chain of redirects only the end can deliver, or fail to.
        if 300 <= tries[-1].status < 400 and len(links) > 1:
            continue
        why = _undelivered(tries)
        if any(step.status == 200 and step.delivered for step in tries):
            yield OBSERVED
        elif why is not None:
            yield Breach(f"the video's link delivers no complete file: {why}", (), url)


def _without_link(trace: AnnotatedTrace) -> Iterator[Breach]:
    """Yield each succeeded job of which no response has a link to the video, though it is documented there."""
    successes: dict[str | None, list[Step]] = {}
    for step in trace.reads:
        if step.success and "video_url" in operation_of(trace, step).bindings:
            successes.setdefault(step.job, []).append(step)
    for job, steps in successes.items():
        if not any(step.video for step in steps):
            last = steps[-1]
            places = binding_places(trace.contract, operation_of(trace, last), "video_url")
            message = f"job {job} has succeeded, but {label(last)} has no URL of its video"
            yield Breach(message, places, last.reading.values.get("video_url"))


def _undelivered(tries: list[Step]) -> str | None:
    """Return why a link delivered no complete file; None if the tries do not prove it."""
    last = tries[-1]
    if len(tries) < FEW_TRIES:
        return None
    if last.delivered:
        return f"request {last.number} gets {last.status}"
    failures = [_failure(step) for step in tries]
    return None if None in failures else f"request {last.number}: {failures[-1]}"


def _failure(step: Step) -> str | None:
    """Return how the endpoint failed to deliver a response; None if the suite itself may have cut it."""
    one = step.exchange
    after = f"after {one.size} of {one.answer_header('content-length') or 'unknown'} bytes" if one.status else None
    if one.broken_off:
        return f"the connection broke off {after or 'without a response'}"
    if one.waited < LEAST_WAIT or one.size > SLOWEST * one.waited:
        return None
    return f"the response stopped {after}" if after else f"no response within {one.waited:.0f} s"


def _shows_defaults(contract: Contract) -> bool:
    return any(isinstance(model.defaults.get("watermark"), bool) for model in contract.models)


@rule(
    "MED-13",
    "default-shows",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_shows_defaults,
    says="The video of an order without a parameter looks like that of an order with its documented default, if the "
    "parameter shows in the first frame, such as a watermark.",
    because="A client that relies on the default publishes a marked video, or pays twice for one without the mark.",
    fix="Fill in the documented defaults once, where the order is read, and not where the video is made.",
)
@each_video
def default_shows(one: OrderedVideo) -> Evidence:
    """Find the video of an order without a parameter that looks like the one with another value than the default."""
    found = one.fact(DEFAULT)
    if not isinstance(found, list):
        return
    name, from_default, from_other, between = found
    # Videos of a provider that draws another picture for each order all differ.
    if between < MARKED:
        return
    yield OBSERVED
    if from_default >= MARKED and from_other <= from_default / 4:
        places = () if one.order is None else tuple(f"{at}/default" for at in _parameter(one.order, name))
        message = f"the video of job {one.video.job}, ordered without {name}, looks like that of an order with another "
        yield Breach(f"{message}{name} than the documented default", places, from_default)
