"""The faults of a body: each changes what its name says, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.forms.expressions import MISSING, resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.distort import (
    ADDRESSES,
    BODIES,
    EXTRA_FIELD,
    FIELDS,
    MEDIA_BODIES,
    Sent,
    distort,
    has_field,
    places,
    redirection,
    retry_after,
)
from hobbyhorse.scenarios.moves import MEDIA_MOVES, MOVES
from hobbyhorse.scenarios.scenario import Move
from tests.conftest import CONTRACTS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('abé"\\{}', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), JSON, max_size=4)
SUBMIT = CONTRACTS[0].operations["submit"]


def changed(kind: str, body: bytes, seed: int = 0, **options: Any) -> Sent:
    sent = Sent(200, ((b"content-type", b"application/json"),), body)
    return distort(Move(kind, options=options), sent, SUBMIT, Random(seed))


def without_extra(value: Any) -> Any:
    if isinstance(value, list):
        return [without_extra(item) for item in value]
    if isinstance(value, dict):
        return {name: without_extra(item) for name, item in value.items() if name != EXTRA_FIELD}
    return value


def orders(value: Any) -> list[list[str]]:
    if isinstance(value, list):
        return [order for item in value for order in orders(item)]
    if isinstance(value, dict):
        return [list(value), *(order for item in value.values() for order in orders(item))]
    return []


@given(OBJECTS, st.integers(0, 9))
def test_malformed_json_is_the_beginning_of_the_response_and_never_valid(value: Any, seed: int) -> None:
    body = orjson.dumps(value)
    broken = changed("malformed_json", body, seed).body
    assert broken
    assert body.startswith(broken)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(broken)


@given(OBJECTS)
def test_an_extra_field_is_added_to_every_object_and_nothing_else_changes(value: Any) -> None:
    found = orjson.loads(changed("extra_field", orjson.dumps(value)).body)
    assert without_extra(found) == value
    assert all(EXTRA_FIELD in order for order in orders(found))


@given(OBJECTS)
def test_reordered_fields_are_the_same_fields_in_reverse(value: Any) -> None:
    found = orjson.loads(changed("reordered", orjson.dumps(value)).body)
    assert found == value
    assert sorted(map(tuple, orders(found))) == sorted(tuple(reversed(order)) for order in orders(value))


def test_a_field_fault_changes_its_field_and_nothing_else(contract: Contract) -> None:
    for operation in contract.operations.values():
        for situation in operation.situations.values():
            body = situation.template.write(lambda name: MISSING)
            for name, binding in operation.bindings.items():
                for kind in sorted(set(FIELDS) - {"unknown_status"}):
                    move = Move(kind, options={"value": name})
                    sent = distort(move, Sent(200, (), body), operation, Random(0))
                    before, after = orjson.loads(body), orjson.loads(sent.body)
                    if not has_field(move, operation, body):
                        assert after == before
                        continue
                    pointers = [place.pointer for place in binding.response if place.part == "body"]
                    assert pointers == places(move, operation)
                    there = [pointer for pointer in pointers if resolve(before, pointer) is not MISSING]
                    for pointer in there:
                        old, new = resolve(before, pointer), resolve(after, pointer)
                        if kind == "null_field":
                            assert new is None
                        elif kind == "empty_field":
                            assert new == ""
                        elif kind == "wrong_type":
                            assert type(new) is not type(old)
                        else:
                            assert new is MISSING or new != old  # the next item of a list moves up
                    others = {place for place in leaves(before) if not any(place[: len(p)] == p for p in there)}
                    if kind != "missing_field":
                        assert all(resolve(after, place) == resolve(before, place) for place in others)


@pytest.mark.parametrize("kind", sorted(ADDRESSES))
def test_an_address_fault_changes_urls_and_nothing_else(kind: str, contract: Contract) -> None:
    move = Move(kind)
    for operation in contract.operations.values():
        for situation in operation.situations.values():
            body = situation.template.write(lambda name: MISSING)
            before = orjson.loads(body)
            after = orjson.loads(distort(move, Sent(200, (), body), operation, Random(0)).body)
            pointers = places(move, operation)
            there = [pointer for pointer in pointers if isinstance(resolve(before, pointer), str)]
            assert has_field(move, operation, body) == bool(there) == (after != before)
            assert all(resolve(after, place) == resolve(before, place) for place in {*leaves(before)} - {*there})
            for pointer in there:
                assert URLS[kind](resolve(before, pointer), resolve(after, pointer))


URLS: dict[str, Callable[[str, str], object]] = {
    "opaque_links": lambda old, new: re.fullmatch(re.escape(old) + r"[?&]ticket=[0-9a-f]{16}", new),
    "foreign_links": lambda old, new: new == "http://foreign.invalid/" + old.split("/", 3)[3],
    "private_links": lambda old, new: new == "http://169.254.169.254/latest/meta-data",
}


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("opaque_links", "http://a/b?c=d", r"http://a/b\?c=d&ticket=[0-9a-f]{16}"),
        ("opaque_links", "http://a/b", r"http://a/b\?ticket=[0-9a-f]{16}"),
        ("foreign_links", "https://a:1/b//c?d=e%20f", r"http://other:2/b//c\?d=e%20f"),
        ("foreign_links", "not an address", r"http://other:2not an address"),
        ("private_links", "https://a/b?c", r"http://10\.0\.0\.1/latest/meta-data"),
    ],
)
def test_urls_are_moved_to_the_configured_origins(kind: str, old: str, new: str) -> None:
    elsewhere = {"foreign": "http://other:2/", "private": "http://10.0.0.1"}
    assert re.fullmatch(new, ADDRESSES[kind](old, Random(0), elsewhere))


def test_a_redirect_keeps_path_and_query_byte_for_byte() -> None:
    sent = redirection("/a/v1/jobs/x%20y?page=2&q=%C3%A4", {"foreign": "http://other:2"})
    assert (sent.status, sent.body) == (307, b"")
    assert sent.headers == ((b"location", b"http://other:2/a/v1/jobs/x%20y?page=2&q=%C3%A4"),)
    assert redirection("/a", {}).headers == ((b"location", b"http://foreign.invalid/a"),)
    assert redirection("//other/a", {}).headers == ((b"location", b"http://foreign.invalid//other/a"),)


def leaves(value: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, (*at, name))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*at, str(index)))]
    return [at]


def test_pages_and_empty_bodies_have_their_status_and_type() -> None:
    page = changed("html_page", b"{}", status=502)
    assert (page.status, dict(page.headers)[b"content-type"]) == (502, b"text/html; charset=utf-8")
    assert page.body.startswith(b"<!DOCTYPE html>")
    assert changed("html_page", b"{}").status == 200
    assert (changed("empty_body", b"{}", status=204).status, changed("empty_body", b"{}").body) == (204, b"")


def test_retry_after_is_a_number_or_a_date_and_replaces_an_existing_one() -> None:
    sent = Sent(429, ((b"retry-after", b"1"), (b"x", b"y")), b"")
    assert retry_after(sent, {}, 0.0) == sent
    assert retry_after(sent, {"retry_after": 7}, 0.0).headers == ((b"x", b"y"), (b"retry-after", b"7"))
    date = dict(retry_after(sent, {"retry_after_date": 90}, 1_000_000.0).headers)[b"retry-after"].decode()
    assert parsedate_to_datetime(date).timestamp() == 1_000_090


def test_every_fault_of_a_body_or_field_has_its_function() -> None:
    assert {name for name, kind in MOVES.items() if kind.family == "field"} == {*FIELDS, "regress"}
    assert {name for name, kind in MOVES.items() if kind.family == "address"} == ADDRESSES.keys()
    assert all(bool(kind.names) == (kind.family == "address") for kind in MOVES.values())
    assert {name for name, kind in MOVES.items() if kind.family == "body"} == {*BODIES, "error_envelope"}
    refusals = {"expired", "not_found", "unavailable", "truncated"}
    assert {name for name, kind in MEDIA_MOVES.items() if kind.family == "media"} == {*MEDIA_BODIES, *refusals}
