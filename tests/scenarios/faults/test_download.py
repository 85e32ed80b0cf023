"""Variations of the name and of the part of a file."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import Decided
from hobbyhorse.scenarios.faults.download import DISPOSITIONS, ELSEWHERE, NAMED, OTHER_PART, TOO_LONG
from hobbyhorse.scenarios.options import SAVED_NAME
from tests.deciding import NOW

NAME = b"content-disposition"
PART = Sent(206, ((b"content-range", b"bytes 4-9/10"), (NAME, b"inline")), b"456789")


def file(sent: Sent = PART, method: str = "GET") -> Decided:
    return Decided(sent=sent, random=Random(0), now=NOW, method=method)


@pytest.mark.parametrize(
    ("part", "span", "body"), [("first", b"bytes 4-6/10", b"456"), ("last", b"bytes 7-9/10", b"789")]
)
def test_half_of_a_range_says_which_half_it_is(part: str, span: bytes, body: bytes) -> None:
    sent = OTHER_PART.effect(file(), {"part": part})
    assert (dict(sent.headers)[b"content-range"], sent.body, sent.status) == (span, body, 206)


def test_only_a_part_of_a_file_can_be_halved() -> None:
    assert OTHER_PART.applies(OTHER_PART, file(), {})
    assert not OTHER_PART.applies(OTHER_PART, file(method="HEAD"), {})
    assert not OTHER_PART.applies(OTHER_PART, file(replace(PART, status=200)), {})
    assert not OTHER_PART.applies(OTHER_PART, file(replace(PART, body=b"4")), {}), "one byte has no halves"
    assert not OTHER_PART.applies(OTHER_PART, file(replace(PART, headers=())), {})


@pytest.mark.parametrize("name", SAVED_NAME.tried)
def test_a_file_has_a_name_of_each_kind_or_none(name: str) -> None:
    headers = dict(NAMED.effect(file(), {"saved_name": name}).headers)
    assert headers.get(NAME) == (DISPOSITIONS[name].encode() if name != "none" else None)
    assert (ELSEWHERE in headers.get(NAME, b"").decode()) is (name in ("parent", "absolute"))
    assert (len(headers.get(NAME, b"")) > TOO_LONG) is (name == "long")


def test_a_response_to_head_keeps_its_name() -> None:
    assert NAMED.applies(NAMED, file(), {})
    assert not NAMED.applies(NAMED, file(method="HEAD"), {})
