"""Rules about the video: what was asked for is in the file, and the file comes as files do. Knows no server."""

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

FPS = 24
AREAS = {720: 1280 * 720, 1080: 1920 * 1080}
"""Pixels of each tier; no document says what a tier means for a picture that is not 16:9."""
CODECS = frozenset({"h264", "hevc", "av1", "vp9"})
DURATION_ROUNDING_SECONDS = 0.02
HALF_A_SECOND = 0.5
ALIKE = 24
"""The greatest mean difference, of 255, at which two pictures are one."""
IN_STEP = 0.1
"""Seconds by which picture and sound may differ."""
TYPES = frozenset({"video/mp4", "application/octet-stream", "binary/octet-stream"})
MEDIA_PROBES = ("job:media", "job:range", "job:head", "retention:before")

Look = Callable[[AnnotatedTrace, Video, "Order | None"], "list[Breach] | None"]


def _each(look: Look) -> Callable[[AnnotatedTrace], list[Breach] | None]:
    """Return a check that looks at each video, with what was asked of it."""

    def over(annotated: AnnotatedTrace) -> list[Breach] | None:
        found = [look(annotated, video, _asked(annotated, video)) for video in annotated.trace.videos]
        seen = [breaches for breaches in found if breaches is not None]
        return [breach for breaches in seen for breach in breaches] if seen else None

    return over


def _facts(look: Callable[[AnnotatedTrace, Mapping[str, Any], Order | None], list[Breach] | None]) -> Look:
    """Return a look at what is in a video, if it is one."""
    return lambda annotated, video, order: (
        look(annotated, video.facts, order) if video.facts and not video.error else None
    )


def _asked(annotated: AnnotatedTrace, video: Video) -> Order | None:
    """Return what was asked of the job that a video is of."""
    if video.job is not None:
        return order_behind(annotated, video.job)
    told = next((step for step in annotated.steps if step.video == video.url), None)
    if told is None:
        return None
    return order_of(annotated, told) if told.role in SUBMISSIONS else order_behind(annotated, told.job)


def _container(annotated: AnnotatedTrace, video: Video, order: Order | None) -> list[Breach] | None:
    places = _promised(annotated.contract, order, "mp4")
    if video.error:
        return [Breach(f"the video of {video.job} is no whole MP4: {video.error}", places, video.error)]
    codec = video.facts.get("video_codec")
    if codec is None:
        return None
    if codec not in CODECS:
        return [Breach(f"the video is in {codec}; {', '.join(sorted(CODECS))} can be played", places, codec)]
    return []


def _frame_rate(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    rate = facts.get("fps")
    if rate is None:
        return None
    places = _promised(annotated.contract, order, "24 frames")
    found = []
    if not math.isclose(float(rate), FPS, abs_tol=0.001):
        found.append(Breach(f"the video has {float(rate):g} frames a second, not {FPS}", places, rate))
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
        message = f"the video has {frames} frames; {FPS * order.seconds} are {order.seconds} s"
        found.append(Breach(message, places, frames))
    if abs(float(seconds) - order.seconds) > 1 / FPS + 1e-6:
        found.append(Breach(f"the video lasts {float(seconds):.3f} s, not {order.seconds}", places, float(seconds)))
    return found


def _length(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    seconds = facts.get("video_seconds")
    if order is None or seconds is None:
        return None
    if abs(float(seconds) - order.seconds) <= HALF_A_SECOND:
        return []
    message = f"the video lasts {float(seconds):.3f} s; {order.seconds} s were asked for"
    return [Breach(message, _parameter(order, "duration"), float(seconds))]


def _sides(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    width, height = facts.get("width"), facts.get("height")
    found = re.fullmatch(r"(\d+)[pP]", order.resolution or "") if order is not None else None
    area = AREAS.get(int(found.group(1))) if found is not None else None
    if order is None or area is None or not width or not height:
        return None
    places, size = _parameter(order, "resolution"), f"{width}x{height}"
    breaches = []
    if abs(width * height - area) > DURATION_ROUNDING_SECONDS * area:
        message = f"the video is {size}, {width * height} pixels; {order.resolution} are about {area}"
        breaches.append(Breach(message, places, size))
    if width % 2 or height % 2:
        breaches.append(Breach(f"the video is {size}; both sides are even", places, size))
    return breaches


def _aspect(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    width, height = facts.get("width"), facts.get("height")
    if not width or not height:
        return None
    asked, places = facts.get("asked_aspect"), _promised(annotated.contract, order, "aspect")
    if asked is None and order is not None and order.first_frame is None and order.ratio:
        across, _, down = order.ratio.partition(":")
        asked = int(across) / int(down) if across.isdigit() and down.isdigit() and int(down) else None
        places = _parameter(order, "aspect_ratio")
    if not isinstance(asked, int | float) or asked <= 0:
        return None
    if abs(width / height - asked) <= DURATION_ROUNDING_SECONDS * asked:
        return []
    return [Breach(f"the video is {width}x{height}, {width / height:.3f}; asked for was {asked:.3f}", places)]


def _first_frame(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    apart = facts.get("first_frame_difference")
    if apart is None:
        return None
    if apart <= ALIKE:
        return []
    places = () if order is None else _parameter(order, "first_frame")
    return [Breach(f"the first frame is not the picture that was given: they differ by {apart:.0f}", places, apart)]


def _audio(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    places = _promised(annotated.contract, order, "audio")
    if not places or facts.get("video_seconds") is None:
        return None
    sound = facts.get("audio_seconds")
    if facts.get("audio_codec") is None or sound is None:
        return [Breach("the video has no sound", places)]
    if abs(float(sound) - float(facts["video_seconds"])) > IN_STEP:
        message = f"the sound lasts {float(sound):.3f} s, the picture {float(facts['video_seconds']):.3f}"
        return [Breach(message, places, float(sound))]
    return []


def _moov_first(annotated: AnnotatedTrace, facts: Mapping[str, Any], order: Order | None) -> list[Breach] | None:
    if "moov_first" not in facts:
        return None
    return [] if facts["moov_first"] else [Breach("the index (moov) stands behind the media; it cannot be streamed")]


def ranges(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold the answers to requests for a part of a video against what was asked for."""
    found: list[Breach] = []
    seen = False
    for step in _files(annotated):
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", step.exchange.header("range") or "")
        if asked is None or not any(asked.groups()) or not step.delivered or step.status not in (200, 206, 416):
            continue
        if step.status == 416 and step.exchange.probe != "job:range":
            continue
        seen = True
        found += _range(step, *asked.groups())
    return found if seen else None


def _range(step: Step, first: str, last: str) -> Iterator[Breach]:
    """Yield what is wrong with the answer to one range."""
    if step.status != 206:
        yield Breach(f"request {step.number} asks for a part of the video: {step.status}, not 206", (), step.status)
        return
    told = step.exchange.answer_header("content-range") or ""
    said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", told.strip())
    if said is None:
        yield Breach(f"request {step.number} is answered 206 with the Content-Range {told!r}", (), told)
        return
    start, end, total = int(said.group(1)), int(said.group(2)), said.group(3)
    wanted = _wanted(first, last, None if total == "*" else int(total))
    if wanted is not None and wanted != (start, end):
        yield Breach(f"request {step.number} asks for bytes {wanted[0]}-{wanted[1]} and gets {told!r}", (), told)
    if _plain(step) and step.exchange.size != end - start + 1:
        yield Breach(f"request {step.number} gets {step.exchange.size} bytes as {told!r}", (), step.exchange.size)


def _wanted(first: str, last: str, total: int | None) -> tuple[int, int] | None:
    """Return the bytes that a range asks for of a file; None where that depends on its unknown size."""
    if total is None:
        return None
    if not first:
        return max(0, total - int(last)), total - 1
    return int(first), min(int(last), total - 1) if last else total - 1


def headers(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold the headers of videos against what came."""
    found: list[Breach] = []
    seen = False
    whole = {step.exchange.url: step.exchange.size for step in _files(annotated) if _complete(step)}
    for step in _files(annotated):
        if step.status != 200 or not step.delivered or step.exchange.method not in ("GET", "HEAD"):
            continue
        seen = True
        kind = (step.exchange.answer_header("content-type") or "").partition(";")[0].strip().lower()
        if kind not in TYPES:
            found.append(Breach(f"request {step.number} gets the video as {kind or 'no type'!r}", (), kind))
        size = step.exchange.size if step.exchange.method == "GET" else whole.get(step.exchange.url)
        told = step.exchange.answer_header("content-length")
        if not _plain(step) or size is None or (step.exchange.method == "HEAD" and told is None):
            continue
        if told is None or not told.isdigit() or int(told) != size:
            message = f"request {step.number}: the video has {size} bytes, its Content-Length is {told}"
            found.append(Breach(message, (), told))
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
    """Whether the bytes that were counted are those that were sent."""
    return (step.exchange.answer_header("content-encoding") or "identity").strip().lower() == "identity"


def _promised(contract: Contract, order: Order | None, word: str) -> tuple[str, ...]:
    """Return where the documents of a model, or of any if it is not known, say a word about the video."""
    models = contract.models if order is None else (order.model,)
    return tuple(f"{model.schema_file}#/description" for model in models if _says(contract, model.schema_file, word))


def _says(contract: Contract, file: str, word: str) -> bool:
    schema = contract.schemas.document(file)
    return isinstance(schema, dict) and word in str(schema.get("description", "")).lower()


def _parameter(order: Order, name: str) -> tuple[str, ...]:
    """Return where the contract describes a parameter of a model."""
    found = []
    for pointer in order.model.parameters.get(name, ())[:1]:
        steps = [step for name in pointer for step in (("items",) if name.isdigit() else ("properties", name))]
        found.append(f"{order.model.schema_file}#{format_pointer(tuple(steps))}")
    return tuple(found)


def _sounds(contract: Contract) -> bool:
    return any(_says(contract, model.schema_file, "audio") for model in contract.models)


container_and_codecs = _each(_container)
frame_rate = _each(_facts(_frame_rate))
frames_and_duration = _each(_facts(_frames))
sides_for_tier = _each(_facts(_sides))
aspect = _each(_facts(_aspect))
first_frame = _each(_facts(_first_frame))
audio = _each(_facts(_audio))
moov_first = _each(_facts(_moov_first))
length = _each(_facts(_length))

UNDOCUMENTED = "No document of most providers promises it."

RULES = (
    ServerRule(
        "MED-01",
        "container-and-codecs",
        "MUST",
        "S1",
        "The video is a whole MP4, in a codec that is played everywhere.",
        "A page of HTML or JSON that is saved as a video is found by its viewer: openclaw/openclaw#117339.",
        container_and_codecs,
    ),
    ServerRule(
        "MED-02",
        "frame-rate",
        "SHOULD",
        "S3",
        f"The video has 24 frames a second, constantly. {UNDOCUMENTED}",
        "What is cut together with other clips stutters at another rate.",
        frame_rate,
    ),
    ServerRule(
        "MED-03",
        "frames-and-duration",
        "SHOULD",
        "S3",
        f"The video has exactly 24 frames for each second that was asked for, and lasts so long to a frame. "
        f"{UNDOCUMENTED}",
        "Clips that are strung together drift from their sound, a frame each.",
        frames_and_duration,
    ),
    ServerRule(
        "MED-04",
        "sides-for-tier",
        "SHOULD",
        "S2",
        "The video has the area of the tier that was asked for (720P: 1280x720, 1080P: 1920x1080), to 2 %, and even "
        f"sides. {UNDOCUMENTED}",
        "Who pays for the dear tier and gets the cheap one sees it only by measuring.",
        sides_for_tier,
    ),
    ServerRule(
        "MED-05",
        "aspect",
        "SHOULD",
        "S2",
        "The video has the aspect of the picture that was given, or the one that was asked for, to 2 %. Not every "
        "provider documents it.",
        "A picture that is squeezed or cut is not the one that was given.",
        aspect,
    ),
    ServerRule(
        "MED-06",
        "first-frame",
        "SHOULD",
        "S1",
        "The first frame of a video that was made from a picture is that picture. How alike is our measure.",
        "A video of another picture is somebody else's: danny-avila/LibreChat#14344.",
        first_frame,
    ),
    ServerRule(
        "MED-07",
        "audio",
        "SHOULD",
        "S3",
        "Where the documents of a model promise sound, it is there, as long as the picture to 0.1 s.",
        "Players stop at the shorter of the two.",
        audio,
        _sounds,
    ),
    ServerRule(
        "MED-08",
        "moov-first",
        "SHOULD",
        "S3",
        f"The index of the file stands before its media. {UNDOCUMENTED}",
        "A browser must fetch the whole file before it can show the first frame.",
        moov_first,
    ),
    ServerRule(
        "MED-09",
        "ranges",
        "SHOULD",
        "S3",
        f"A part of the video can be asked for: 206, with a Content-Range that is right. {UNDOCUMENTED}",
        "Without it nobody can seek, and some browsers do not play at all.",
        ranges,
    ),
    ServerRule(
        "MED-10",
        "headers",
        "SHOULD",
        "S3",
        "The video comes with its Content-Length, as video/mp4 or as bytes of no type. " + UNDOCUMENTED,
        "A download that broke off is told by its length; SDKs match the type: OpenRouterTeam/python-sdk#175.",
        headers,
    ),
    ServerRule(
        "MED-11",
        "length",
        "MUST",
        "S1",
        "The video is as long as was asked for, to half a second.",
        "Each second is paid for.",
        length,
    ),
)
