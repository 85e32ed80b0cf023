"""What an input picture must be; knows no decoder, so that contracts can hold it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The bounds that a picture has to keep, all inclusive; aspect is width / height; None bounds nothing."""

    formats: tuple[str, ...]
    least_side: int | None = None
    aspect: tuple[float, float] | None = None
    most_bytes: int | None = None
