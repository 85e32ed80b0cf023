"""The server rules about the video, on hand-written properties: kept, broken, learned and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.server.rules.media import _parameter
from hobbyhorse.conformance.server.video_check import LATER, START
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Contract
from hobbyhorse.media.video import frame_size
from hobbyhorse.traces.orders import order_behind
from hobbyhorse.traces.trace import Video
from tests.conftest import contracts_that
from tests.judging import (
    BROKEN,
    LESSON,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    assuming,
    family,
    knowing,
    named,
    verdict,
)
from tests.judging import teller as ordered
from tests.tracing import JOB, Teller

SIZE = 1000

RULES = family("MED")


def _models(contract: Contract) -> range:
    return range(len(contract.models))


def _description(contract: Contract, number: int) -> str:
    return str(contract.schemas.document(contract.models[number].schema_file).get("description", ""))


says_so = contracts_that(lambda contract: any("24 frames" in _description(contract, n) for n in _models(contract)))


def rule(number: int) -> Any:
    return named(RULES, f"MED-{number:02}")


def teller(contract: Contract, model: int = 0) -> Teller:
    """Return a teller of an accepted submission for a model."""
    path = contract.operations["submit"].path
    for place in contract.operations["submit"].bindings["model"].request:
        if place.part == "path":
            path = path.replace("{" + place.name + "}", contract.models[model].id)
    told = ordered(contract, model)
    return told.submit(url=told.base + path)


def asked(told: Teller) -> Order:
    order = order_behind(told.story(), JOB)
    assert order is not None
    return order


def video(told: Teller, **facts: Any) -> Video:
    """Return a video as ordered, except for some properties."""
    order = asked(told)
    width, height = frame_size(int((order.resolution or "720")[:-1]), 16, 9)
    found = {
        "moov_first": True,
        "video_codec": "h264",
        "width": width,
        "height": height,
        "fps": 24.0,
        "constant_frame_rate": True,
        "frames": 24 * order.seconds,
        "video_seconds": float(order.seconds),
        "audio_codec": "aac",
        "audio_seconds": order.seconds + 0.02,
        "first_frame_difference": 3.0,
    }
    return Video(JOB, told.video, found | facts)


def word(number: int, told: Teller, **facts: Any) -> str:
    return verdict(rule(number), told, videos=(video(told, **facts),))


def test_no_video_shows_nothing(contract: Contract) -> None:
    assert {verdict(one, teller(contract)) for one in RULES} <= {NOT_OBSERVED, NOT_APPLICABLE}


def test_a_video_as_ordered_breaks_no_rule(contract: Contract) -> None:
    for model in _models(contract):
        told = teller(contract, model)
        words = {one.id: verdict(one, told, videos=(video(told),)) for one in RULES}
        unseen = {"MED-09", "MED-10", "MED-12", "MED-13", *(["MED-05"] if asked(told).first_frame else [])}
        unseen |= set() if words["MED-07"] == PASSED else {"MED-07"}
        assert {name for name, word in words.items() if word != PASSED} == unseen


@pytest.mark.parametrize(
    ("number", "facts"),
    [
        (1, {"video_codec": "mpeg4"}),
        (2, {"fps": 25.0}),
        (2, {"fps": 23.976}),
        (2, {"constant_frame_rate": False}),
        (3, {"frames": 1}),
        (3, {"video_seconds": 0.1}),
        (4, {"width": 640, "height": 360}),
        (4, {"width": 1281, "height": 720}),
        (5, {"asked_aspect": 1.0}),
        (6, {"first_frame_difference": 60.0}),
        (8, {"moov_first": False}),
        (11, {"video_seconds": 1.5}),
    ],
)
def test_a_deviating_property_of_a_video_is_reported(contract: Contract, number: int, facts: dict[str, Any]) -> None:
    for model in _models(contract):
        assert word(number, teller(knowing(contract), model)) in (PASSED, NOT_OBSERVED)
        assert word(number, teller(knowing(contract), model), **facts) == BROKEN


def test_the_suites_own_pictures_are_compared_if_the_endpoint_draws_one(contract: Contract) -> None:
    told = teller(contract)

    def judged(*differences: float, **more: float) -> str:
        videos = [video(told, **{START: apart}, **more) for apart in differences]
        bare = [
            replace(one, facts={k: v for k, v in one.facts.items() if k != "first_frame_difference"}) for one in videos
        ]
        return verdict(rule(6), told, videos=tuple(bare))

    assert judged(3.0, 4.0) == PASSED
    assert judged(3.0, 60.0) == BROKEN
    assert judged(60.0, 61.0) == NOT_OBSERVED, "an endpoint for tests may draw no picture"
    assert judged(60.0, **{LATER: 50.0}) == NOT_OBSERVED
    assert judged(60.0, **{LATER: 4.0}) == BROKEN, "the picture comes later"
    assert judged(12.0, **{LATER: 4.0}) == PASSED


def test_a_promised_sound_can_be_heard(contract: Contract) -> None:
    told = teller(contract)
    for loudness, expected in ((0.2, PASSED), (0.0, BROKEN), (None, PASSED)):
        usual = word(7, told)
        assert word(7, told, loudness=loudness) == (expected if usual == PASSED else usual)


def test_one_frame_short_is_reported(contract: Contract) -> None:
    told = teller(contract)
    seconds = asked(told).seconds
    short = {"frames": 24 * seconds - 1, "video_seconds": seconds - 1 / 24}
    assert [word(number, told, **short) for number in (2, 3, 11)] == [PASSED, BROKEN, PASSED]


def test_a_file_that_is_not_a_video_is_reported(contract: Contract) -> None:
    told = teller(contract)
    bad = Video(JOB, told.video, error="the file starts with b'<html>'")
    words = {one.id: verdict(one, told, videos=(bad,)) for one in RULES}
    assert words.pop("MED-01") == BROKEN
    assert set(words.values()) <= {NOT_OBSERVED, NOT_APPLICABLE}


def test_a_tier_may_be_rounded_otherwise(contract: Contract) -> None:
    told = teller(contract)
    width, height = frame_size(int((asked(told).resolution or "")[:-1]), 3, 4)
    for off in (-4, 0, 4):
        assert word(4, told, width=width + off, height=height) == PASSED


def test_the_aspect_is_that_of_the_picture_that_was_given(contract: Contract) -> None:
    told = teller(contract)
    assert word(5, told, asked_aspect=16 / 9) == PASSED
    assert word(5, told, asked_aspect=1.80) == PASSED
    assert word(5, told, asked_aspect=9 / 16) == BROKEN


@contracts_that(lambda contract: any("aspect_ratio" in model.parameters for model in contract.models))
def test_the_aspect_is_the_ordered_one(contract: Contract) -> None:
    number = next(n for n in _models(contract) if "aspect_ratio" in contract.models[n].parameters)
    told = teller(knowing(contract), number)
    assert word(5, told) == PASSED
    assert word(5, told, width=960, height=960) == BROKEN
    file = contract.models[number].schema_file
    place = f"{file}#/properties{''.join('/' + step for step in contract.models[number].parameters['aspect_ratio'][0])}"
    assert word(5, teller(assuming(contract, place), number), width=960, height=960) == LESSON


def test_the_meaning_of_a_parameter_may_be_assumed(contract: Contract) -> None:
    for name, number, facts in (
        ("duration", 3, {"frames": 1}),
        ("duration", 11, {"video_seconds": 0.5}),
        ("resolution", 4, {"width": 640, "height": 360}),
    ):
        model = contract.models[0]
        steps = "/properties/".join(model.parameters[name][0])
        told = teller(assuming(contract, f"{model.schema_file}#/properties/{steps}"))
        assert word(number, told, **facts) == LESSON


@says_so
def test_the_frame_rate_is_a_lesson_where_the_description_is_assumed(contract: Contract) -> None:
    place = f"{contract.models[0].schema_file}#/description"
    assert word(2, teller(knowing(contract)), fps=25.0) == BROKEN
    assert word(2, teller(assuming(contract, place)), fps=25.0) == LESSON


def test_sound_is_expected_only_if_it_is_promised(contract: Contract) -> None:
    mute = word(7, teller(contract), audio_codec=None, audio_seconds=None)
    assert mute == (
        BROKEN if "audio" in str(contract.schemas.document(contract.models[0].schema_file)) else NOT_APPLICABLE
    )
    names = ["openapi.json", *(model.schema_file for model in contract.models)]
    documents = {name: contract.schemas.document(name) for name in names}
    file = contract.models[0].schema_file
    documents[file] = documents[file] | {"description": "A video with audio."}
    promised = replace(contract, schemas=Schemas(documents), assumptions=())
    assert word(7, teller(promised)) == PASSED
    assert word(7, teller(promised), audio_codec=None, audio_seconds=None) == BROKEN
    assert word(7, teller(promised), audio_seconds=0.5) == BROKEN
    assert word(7, teller(assuming(promised, f"{file}#/description")), audio_seconds=0.5) == LESSON


def test_an_unknown_property_is_not_judged(contract: Contract) -> None:
    told = teller(contract)
    found = video(told)
    told.exchanges[0] = replace(told.exchanges[0], body=b'{"image": "data:')
    for number in (3, 4, 11):
        assert verdict(rule(number), told, videos=(found,)) == NOT_OBSERVED
    for number in (2, 3, 4, 5, 6, 8, 11):
        assert verdict(rule(number), teller(contract), videos=(Video(JOB, "x", {"brand": "isom"}),)) == NOT_OBSERVED


def test_a_video_is_found_by_its_address_too(contract: Contract) -> None:
    role = "result" if "result" in contract.operations else "status"
    situations = contract.operations[role].situations.values()
    done = next(one.name for one in situations if {contract.graph[n].kind for n in one.stages} == {"success"})
    told = teller(contract).call(role, done)
    found = replace(video(told, frames=1), job=None)
    assert verdict(rule(3), told, videos=(found,)) == BROKEN


def test_a_video_that_is_found_by_its_address_belongs_to_the_order_of_the_response_with_this_address(
    contract: Contract,
) -> None:
    role = "result" if "result" in contract.operations else "status"
    situations = contract.operations[role].situations.values()
    done = next(one.name for one in situations if {contract.graph[n].kind for n in one.stages} == {"success"})
    unread = ordered(contract).submit(job=f"another-{JOB}", body=b'{"image": "data:')
    unread.exchanges += teller(contract).call(role, done).exchanges
    found = replace(video(teller(contract), frames=1), job=None)
    assert verdict(rule(3), unread, videos=(found,)) == BROKEN
    assert verdict(rule(3), unread, videos=(replace(found, url=f"{found.url}.other"),)) == NOT_OBSERVED


def part(told: Teller, asked: str, told_range: str | None, size: int, status: int = 206, **how: Any) -> Teller:
    """Add a range request for the video."""
    answer = (("content-type", "video/mp4"), *((("content-range", told_range),) if told_range else ()))
    headers = (("range", asked),)
    return told.media(status, probe="job:range", headers=headers, answer_headers=answer, size=size, **how)


@pytest.mark.parametrize(
    ("asked", "told_range", "size"),
    [
        ("bytes=0-99", "bytes 0-99/1000", 100),
        ("bytes=100-", "bytes 100-999/1000", 900),
        ("bytes=-100", "bytes 900-999/1000", 100),
        ("bytes=900-2000", "bytes 900-999/1000", 100),
        ("bytes=0-99", "bytes 0-99/*", 100),
    ],
)
def test_a_range_of_the_video_has_the_requested_bytes(
    contract: Contract, asked: str, told_range: str, size: int
) -> None:
    assert verdict(rule(9), part(teller(contract), asked, told_range, size)) == PASSED
    assert verdict(rule(9), part(teller(contract), asked, told_range, size + 1)) == BROKEN
    assert verdict(rule(9), part(teller(contract), asked, None, size)) == BROKEN
    assert verdict(rule(9), part(teller(contract), asked, None, SIZE, status=200)) == NOT_OBSERVED
    announced = {"answer_headers": (("accept-ranges", "bytes"), ("content-type", "video/mp4"))}
    ignored = teller(contract).media(200, probe="job:range", headers=(("range", asked),), size=SIZE, **announced)
    assert verdict(rule(9), ignored) == BROKEN
    assert verdict(rule(9), part(teller(contract), asked, None, 0, status=416)) == BROKEN
    assert verdict(rule(9), part(teller(contract), asked, None, 0, status=403)) == NOT_OBSERVED
    assert verdict(rule(9), part(teller(contract), asked, told_range, size, whole=False)) == NOT_OBSERVED


def test_a_range_request_that_shows_nothing_does_not_hide_a_later_one(contract: Contract) -> None:
    ranged: dict[str, Any] = {"headers": (("range", "bytes=0-99"),)}
    for nothing in (
        teller(contract).media(probe="job:media"),
        teller(contract).media(416, **ranged),
        teller(contract).media(200, probe="job:range", **ranged),
        teller(contract).media(503, probe="job:range", **ranged),
    ):
        assert verdict(rule(9), nothing) == NOT_OBSERVED
        assert verdict(rule(9), part(nothing, "bytes=0-99", "bytes 1-100/1000", 100)) == BROKEN


@pytest.mark.parametrize("pixels", [1280 * 720, 1920 * 1080])
def test_the_size_of_a_tier_may_be_off_by_two_percent(contract: Contract, pixels: int) -> None:
    tier = {1280 * 720: "720", 1920 * 1080: "1080"}[pixels]
    number = next((n for n in _models(contract) if (asked(teller(contract, n)).resolution or "")[:-1] == tier), None)
    for share, expected in ((0.979, BROKEN), (0.981, PASSED), (1.019, PASSED), (1.021, BROKEN)):
        if number is not None:
            width = 2 * round(share * pixels / 720 / 2)
            assert word(4, teller(knowing(contract), number), width=width, height=720) == expected, share


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (720, 1800, PASSED),
        (1800, 720, PASSED),
        (288, 720, PASSED),
        (512, 1280, PASSED),
        (606, 1520, PASSED),
        (480, 1200, BROKEN),
        (1080, 2700, BROKEN),
    ],
)
def test_a_tier_may_have_its_size_in_each_way_that_no_document_excludes(
    contract: Contract, width: int, height: int, expected: str
) -> None:
    number = next((n for n in _models(contract) if (asked(teller(contract, n)).resolution or "")[:-1] == "720"), None)
    if number is not None:
        assert word(4, teller(knowing(contract), number), width=width, height=height) == expected


def test_another_range_than_the_requested_one_is_reported(contract: Contract) -> None:
    assert verdict(rule(9), part(teller(contract), "bytes=0-99", "bytes 1-100/1000", 100)) == BROKEN
    assert verdict(rule(9), teller(contract).media(probe="job:media")) == NOT_OBSERVED


def whole(told: Teller, length: str | None = str(SIZE), kind: str = "video/mp4", **how: Any) -> Teller:
    """Add a request for the whole video."""
    sized = (("content-length", length),) if length is not None else ()
    said = {"probe": "job:media", "answer_headers": (("content-type", kind), *sized)} | how
    return told.media(**said)


@pytest.mark.parametrize(
    "kind", ["video/mp4", "Video/MP4; codecs=avc1", "application/octet-stream", "binary/octet-stream"]
)
def test_a_video_comes_with_its_length_and_type(contract: Contract, kind: str) -> None:
    assert verdict(rule(10), whole(teller(contract), kind=kind)) == PASSED


def test_a_wrong_length_or_type_is_reported(contract: Contract) -> None:
    for told in (
        whole(teller(contract), "999"),
        whole(teller(contract), None),
        whole(teller(contract), kind="text/html"),
        whole(whole(teller(contract)), "999", method="HEAD", probe="job:head", size=0),
    ):
        assert verdict(rule(10), told) == BROKEN


def test_a_length_that_cannot_be_compared_is_not(contract: Contract) -> None:
    packed = (("content-type", "video/mp4"), ("content-encoding", "gzip"), ("content-length", "10"))
    head: dict[str, Any] = {"method": "HEAD", "probe": "job:head", "size": 0}
    for told in (
        whole(teller(contract), answer_headers=packed),
        whole(teller(contract), None, **head),
        whole(teller(contract), "7", **head),
        whole(whole(teller(contract)), **head),
    ):
        assert verdict(rule(10), told) == PASSED
    assert verdict(rule(10), whole(teller(contract), "7", whole=False)) == NOT_OBSERVED
    assert verdict(rule(10), whole(teller(contract), "7", probe=None)) == NOT_OBSERVED


def test_facts_are_those_of_the_trace_as_json(contract: Contract) -> None:
    told = teller(contract)
    found = Video(JOB, told.video, orjson.loads(orjson.dumps(dict(video(told).facts))))
    assert verdict(rule(3), told, videos=(found,)) == PASSED


# MED-13


@contracts_that(lambda contract: any(isinstance(model.defaults.get("watermark"), bool) for model in contract.models))
def test_a_video_looks_like_one_with_the_documented_default(contract: Contract) -> None:
    told = teller(knowing(contract))

    def shown(*differences: float) -> str:
        return word(13, told, default=["watermark", *differences])

    assert shown(0.2, 9.0, 9.0) == PASSED
    assert shown(9.0, 0.2, 9.0) == BROKEN
    assert shown(9.0, 8.0, 9.0) == PASSED, "another picture for each order"
    assert shown(1.0, 0.0, 1.0) == NOT_OBSERVED, "the parameter does not show"
    told.contract = assuming(contract, *(f"{at}/default" for at in _parameter(asked(told), "watermark")))
    assert shown(9.0, 0.2, 9.0) == LESSON
