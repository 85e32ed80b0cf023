"""Films of still pictures in gentle motion: one second is encoded and repeated; knows no contract, no HTTP."""

from __future__ import annotations

import hashlib
import math
import os
import random
import subprocess
import tempfile
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import imageio_ffmpeg
import PIL
from PIL import Image

from hobbyhorse.media.mux import MovieParts, write_mp4
from hobbyhorse.media.picture import read_picture
from hobbyhorse.media.scenery import contact_sheet, jpeg, scene, watermark
from hobbyhorse.media.streams import PACKET_SAMPLES, AudioLoop, StreamError, VideoLoop, audio_loop, video_loop

MAKER_VERSION = "1"
FPS = 24
AREAS = {720: 1280 * 720, 1080: 1920 * 1080}
MOST_VIDEO_SECONDS = 60
ENCODE_SECONDS = 120
MOST_CACHED_LOOPS = 4

# Fixed thread counts and exact arithmetic: the bytes must not depend on the machine's cores.
EXACT = "bitexact+accurate_rnd"
# Constant quantisers keep the first frame true on any picture, and a watermark's cost in its own corner.
X264 = ("-preset", "superfast", "-qp", "20", "-bf", "0", "-g", str(FPS), "-threads", "4")
X264_PARAMS = "ipratio=1.6:chroma-qp-offset=-3:scenecut=0:open-gop=0:slices=1:sliced-threads=0"
BT709_OPTIONS = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv")

RATE = 48000
TURN = 47  # AAC packets after which the sound repeats: 1.0027 s
SETTLE = 3  # packets that the encoder needs before its output repeats too
SCALES = ((0, 4, 7, 12), (0, 5, 9, 12), (0, 3, 7, 10), (0, 4, 9, 14), (0, 7, 9, 16))


class VideoError(Exception):
    """A film that could not be made; the message is one line."""


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """All that a film depends on. A first frame outranks references, and these outrank the prompt."""

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


@dataclass(frozen=True, slots=True)
class Loops:
    """What a film of any length is made of, and the size of its frame."""

    video: VideoLoop
    audio: AudioLoop
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Motion:
    """A loop of zoom and sway, zero at its ends: `reach` in pixels per side, the rest in shares of it."""

    reach: int
    lean_x: float
    lean_y: float
    sway_x: float
    sway_y: float


def film(shot: VideoSpec, out: Path) -> None:
    """Make the film at `out`, which appears complete or not at all; raise VideoError or PictureError."""
    _check(shot)
    found = loops(replace(shot, task="", seconds=1, comment=""))
    reel = MovieParts(found.video, found.audio, *found.size, shot.seconds, f"hobbyhorse {shot.task}", shot.comment)
    with tempfile.TemporaryDirectory(prefix=".film-", dir=out.parent) as room:
        aside = Path(room) / "film.mp4"
        write_mp4(reel, aside)
        os.replace(aside, out)


@lru_cache(maxsize=MOST_CACHED_LOOPS)
def loops(shot: VideoSpec) -> Loops:
    """Encode the second of picture and the turn of sound that a film repeats; remember the latest few."""
    still = compose(shot)
    with tempfile.TemporaryDirectory(prefix="film-") as name:
        room = Path(name)
        _encode(shot, still, room)
        try:
            video = video_loop((room / "loop.h264").read_bytes(), FPS)
            audio = audio_loop((room / "loop.aac").read_bytes(), SETTLE, TURN)
        except StreamError as error:
            raise VideoError(f"the encoder's output cannot be used: {error}") from error
    return Loops(video, audio, still.size)


def first_frame_jpeg(shot: VideoSpec) -> bytes:
    """Give the film's first frame as a JPEG, watermark included."""
    _check(shot)
    still = compose(shot)
    if shot.watermark:
        strip, corner = watermark(*still.size)
        still.paste(strip, corner, strip)
    return jpeg(still)


def frame_size(tier: int, ratio_width: int, ratio_height: int) -> tuple[int, int]:
    """Give the frame's width and height: the tier's area in the given ratio, both sides even.

    >>> frame_size(720, 16, 9), frame_size(1080, 9, 16), frame_size(720, 1, 1)
    ((1280, 720), (1080, 1920), (960, 960))
    """
    if ratio_width < ratio_height:
        height, width = frame_size(tier, ratio_height, ratio_width)
        return width, height
    width = _even(math.sqrt(AREAS[tier] * ratio_width / ratio_height))
    return width, max(2, _even(width * ratio_height / ratio_width))


def digest(shot: VideoSpec) -> str:
    """Give the film's content address: a hash of all that its bytes depend on, its makers' versions included."""
    makers = (MAKER_VERSION, ffmpeg_version(), PIL.__version__)
    first = shot.first_frame and hashlib.sha256(shot.first_frame).hexdigest()
    references = [hashlib.sha256(data).hexdigest() for data in shot.references]
    words = replace(shot, first_frame=None, references=())
    return hashlib.sha256(repr((makers, first, references, words)).encode()).hexdigest()


@cache
def ffmpeg_version() -> str:
    """Give the first line of `ffmpeg -version`."""
    answer = subprocess.run([_program(), "-version"], capture_output=True, check=True)
    return answer.stdout.decode(errors="replace").partition("\n")[0]


def _program() -> str:
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise VideoError(f"ffmpeg was not found: {error}") from error


def _check(shot: VideoSpec) -> None:
    if shot.tier not in AREAS:
        raise VideoError(f"tier is {shot.tier!r}; allowed are {', '.join(map(str, AREAS))}")
    if not 1 <= shot.seconds <= MOST_VIDEO_SECONDS:
        raise VideoError(f"seconds is {shot.seconds!r}; allowed are 1 to {MOST_VIDEO_SECONDS}")
    if shot.ratio is not None and min(shot.ratio) < 1:
        raise VideoError(f"ratio is {shot.ratio!r}; both sides must be positive")


def _even(value: float) -> int:
    return 2 * round(value / 2)


def compose(shot: VideoSpec) -> Image.Image:
    """Compose the picture that the film starts from, in the size of the frame."""
    if shot.first_frame is not None:
        given = read_picture(shot.first_frame).image
        size = frame_size(shot.tier, *given.size)
        return given if given.size == size else given.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    size = frame_size(shot.tier, *(shot.ratio or (16, 9)))
    if shot.references:
        return contact_sheet([read_picture(data).image for data in shot.references], *size)
    return scene(shot.prompt, shot.seed, *size)


def motion(seed: int, width: int) -> Motion:
    """Draw the motion that belongs to a seed."""
    dice = random.Random(f"motion {seed}")
    angle, sway = dice.random() * 2 * math.pi, dice.uniform(0.25, 0.45) * dice.choice((-1, 1))
    lean = dice.uniform(0.2, 0.5)
    return Motion(
        reach=round(width * dice.uniform(0.006, 0.009)),
        lean_x=round(lean * math.cos(angle), 4),
        lean_y=round(lean * math.sin(angle), 4),
        sway_x=round(-sway * math.sin(angle), 4),
        sway_y=round(sway * math.cos(angle), 4),
    )


def _encode(shot: VideoSpec, still: Image.Image, room: Path) -> None:
    width, height = still.size
    inputs = [*raw_input("rgb24", still.size), "-i", "pipe:0"]
    picture = f"[0:v]{moving_filters(motion(shot.seed, width), width, height)}"
    if shot.watermark:
        strip, (left, top) = watermark(width, height)
        (room / "mark.rgba").write_bytes(strip.tobytes())
        inputs += [*raw_input("rgba", strip.size), "-i", "mark.rgba"]
        mark = f"[1:v]scale=out_color_matrix=bt709:out_range=tv:flags={EXACT},format=yuva420p[mark]"
        picture = f"{mark};{picture}[clean];[clean][mark]overlay={left}:{top}:format=yuv420"
    picture += ",setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709[v]"
    common = ("-v", "error", "-y", "-bitexact", *inputs)
    # Two graphs, not one: ffmpeg runs each in a thread of its own.
    graphs = ("-filter_complex", picture, "-filter_complex", f"{sound_source(shot.seed)}[a]")
    video = (
        "-map",
        "[v]",
        "-c:v",
        "libx264",
        *X264,
        "-x264-params",
        X264_PARAMS,
        *BT709_OPTIONS,
        "-f",
        "h264",
        "loop.h264",
    )
    audio = ("-map", "[a]", "-c:a", "aac", "-b:a", "96k", "-aac_pns", "0", "-threads", "1", "-f", "adts", "loop.aac")
    _ffmpeg((*common, *graphs, *video, *audio), still.tobytes(), room)


def raw_input(pixels: str, size: tuple[int, int]) -> list[str]:
    """Give ffmpeg's options for an input of raw pixels."""
    width, height = size
    return ["-f", "rawvideo", "-pixel_format", pixels, "-video_size", f"{width}x{height}", "-framerate", str(FPS)]


def moving_filters(move: Motion, width: int, height: int) -> str:
    """Write the filters: enlarge by whole pixels per side, cut the frame out of it, so that frame 0 stays as it is.

    The work is done without chroma subsampling: in 4:2:0 an odd enlargement would shift the colours.
    """
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
    """Write the source of a quiet music box: four notes that repeat after TURN packets, each fading out."""
    dice = random.Random(f"sound {seed}")
    turn = TURN * PACKET_SAMPLES / RATE
    root, order = dice.choice((196.0, 220.0, 246.9, 261.6)), list(dice.choice(SCALES))
    dice.shuffle(order)
    notes = []
    for beat, step in enumerate(order):
        cycles = round(root * 2 ** (step / 12) * turn)  # a whole number, so that the phase repeats too
        since = f"mod(t+{turn * (4 - beat) / 4:.6f},{turn:.9f})"
        notes.append(f"sin({2 * math.pi * cycles / turn:.9f}*t)*exp(-4.5*{since})*(1-exp(-120*{since}))")
    length = (TURN + SETTLE + 2) * PACKET_SAMPLES / RATE
    return f"aevalsrc='0.08*({'+'.join(notes)})':s={RATE}:d={length:.9f},pan=stereo|c0=c0|c1=c0"


def _ffmpeg(arguments: tuple[str, ...], given: bytes, room: Path) -> None:
    command = [_program(), *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, cwd=room, timeout=ENCODE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise VideoError(f"ffmpeg did not finish within {ENCODE_SECONDS} s") from error
    except OSError as error:
        raise VideoError(f"ffmpeg could not be started: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise VideoError(f"ffmpeg: {lines[-1].strip()}")
