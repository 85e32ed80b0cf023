"""Make videos from a still picture in gentle motion: one second is encoded and repeated. No contract, no HTTP.

Encoding is slow and repeating is fast, so a video of any duration costs one second of encoding. This requires that the
picture and the sound both end as they began:

* The motion is a zoom and a sway with a period of exactly one second (`moving_filters`), zero at both ends. So frame 0
  is the still itself, as an image-to-video client checks, and frame 24 would equal frame 0.
* The sound has a period of TURN packets (`sound_source`), in which each tone has a whole number of cycles.

The same spec gives the same bytes in any process on one machine, because of constant quantisers, fixed thread counts,
bit-exact scaling, seeded generators, and no timestamps in the file. `digest` is therefore a content address, and must
include every input that affects the bytes.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import subprocess
import tempfile
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import imageio_ffmpeg
import PIL
from PIL import Image

from hobbyhorse.media.mp4_writer import MovieParts, write_mp4
from hobbyhorse.media.picture import read_picture
from hobbyhorse.media.scenery import contact_sheet, jpeg, scene, watermark
from hobbyhorse.media.streams import PACKET_SAMPLES, AudioLoop, StreamError, VideoLoop, audio_loop, video_loop

MAKER_VERSION = "1"  # part of `digest`; change it whenever this module produces other bytes for the same input
FPS = 24  # the only frame rate that a provider documents for these models
AREAS = {720: 1280 * 720, 1080: 1920 * 1080}
MOST_SIDE = 1920  # of a frame in the usual ratios; twice that is enough detail of a reference
MOST_VIDEO_SECONDS = 60  # bounds the size of a file; providers document at most 15
ENCODE_SECONDS = 120  # encoding takes 2 to 5 s at 1080P, and longer on a busy machine; after 120 s, ffmpeg hangs
# Requests that differ only in duration share loops. A loop takes up to 2 MB; a few cover the jobs of one test.
MOST_CACHED_LOOPS = 4

# Exact arithmetic and, below, fixed thread counts, because the bytes must not depend on the machine's cores.
EXACT = "bitexact+accurate_rnd"
# With constant quantisers, the first frame is faithful for any picture, and a watermark changes only its own corner.
# Without B-frames, and with one slice for each picture, the loop needs no decoding (see `streams`).
X264 = ("-preset", "superfast", "-qp", "20", "-bf", "0", "-g", str(FPS), "-threads", "4")
X264_PARAMS = "ipratio=1.6:chroma-qp-offset=-3:scenecut=0:open-gop=0:slices=1:sliced-threads=0"
BT709_OPTIONS = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv")

RATE = 48000  # Hz; also the movie's time scale (see `mp4_writer`)
TURN = 47  # AAC packets after which the sound repeats: 1.0027 s, the nearest to one second
SETTLE = 3  # packets after which the encoder's output is periodic as well
# Semitones above the root: chords that sound well in any order.
SCALES = ((0, 4, 7, 12), (0, 5, 9, 12), (0, 3, 7, 10), (0, 4, 9, 14), (0, 7, 9, 16))


WORK_FOLDER: ContextVar[Path | None] = ContextVar("work_folder", default=None)
"""The folder for the encoder's files, which its owner removes if this process is killed; None for the system's."""


class VideoError(Exception):
    """A video could not be made. The message is one line."""


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """The input of a video. Its picture is the first frame, else the references, else a scene from the prompt.

    If `still` is set, that is the picture: `compose` has made it elsewhere, as the raw RGB pixels of a size.
    """

    task: str
    first_frame: bytes | None
    references: tuple[bytes, ...]
    prompt: str
    tier: int
    ratio: tuple[int, int] | None
    seconds: int
    seed: int
    watermark: bool
    comment: str
    still: tuple[tuple[int, int], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Loops:
    """The encoded loops of a video, and the size of its frames."""

    video: VideoLoop
    audio: AudioLoop
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Motion:
    """A periodic zoom and sway, zero at both ends. `reach` is in pixels per side, the rest in fractions of `reach`."""

    reach: int
    lean_x: float
    lean_y: float
    sway_x: float
    sway_y: float


def film(spec: VideoSpec, out: Path) -> None:
    """Write a video to `out`, either completely or not at all. Raises VideoError or PictureError."""
    _check(spec)
    # Task, duration and comment do not affect the encoding, so videos that differ only in these share a cache entry.
    # Neither does the prompt if there is a picture (see `compose`).
    pictures = spec.first_frame is not None or spec.references or spec.still is not None
    found = loops(replace(spec, task="", seconds=1, comment="", prompt="" if pictures else spec.prompt))
    movie = MovieParts(found.video, found.audio, *found.size, spec.seconds, f"hobbyhorse {spec.task}", spec.comment)
    # In the directory of `out`, because a rename is atomic only within a file system.
    with tempfile.TemporaryDirectory(prefix=".film-", dir=out.parent) as folder:
        aside = Path(folder) / "film.mp4"
        write_mp4(movie, aside)
        os.replace(aside, out)


@lru_cache(maxsize=MOST_CACHED_LOOPS)
def loops(spec: VideoSpec) -> Loops:
    """Return the encoded loops of a video. The latest few are cached. Raises VideoError or PictureError."""
    still = compose(spec)
    with tempfile.TemporaryDirectory(prefix="film-", dir=WORK_FOLDER.get()) as name:
        folder = Path(name)
        _encode(spec, still, folder)
        try:
            video = video_loop((folder / "loop.h264").read_bytes(), FPS)
            audio = audio_loop((folder / "loop.aac").read_bytes(), SETTLE, TURN)
        except StreamError as error:
            raise VideoError(f"the encoder's output cannot be used: {error}") from error
    return Loops(video, audio, still.size)


def first_frame_jpeg(spec: VideoSpec) -> bytes:
    """Return the video's first frame as a JPEG, with the watermark if the spec has one."""
    _check(spec)
    still = compose(spec)
    if spec.watermark:
        strip, corner = watermark(*still.size)
        still.paste(strip, corner, strip)
    return jpeg(still)


def frame_size(tier: int, ratio_width: int, ratio_height: int) -> tuple[int, int]:
    """Return the frame's width and height: the tier's area in the given ratio, both even as 4:2:0 requires.

    >>> frame_size(720, 16, 9), frame_size(1080, 9, 16), frame_size(720, 1, 1)
    ((1280, 720), (1080, 1920), (960, 960))
    """
    if ratio_width < ratio_height:
        height, width = frame_size(tier, ratio_height, ratio_width)
        return width, height
    width = _even(math.sqrt(AREAS[tier] * ratio_width / ratio_height))
    return width, max(2, _even(width * ratio_height / ratio_width))


def digest(spec: VideoSpec) -> str:
    """Return the video's content address: a hash of all inputs that affect its bytes, including the tools' versions."""
    makers = (MAKER_VERSION, ffmpeg_version(), PIL.__version__)
    first = spec.first_frame and hashlib.sha256(spec.first_frame).hexdigest()
    references = [hashlib.sha256(data).hexdigest() for data in spec.references]
    words = replace(spec, first_frame=None, references=())
    return hashlib.sha256(repr((makers, first, references, words)).encode()).hexdigest()


@cache
def ffmpeg_version() -> str:
    """Return the first line of `ffmpeg -version`."""
    done = subprocess.run([_program(), "-version"], capture_output=True, check=True)
    return done.stdout.decode(errors="replace").partition("\n")[0]


def _program() -> str:
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise VideoError(f"ffmpeg was not found; install imageio-ffmpeg again: {error}") from error


def _check(spec: VideoSpec) -> None:
    if spec.tier not in AREAS:
        raise VideoError(f"tier is {spec.tier!r}; allowed: {', '.join(map(str, AREAS))}")
    if not 1 <= spec.seconds <= MOST_VIDEO_SECONDS:
        raise VideoError(f"seconds is {spec.seconds!r}; allowed: 1 to {MOST_VIDEO_SECONDS}")
    if spec.ratio is not None and min(spec.ratio) < 1:
        raise VideoError(f"ratio is {spec.ratio!r}; allowed: two positive numbers")


def _even(value: float) -> int:
    return 2 * round(value / 2)


def compose(spec: VideoSpec) -> Image.Image:
    """Return the first frame without the watermark. Raises PictureError."""
    if spec.still is not None:
        return Image.frombytes("RGB", *spec.still)
    if spec.first_frame is not None:
        picture = read_picture(spec.first_frame)
        given, size = picture.image, frame_size(spec.tier, picture.width, picture.height)
        return given if given.size == size else given.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    size = frame_size(spec.tier, *(spec.ratio or (16, 9)))
    if spec.references:
        return contact_sheet([_no_larger(read_picture(data).image) for data in spec.references], *size)
    return scene(spec.prompt, spec.seed, *size)


def _no_larger(image: Image.Image) -> Image.Image:
    """Return a reference in at most the pixels that a frame can show of it, before the next one is decoded."""
    image.thumbnail((2 * MOST_SIDE, 2 * MOST_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def motion(seed: int, width: int) -> Motion:
    """Return the motion for a seed and a frame width."""
    # Lean and sway are perpendicular, which gives an elliptic path. Their sum stays below 1 (at most 0.5 and 0.45), so
    # that the crop window does not leave the enlarged picture.
    rng = random.Random(f"motion {seed}")
    angle, sway = rng.random() * 2 * math.pi, rng.uniform(0.25, 0.45) * rng.choice((-1, 1))
    lean = rng.uniform(0.2, 0.5)
    return Motion(
        reach=round(width * rng.uniform(0.006, 0.009)),
        lean_x=round(lean * math.cos(angle), 4),
        lean_y=round(lean * math.sin(angle), 4),
        sway_x=round(-sway * math.sin(angle), 4),
        sway_y=round(sway * math.cos(angle), 4),
    )


def _encode(spec: VideoSpec, still: Image.Image, folder: Path) -> None:
    width, height = still.size
    inputs = [*raw_input("rgb24", still.size), "-i", "pipe:0"]
    picture = f"[0:v]{moving_filters(motion(spec.seed, width), width, height)}"
    if spec.watermark:
        strip, (left, top) = watermark(width, height)
        (folder / "mark.rgba").write_bytes(strip.tobytes())
        inputs += [*raw_input("rgba", strip.size), "-i", "mark.rgba"]
        mark = f"[1:v]scale=out_color_matrix=bt709:out_range=tv:flags={EXACT},format=yuva420p[mark]"
        picture = f"{mark};{picture}[clean];[clean][mark]overlay={left}:{top}:format=yuv420"
    picture += ",setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709[v]"
    common = ("-v", "error", "-y", "-bitexact", *inputs)
    # Two graphs instead of one, because ffmpeg runs each graph in its own thread.
    graphs = ("-filter_complex", picture, "-filter_complex", f"{sound_source(spec.seed)}[a]")
    encoder = ("-c:v", "libx264", *X264, "-x264-params", X264_PARAMS, *BT709_OPTIONS)
    video = ("-map", "[v]", *encoder, "-f", "h264", "loop.h264")
    # aac_pns 0, because perceptual noise substitution makes a decoder add noise that differs in each repetition.
    audio = ("-map", "[a]", "-c:a", "aac", "-b:a", "96k", "-aac_pns", "0", "-threads", "1", "-f", "adts", "loop.aac")
    _ffmpeg((*common, *graphs, *video, *audio), still.tobytes(), folder)


def raw_input(pixels: str, size: tuple[int, int]) -> list[str]:
    """Return ffmpeg's options for an input of raw pixels."""
    width, height = size
    return ["-f", "rawvideo", "-pixel_format", pixels, "-video_size", f"{width}x{height}", "-framerate", str(FPS)]


def moving_filters(move: Motion, width: int, height: int) -> str:
    """Return ffmpeg's filters for a motion: enlarge by whole pixels on each side, then crop to the frame."""
    # Whole pixels, so that an enlargement of 0 leaves frame 0 unscaled. 4:4:4 until the end, because in 4:2:0 an odd
    # enlargement would shift the colours. 0.000001 prevents x.5 from rounding differently on another machine.
    turn = f"(n*2*PI/{FPS})"
    grown = f"round({move.reach}*(1-cos({turn}))/2+0.000001)"
    grown_high = f"round({grown}*{height}/{width}+0.000001)"
    left = f"round({grown}*(1+{move.lean_x}+{move.sway_x}*sin({turn})))"
    top = f"round({grown_high}*(1+{move.lean_y}+{move.sway_y}*sin({turn})))"
    return ",".join(
        (
            f"scale=out_color_matrix=bt709:out_range=tv:flags={EXACT}+full_chroma_int",
            "format=yuv444p",
            f"loop={FPS - 1}:1",
            f"setpts=N/{FPS}/TB",
            f"scale=w='{width}+2*{grown}':h='{height}+2*{grown_high}':eval=frame:flags=bicubic+{EXACT}",
            f"crop={width}:{height}:'{left}':'{top}'",
            f"scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+{EXACT}",
            "format=yuv420p",
        )
    )


def sound_source(seed: int) -> str:
    """Return an ffmpeg source that sounds like a quiet music box: four decaying notes, repeated after TURN packets."""
    rng = random.Random(f"sound {seed}")
    turn = TURN * PACKET_SAMPLES / RATE
    root, order = rng.choice((196.0, 220.0, 246.9, 261.6)), list(rng.choice(SCALES))
    rng.shuffle(order)
    notes = []
    for beat, step in enumerate(order):
        cycles = round(root * 2 ** (step / 12) * turn)  # a whole number, so that the phase repeats too
        # Seconds since the note was struck, modulo the period, so that its decay continues across the loop's end.
        since = f"mod(t+{turn * (4 - beat) / 4:.6f},{turn:.9f})"
        notes.append(f"sin({2 * math.pi * cycles / turn:.9f}*t)*exp(-4.5*{since})*(1-exp(-120*{since}))")
    # Two extra packets, because the encoder delays its output and flushes it at the end.
    length = (TURN + SETTLE + 2) * PACKET_SAMPLES / RATE
    return f"aevalsrc='0.08*({'+'.join(notes)})':s={RATE}:d={length:.9f},pan=stereo|c0=c0|c1=c0"


def _ffmpeg(arguments: tuple[str, ...], stdin: bytes, folder: Path) -> None:
    command = [_program(), *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=folder, timeout=ENCODE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise VideoError(f"ffmpeg did not finish within {ENCODE_SECONDS} s") from error
    except OSError as error:
        raise VideoError(f"ffmpeg could not be started: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise VideoError(f"ffmpeg: {lines[-1].strip()}")
