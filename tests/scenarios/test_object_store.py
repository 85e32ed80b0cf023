"""A refused file is refused in the XML of an object store."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from hobbyhorse.scenarios.object_store import EXPIRED, NOT_FOUND, UNAVAILABLE, FileRefusal


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [(EXPIRED, 403, "AccessDenied"), (NOT_FOUND, 404, "NoSuchKey"), (UNAVAILABLE, 503, "SlowDown")],
    ids=str,
)
def test_each_refusal_has_the_status_and_code_of_an_object_store(refusal: FileRefusal, status: int, code: str) -> None:
    document = ElementTree.fromstring(refusal.xml())
    assert (refusal.status, document.tag) == (status, "Error")
    assert [(child.tag, child.text) for child in document] == [("Code", code), ("Message", refusal.message)]


def test_a_message_is_escaped() -> None:
    document = ElementTree.fromstring(FileRefusal(503, "SlowDown", "ffmpeg <died> & left").xml())
    assert document.findtext("Message") == "ffmpeg <died> & left"
