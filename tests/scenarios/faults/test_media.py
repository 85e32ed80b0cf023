"""Faults of a file: another file, a part of it, another media type, or a refusal."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from hobbyhorse.scenarios.effects import Truncate
from hobbyhorse.scenarios.fault import RETYPES, SPOILS
from hobbyhorse.scenarios.faults.media import LARGE
from hobbyhorse.scenarios.registry import names_used_for
from tests.deciding import of_file


def test_a_page_or_picture_is_as_large_as_a_short_video() -> None:
    page, picture = of_file("html_page", status=502), of_file("not_video")
    assert (page.status, page.headers) == (502, ((b"content-type", b"text/html; charset=utf-8"),))
    assert LARGE * 0.9 < len(page.body) < LARGE * 1.1
    assert LARGE * 0.9 < len(picture.body) < LARGE * 1.1
    assert Image.open(BytesIO(picture.body)).size == (1, 1)
    assert picture.headers == ((b"content-type", b"video/mp4"), (b"etag", b"x"))


def test_a_file_is_empty_cut_or_of_another_type() -> None:
    assert of_file("zero_bytes").body == b""
    assert of_file("all_zeros").body == bytes(10)
    assert of_file("truncated", keep=0.25) == Truncate(0.25)
    assert of_file("wrong_type").headers[-1] == (b"content-type", b"application/octet-stream")
    assert of_file("wrong_type", type="a/b").body == b"0123456789"


def test_a_refused_file_has_the_status_of_the_refusal_and_no_other_header() -> None:
    found = {name: of_file(name) for name in ("expired", "not_found", "unavailable")}
    assert {name: sent.status for name, sent in found.items()} == {"expired": 403, "not_found": 404, "unavailable": 503}
    assert {sent.headers[0] for sent in found.values()} == {(b"content-type", b"application/xml")}
    assert found["unavailable"].headers[1:] == ((b"retry-after", b"1"),)
    assert of_file("unavailable", retry_after=9).headers[1:] == ((b"retry-after", b"9"),)


def test_the_faults_that_send_no_video_are_told_from_those_that_only_name_it_otherwise() -> None:
    assert names_used_for(SPOILS) == {"truncated", "truncate", "zero_bytes", "html_page", "not_video", "all_zeros"}
    assert names_used_for(RETYPES) == {"wrong_type"}
