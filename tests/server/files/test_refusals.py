"""A refused file is refused in the XML of an object store."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from hobbyhorse.scenarios.moves import MEDIA_MOVES
from hobbyhorse.server.files.refusals import REFUSALS, FileRefusal


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("expired", 403, "AccessDenied"), ("not_found", 404, "NoSuchKey"), ("unavailable", 503, "SlowDown")],
)
def test_each_refusal_has_the_status_and_code_of_an_object_store(name: str, status: int, code: str) -> None:
    refusal = REFUSALS[name]
    document = ElementTree.fromstring(refusal.xml())
    assert (refusal.status, document.tag) == (status, "Error")
    assert [(child.tag, child.text) for child in document] == [("Code", code), ("Message", refusal.message)]


def test_each_refusal_is_a_fault_that_a_scenario_can_name() -> None:
    assert REFUSALS.keys() <= MEDIA_MOVES.keys()


def test_a_message_is_escaped() -> None:
    document = ElementTree.fromstring(FileRefusal(503, "SlowDown", "ffmpeg <died> & left").xml())
    assert document.findtext("Message") == "ffmpeg <died> & left"
