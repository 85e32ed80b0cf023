"""`hobbyhorse video`: make a video with the server's renderer, without a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.media.picture import PictureError
from hobbyhorse.media.video import VideoError, VideoSpec, film


def command(
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the video to FILE.")],
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="The first frame; if repeated, the references of reference-to-video."),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Without an image, draw the scene from this prompt and the seed.")] = "",
    duration: Annotated[int, typer.Option(min=1, max=60, help="The duration in seconds.")] = 5,
    resolution: Annotated[str, typer.Option(metavar="720P|1080P", help="The resolution.")] = "1080P",
    ratio: Annotated[
        str, typer.Option(metavar="W:H", help="The aspect ratio; a first frame determines it instead.")
    ] = "16:9",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    watermark: Annotated[bool, typer.Option(help="Write Happy Horse into the lower right corner.")] = False,
) -> None:
    """Render a video as the server does, without starting one."""
    sides = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", ratio)
    if resolution.upper() not in ("720P", "1080P"):
        raise UsageError(f"--resolution is {resolution!r}; allowed: 720P, 1080P")
    if sides is None:
        raise UsageError(f"--ratio is {ratio!r}; allowed: W:H, such as 16:9")
    try:
        pictures = [path.read_bytes() for path in image or ()]
        # As at the providers: one image is the first frame, several are references.
        first = pictures[0] if len(pictures) == 1 else None
        task = "image-to-video" if first else "reference-to-video" if pictures else "text-to-video"
        film(
            VideoSpec(
                task=task,
                first_frame=first,
                references=() if first else tuple(pictures),
                prompt=prompt,
                tier=int(resolution[:-1]),
                ratio=None if first else (int(sides[1]), int(sides[2])),
                seconds=duration,
                seed=seed,
                watermark=watermark,
                comment=f"{task}, {resolution.upper()}, {duration} s, seed {seed}",
            ),
            out,
        )
    except (OSError, PictureError, VideoError) as error:
        raise UsageError(str(error)) from None
    typer.echo(out)
