"""Variations of statuses and media types."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hobbyhorse.scenarios.effects import Rewritten, Sent
from hobbyhorse.scenarios.fault import Decided
from hobbyhorse.scenarios.faults.status import HEAD, STAMP, SUCCESS, TAGGED, WHOLE
from tests.conftest import CONTRACTS
from tests.deciding import NOW, decided, of_file, under


def test_head_is_refused_and_get_is_not() -> None:
    file = Decided(sent=Sent(200, (), b""), random=Random(0), now=NOW, method="HEAD")
    assert HEAD.applies(HEAD, file, {})
    assert not HEAD.applies(HEAD, replace(file, method="GET"), {})
    assert HEAD.effect(file, HEAD.complete({"status": 403})) == Sent(403, (), b"")


def test_a_server_that_ignores_ranges_announces_none() -> None:
    sent = Sent(200, ((b"accept-ranges", b"bytes"), (b"etag", b"x")), b"whole")
    file = Decided(sent=sent, random=Random(0), now=NOW)
    assert WHOLE.applies(WHOLE, file, {})
    assert WHOLE.effect(file, {}) == Sent(200, ((b"etag", b"x"),), b"whole")
    assert of_file("range_ignored").body == b"0123456789"


def test_json_has_another_media_type_or_none() -> None:
    response = decided(b"{}")
    assert dict(under("other_type", response, type="text/plain").headers) == {b"content-type": b"text/plain"}
    assert under("other_type", response, type="none").headers == ()
    assert dict(under("json_media_type", response).headers)[b"content-type"].startswith(b"application/json;")


def test_only_the_order_gets_another_status_of_success() -> None:
    order = decided(b"{}")
    assert under("order_status", order, ok_status=201).status == 201
    assert SUCCESS.applies(SUCCESS, order, {"ok_status": 201})
    assert not SUCCESS.applies(SUCCESS, order, {"ok_status": 200}), "it has this status already"
    poll = replace(order, operation=CONTRACTS[0].operations["status"])
    assert not SUCCESS.applies(SUCCESS, poll, {"ok_status": 201})


def test_a_signature_is_as_old_or_as_new_as_half_of_the_tolerance() -> None:
    found = [contract.callbacks for contract in CONTRACTS if contract.callbacks is not None]
    expiring = [one for one in found if one.signature is not None and one.signature.tolerance]
    assert expiring
    for callbacks in expiring:
        assert callbacks.signature is not None
        effects = [STAMP.effect(callbacks, {"older": older}) for older in (True, False)]
        assert all(isinstance(effect, Rewritten) for effect in effects)
        half = (callbacks.signature.tolerance or 0) / 2
        assert [effect.older for effect in effects] == [half, -half]


def test_a_poll_is_answered_with_304_only_if_its_response_is_known() -> None:
    poll = replace(decided(b'{"a":1}'), operation=CONTRACTS[0].operations["status"])
    first = under("entity_tag", poll)
    tag = dict(first.headers)[b"etag"].decode()
    assert (first.status, first.body) == (200, b'{"a":1}')
    for known in (tag, f'"x", W/{tag}'):
        again = under("entity_tag", replace(poll, known_tags=known))
        assert (again.status, again.body, dict(again.headers)[b"etag"].decode()) == (304, b"", tag)
    changed = replace(poll, sent=replace(poll.sent, body=b'{"a":2}'), known_tags=tag)
    assert under("entity_tag", changed).status == 200
    assert TAGGED.applies(TAGGED, poll, {})
    assert not TAGGED.applies(TAGGED, decided(b"{}"), {}), "a submission is not repeated"
    assert not TAGGED.applies(TAGGED, replace(poll, sent=replace(poll.sent, status=404)), {})


def test_only_polls_have_room_for_an_entity_tag() -> None:
    for contract in CONTRACTS:
        assert list(TAGGED.misfits(TAGGED, contract, contract.operations["submit"], {}))
        assert not list(TAGGED.misfits(TAGGED, contract, contract.operations["status"], {}))
