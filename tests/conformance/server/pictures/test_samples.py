"""The pictures at the documented limits and beyond them, checked by the limits that the fake applies."""

from __future__ import annotations

import pytest

from hobbyhorse.conformance.server.pictures.samples import (
    ALMOST_BYTES,
    BYTES,
    HIGH,
    INLINE,
    LOW,
    PORTRAIT,
    SIDE,
    URL,
    URL_FORMS,
    Sample,
    addressed,
    alone,
    at_limits,
    beyond,
    inlined,
)
from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.media.picture import Header, PictureError, check_picture
from tests.conftest import CONTRACTS

FULL = PictureLimits(("jpeg", "png", "webp"), 300, (0.4, 2.5), 1_000_000)
EVERY = [FULL, PictureLimits(("png",)), PictureLimits(("bmp", "webp"), 64, (1.0, 2.0))]
EVERY += [model.images for contract in CONTRACTS for model in contract.models if model.images is not None]
CODES = {SIDE: "side", LOW: "aspect", HIGH: "aspect", BYTES: "bytes"}
each = pytest.mark.parametrize("limits", EVERY, ids=str)


def header(sample: Sample) -> Header:
    return Header(sample.format, sample.width, sample.height, sample.nbytes or 1)


@each
def test_pictures_at_the_limits_are_allowed_together_and_alone(limits: PictureLimits) -> None:
    for sample in at_limits(limits):
        check_picture(header(sample), limits)
        for one in alone(limits, sample):
            check_picture(header(one), limits)


@each
def test_together_they_are_at_each_limit_exactly_once(limits: PictureLimits) -> None:
    facets = [facet for sample in at_limits(limits) for facet in sample.facets]
    documented = {f"formats/{name}" for name in limits.formats}
    documented |= {SIDE} if limits.least_side is not None else set()
    documented |= {LOW, HIGH} if limits.aspect is not None else set()
    assert documented <= set(facets)
    assert len(facets) == len(set(facets))


def test_each_limit_is_met_exactly() -> None:
    by_facet = {facet: sample for sample in at_limits(FULL) for facet in sample.facets}
    assert min(by_facet[SIDE].width, by_facet[SIDE].height) == 300
    assert by_facet[LOW].width * 5 == by_facet[LOW].height * 2
    assert by_facet[HIGH].width * 2 == by_facet[HIGH].height * 5
    assert by_facet[BYTES].nbytes == 1_000_000
    assert by_facet[PORTRAIT].height > by_facet[PORTRAIT].width


def test_there_is_one_submission_for_each_format_and_no_more_if_that_is_enough() -> None:
    assert [sample.format for sample in at_limits(FULL)] == ["jpeg", "png", "webp"]
    assert [sample.format for sample in at_limits(PictureLimits(("png",), 300, (0.4, 2.5)))] == ["png"] * 3
    assert len(at_limits(PictureLimits(("png", "webp")))) == 2


def test_a_format_without_compression_is_sent_at_a_usual_size_only() -> None:
    *_, last = at_limits(PictureLimits(("bmp", "jpeg", "png", "webp"), 300, (0.4, 2.5)))
    assert (last.format, last.facets) == ("bmp", ("formats/bmp",))


@each
def test_a_picture_beyond_a_limit_violates_that_limit_alone(limits: PictureLimits) -> None:
    for sample in beyond(limits):
        (facet,) = sample.facets
        with pytest.raises(PictureError) as error:
            check_picture(header(sample), limits)
        assert error.value.code == CODES.get(facet, "format")


@each
def test_each_limit_is_exceeded_once(limits: PictureLimits) -> None:
    facets = [facet for sample in beyond(limits) for facet in sample.facets]
    assert (SIDE in facets) == (limits.least_side is not None)
    assert (LOW in facets, HIGH in facets) == ((limits.aspect is not None),) * 2
    assert len(facets) == len(set(facets))


def test_upright_pictures_are_left_out_if_the_ratio_excludes_them() -> None:
    facets = [facet for sample in at_limits(PictureLimits(("png",), 300, (1.0, 2.0))) for facet in sample.facets]
    assert PORTRAIT not in facets
    assert SIDE in facets


def facets_alone(sample: Sample) -> list[tuple[str]]:
    """Return the facets that are tried alone: before the greatest number of bytes, almost as many."""
    almost = ((ALMOST_BYTES, facet) if facet == BYTES else (facet,) for facet in sample.facets)
    return [(facet,) for facets in almost for facet in facets]


def test_a_facet_alone_has_the_format_of_the_picture_that_was_refused() -> None:
    sample = next(one for one in at_limits(FULL) if BYTES in one.facets)
    found = alone(FULL, sample)
    assert {one.format for one in found} == {sample.format}
    assert [one.facets for one in found] == facets_alone(sample)
    sizes = {one.facets[0]: one.nbytes for one in found}
    # Almost as many bytes are documented, whatever a megabyte is.
    assert FULL.most_bytes is not None
    assert sizes.pop(BYTES) == FULL.most_bytes > 1.05 * (sizes.pop(ALMOST_BYTES) or 0) > 0
    assert set(sizes.values()) == {None}


@each
def test_the_picture_in_the_request_is_below_the_limit_in_any_kind_of_megabyte(
    limits: PictureLimits,
) -> None:
    before = at_limits(limits)
    after = inlined(limits, before)
    changed = [sample for sample, old in zip(after, before, strict=True) if sample != old]
    for sample in changed:
        check_picture(header(sample), limits)
        assert limits.most_bytes is not None
        assert sample.nbytes is not None
        assert sample.nbytes < limits.most_bytes / 1.048576
        assert [one.nbytes for one in alone(limits, sample) if INLINE in one.facets] == [sample.nbytes]
    assert len(changed) <= 1
    if limits in (FULL, CONTRACTS[0].models[0].images):
        assert len(changed) == 1


@each
def test_pictures_outside_the_request_have_urls_of_each_form_as_far_as_there_are_enough(limits: PictureLimits) -> None:
    samples = addressed(inlined(limits, at_limits(limits)))
    forms = [facet for sample in samples for facet in sample.facets if facet.startswith(URL)]
    free = [sample for sample in samples if INLINE not in sample.facets]
    assert forms == [facet for group in URL_FORMS[: len(free)] for facet in group]
    assert not [sample for sample in samples if INLINE in sample.facets and set(sample.facets) & set(forms)]
    for sample in free:
        assert [one.facets for one in alone(limits, sample)] == facets_alone(sample)
