"""Variations on the wire: what they ask of the server, and when they apply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.scenarios.effects import Framed, Rewritten
from hobbyhorse.scenarios.faults.wire import CALLBACK_HEADER_CASE, CODED_BODY, FRAMED, HEADER_CASE
from tests.deciding import decided, under

RESPONSE = decided(b"{}")


def test_a_header_case_and_a_framing_are_effects_on_the_wire() -> None:
    assert under("header_case", RESPONSE, names="upper") == Framed(names="upper")
    assert under("framed", RESPONSE, framing="close", segment=7) == Framed(framing="close", segment=7)
    assert under("framed", RESPONSE) == Framed(framing="chunked")
    assert under("coded", RESPONSE, coding="deflate") == Framed(coding="deflate")


def test_a_callback_has_its_headers_in_another_case() -> None:
    effect = CALLBACK_HEADER_CASE.effect(None, CALLBACK_HEADER_CASE.complete({"names": "title"}))
    assert isinstance(effect, Rewritten)
    assert effect.names == "title"
    assert effect.change(b"x") == b"x"


@pytest.mark.parametrize(
    ("offered", "status", "body", "applies"),
    [
        ({"gzip"}, 200, b"{}", True),
        (set(), 200, b"{}", False),
        ({"gzip"}, 206, b"{}", False),
        ({"gzip"}, 200, b"", False),
    ],
)
def test_a_body_is_coded_only_if_the_client_offers_it_and_the_body_is_whole(
    offered: set[str], status: int, body: bytes, *, applies: bool
) -> None:
    response = replace(RESPONSE, offered=frozenset(offered), sent=replace(RESPONSE.sent, status=status, body=body))
    assert CODED_BODY.applies(CODED_BODY, response, CODED_BODY.complete({})) is applies


def test_a_response_to_head_has_no_other_framing() -> None:
    head = replace(RESPONSE, method="HEAD")
    for fault in (HEADER_CASE, FRAMED):
        assert fault.applies(fault, RESPONSE, fault.complete({}))
        assert not fault.applies(fault, head, fault.complete({}))
