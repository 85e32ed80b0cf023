"""Rendering time of a film, compared with encoding every frame: `python -m benchmarks.video`."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg

from hobbyhorse.media import video
from hobbyhorse.media.scenery import jpeg, scene
from hobbyhorse.media.video import FPS, VideoSpec, film, frame_size

ROUNDS = 3  # odd, for the median; plain encoding takes many seconds
PLAIN: dict[str, tuple[str, ...]] = {
    "libx264 with its defaults (preset medium, crf 23)": (),
    "libx264 with our settings (superfast, qp 20)": (*video.X264, "-x264-params", video.X264_PARAMS),
}


def main() -> None:
    """Print the seconds of an uncached film, and of plain ffmpeg for the same pictures and sound."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()  # the first call runs the program to test it; later ones are cached
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "film.mp4"
        for tier, seconds in ((1080, 15), (720, 5)):
            spec = _spec(tier, seconds)
            ours = _median(lambda spec=spec: _uncached(spec, out))  # type: ignore[misc]
            print(f"{tier}P, {seconds} s, image-to-video, uncached; median of {ROUNDS}")
            print(f"  {'hobbyhorse: one second encoded, then repeated':<48}{ours:8.3f} s{_mib(out)}")
            for label, options in PLAIN.items():
                command = _plain(ffmpeg, spec, options, out)
                plain = _median(lambda command=command, spec=spec: _run(command, spec))  # type: ignore[misc]
                print(f"  {label:<48}{plain:8.3f} s{_mib(out)}{plain / ours:8.1f} x")


def _uncached(spec: VideoSpec, out: Path) -> None:
    video.loops.cache_clear()
    film(spec, out)


def _spec(tier: int, seconds: int) -> VideoSpec:
    picture = jpeg(scene("benchmark", 8, *frame_size(tier, 16, 9)))
    return VideoSpec("image-to-video", picture, (), "", tier, None, seconds, 1, False, "benchmark")


def _plain(ffmpeg: str, spec: VideoSpec, options: tuple[str, ...], out: Path) -> list[str]:
    """Return the ffmpeg command that encodes the same frames one by one, with the same sound."""
    size = frame_size(spec.tier, 16, 9)
    moved = video.moving_filters(video.motion(spec.seed, size[0]), *size)
    frames = moved.replace(f"loop={FPS - 1}:1", f"loop={FPS * spec.seconds - 1}:1")
    sound = ("-stream_loop", str(spec.seconds), "-i", str(out.with_suffix(".wav")))
    tone = [
        ffmpeg,
        "-v",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        video.sound_source(spec.seed),
        str(out.with_suffix(".wav")),
    ]
    subprocess.run(tone, check=True, stdin=subprocess.DEVNULL)
    inputs = (*video.raw_input("rgb24", size), "-i", "pipe:0", *sound)
    end = ("-c:a", "aac", "-b:a", "96k", "-t", str(spec.seconds), "-movflags", "+faststart", str(out))
    return [ffmpeg, "-v", "error", "-y", *inputs, "-vf", frames, "-c:v", "libx264", *options, *end]


def _run(command: list[str], spec: VideoSpec) -> None:
    subprocess.run(command, input=video.compose(spec).tobytes(), check=True)


def _median(work: Callable[[], None]) -> float:
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _mib(path: Path) -> str:
    return f"{path.stat().st_size / (1 << 20):8.2f} MiB"


if __name__ == "__main__":
    main()
