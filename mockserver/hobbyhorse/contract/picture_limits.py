"""The documented limits of input pictures. Does not decode any, because contracts must load without Pillow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """Limits of a picture. All are inclusive; None means unlimited; `aspect` bounds width / height."""

    formats: tuple[str, ...]
    least_side: int | None = None
    aspect: tuple[float, float] | None = None
    most_bytes: int | None = None
