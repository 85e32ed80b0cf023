"""The pictures that show how an endpoint handles its documented limits, as sizes and formats. Draws none.

A *facet* is one documented property: `formats/png`, `least_side`, `aspect/0`, `aspect/1`, `most_bytes`, `portrait`. A
picture has the facets that it is exactly at. Each order is paid for, so one picture is at several limits; if it is
refused, pictures with one facet each find the limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from hobbyhorse.contract.picture_limits import PictureLimits

# Formats for a picture that must be refused, the most common first: every server can tell that it is one of these.
OTHER_FORMATS = ("gif", "bmp", "tiff")
# Files of these formats are large: they are only sent at a usual size.
UNCOMPRESSED = frozenset({"bmp", "tiff"})
# The formats that have a place for bytes which every decoder ignores.
PADDABLE = ("png", "jpeg")
# A picture away from its limits has this many pixels more than the shortest documented side.
MARGIN = 60
# The shortest documented side of the providers known; for a contract that documents none.
USUAL_SIDE = 300
# The usual ratio of a video, so that no provider has to crop the picture.
WIDE = Fraction(16, 9)
# A miss by two percent: a provider that rounds a ratio to one or two digits is not blamed.
MISS = 1.02
# Ratios are documented as quotients of small numbers, such as 1:2.5.
MOST_DENOMINATOR = 100
# The beginnings of the probes' names; the facets follow.
AT, ALONE, BEYOND = "pictures:at:", "pictures:alone:", "pictures:beyond:"
FORMAT = "formats/"
SIDE, LOW, HIGH, BYTES, PORTRAIT = "least_side", "aspect/0", "aspect/1", "most_bytes", "portrait"
# A picture that is in the request itself, and almost as large as documented.
INLINE = "inline"
# The facets of a picture in a format that is in the request itself.
IN_REQUEST = "inline/"
# Below the limit, whether a megabyte has 1,000,000 bytes or 1,048,576.
ALMOST = 0.95
# A picture of almost the documented number of bytes.
ALMOST_BYTES = "almost_most_bytes"
# The facets of a picture's URL: signed in its query, without an extension, and with characters that are encoded.
URL = "url/"
SIGNED, BARE, ENCODED, UPPER = "url/signed", "url/bare", "url/encoded", "url/upper"
# The facets that one URL has, for one picture each.
URL_FORMS = ((SIGNED, BARE), (ENCODED, UPPER))


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture to be drawn: its format, its size in pixels and in bytes (None: any), and its facets.

    A facet may also be a property of its URL, or that it has none.
    """

    format: str
    width: int
    height: int
    facets: tuple[str, ...]
    nbytes: int | None = None


def usual(limits: PictureLimits) -> Sample:
    """Return a picture away from all limits, in the format that most servers read."""
    known = [name for name in PADDABLE if name in limits.formats]
    return Sample([*known, *limits.formats, "png"][0], *_plain(limits), ())


def at_limits(limits: PictureLimits) -> list[Sample]:
    """Return pictures that together are in each documented format and at each limit, one for each format or more."""
    shapes = [*_first_shape(limits), *_ratios(limits)]
    every = sorted(limits.formats, key=lambda name: name in UNCOMPRESSED)
    formats = [*every, *every[:1] * (len(shapes) - len(every))]
    shapes += [(_plain(limits), ())] * (len(formats) - len(shapes))
    found = []
    for number, (name, (size, facets)) in enumerate(zip(formats, shapes, strict=True)):
        own = (f"{FORMAT}{name}", *facets) if number < len(limits.formats) else facets
        found.append(Sample(name, *size, own))
    return _with_bytes(limits, found)


def inlined(limits: PictureLimits, samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples, the first one that can be padded almost as large as documented, for the request itself."""
    free = [one for one in samples if one.format in PADDABLE and one.nbytes is None]
    if limits.most_bytes is None or not free:
        return list(samples)
    larger = replace(free[0], facets=(*free[0].facets, INLINE), nbytes=int(limits.most_bytes * ALMOST))
    return [larger if one is free[0] else one for one in samples]


def in_request(limits: PictureLimits) -> list[Sample]:
    """Return a picture for the request itself in each format whose files are small, unless `inlined` has one."""
    known = {one.format for one in inlined(limits, at_limits(limits)) if INLINE in one.facets}
    names = [name for name in limits.formats if name not in UNCOMPRESSED | known]
    return [Sample(name, *_plain(limits), (IN_REQUEST + name,)) for name in names]


def addressed(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples, the first ones that are not in the request itself with URLs of each form."""
    forms = iter(URL_FORMS)
    return [one if INLINE in one.facets else replace(one, facets=(*one.facets, *next(forms, ()))) for one in samples]


def alone(limits: PictureLimits, sample: Sample) -> list[Sample]:
    """Return a picture for each facet of a sample, in the sample's format; the format's own comes first."""
    plain, found = _plain(limits), []
    sizes = {
        SIDE: _sized(limits.least_side or USUAL_SIDE, _wide(limits)),
        PORTRAIT: plain[::-1],
        **{facets[0]: size for size, facets in _ratios(limits)},
    }
    for facet in sample.facets:
        nbytes = limits.most_bytes if facet == BYTES else sample.nbytes if facet == INLINE else None
        if facet == BYTES and nbytes is not None:
            # How many bytes a megabyte has may be assumed; this many are fewer in either case.
            found.append(Sample(sample.format, *plain, (ALMOST_BYTES,), int(nbytes * ALMOST)))
        found.append(Sample(sample.format, *sizes.get(facet, plain), (facet,), nbytes))
    return found


def beyond(limits: PictureLimits) -> list[Sample]:
    """Return pictures that each exceed one documented limit by little; their facet is the exceeded limit."""
    plain, usual = _plain(limits), limits.formats[0]
    found = []
    other = next((name for name in OTHER_FORMATS if name not in limits.formats), None)
    if other is not None:
        found.append(Sample(other, *plain, (f"{FORMAT}{other}",)))
    if limits.least_side is not None and limits.least_side > 1:
        found.append(Sample(usual, *_sized(limits.least_side - 1, _wide(limits)), (SIDE,)))
    if limits.aspect is not None:
        low, high = limits.aspect
        side = _shorter(limits)
        found += [
            Sample(usual, side, math.ceil(side / low * MISS), (LOW,)),
            Sample(usual, math.ceil(side * high * MISS), side, (HIGH,)),
        ]
    paddable = _paddable(limits)
    if limits.most_bytes is not None and paddable is not None:
        found.append(Sample(paddable, *plain, (BYTES,), limits.most_bytes + 1))
    return found


Shape = tuple[tuple[int, int], tuple[str, ...]]
"""A size, and the facets that it has."""


def _first_shape(limits: PictureLimits) -> Iterator[Shape]:
    """Yield the shape of an upright picture, as short as documented; a wide one if upright ones are not allowed."""
    upright = limits.aspect is None or limits.aspect[0] <= 1 / WIDE
    side = limits.least_side or _shorter(limits)
    facets = (*((SIDE,) if limits.least_side is not None else ()), *((PORTRAIT,) if upright else ()))
    if facets:
        yield (_sized(side, WIDE)[::-1] if upright else _sized(side, _wide(limits))), facets


def _ratios(limits: PictureLimits) -> Iterator[Shape]:
    """Yield the shapes at the smallest and the greatest ratio, if whole pixels can have it."""
    for facet, bound in zip((LOW, HIGH), limits.aspect or (), strict=False):
        ratio = Fraction(bound).limit_denominator(MOST_DENOMINATOR)
        if ratio > 0 and math.isclose(ratio, bound, rel_tol=1e-9):
            times = math.ceil(_shorter(limits) / min(ratio.numerator, ratio.denominator))
            yield (ratio.numerator * times, ratio.denominator * times), (facet,)


def _with_bytes(limits: PictureLimits, samples: list[Sample]) -> list[Sample]:
    """Return the samples, one of them as large as documented: one whose format can be padded, with few facets."""
    paddable = [one for one in samples if one.format in PADDABLE and SIDE not in one.facets]
    if limits.most_bytes is None or not paddable:
        return samples
    chosen = min(paddable, key=lambda one: PADDABLE.index(one.format))
    larger = replace(chosen, facets=(*chosen.facets, BYTES), nbytes=limits.most_bytes)
    return [larger if one is chosen else one for one in samples]


def _paddable(limits: PictureLimits) -> str | None:
    return next((name for name in PADDABLE if name in limits.formats), None)


def _shorter(limits: PictureLimits) -> int:
    return (limits.least_side or USUAL_SIDE) + MARGIN


def _plain(limits: PictureLimits) -> tuple[int, int]:
    """Return the size of a picture that is at no limit."""
    return _sized(_shorter(limits), _wide(limits))


def _wide(limits: PictureLimits) -> Fraction:
    """Return the usual ratio, or the nearest one that is allowed."""
    low, high = limits.aspect or (0.0, float("inf"))
    return WIDE if low <= WIDE <= high else Fraction(high if high < WIDE else low)


def _sized(side: int, ratio: Fraction) -> tuple[int, int]:
    """Return a size with a shorter side and a ratio of width to height."""
    return (round(side * ratio), side) if ratio >= 1 else (side, round(side / ratio))
