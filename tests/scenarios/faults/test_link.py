"""Faults of URLs: each changes the URLs of its kind and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson
import pytest

from hobbyhorse.contract.forms.expressions import MISSING, resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.faults.link import elsewhere_at
from hobbyhorse.scenarios.fields import Urls, has_field, places
from tests.conftest import CONTRACTS
from tests.deciding import decided, under
from tests.known_faults import OPERATION_FAULTS
from tests.scenarios.json_values import leaves

URLS: dict[str, Callable[[str, str], object]] = {
    "opaque_links": lambda old, new: re.fullmatch(re.escape(old) + r"[?&]ticket=[0-9a-f]{16}", new),
    "foreign_links": lambda old, new: new == "http://foreign.invalid/" + old.split("/", 3)[3],
    "port_links": lambda old, new: new == "http://127.0.0.1:9/" + old.split("/", 3)[3],
    "odd_links": lambda old, new: new == f"{old}{'&' if '?' in old else '?'}mark=a%2Bb%3Dc%26d%25e%23f%20g",
    "encoded_links": lambda old, new: new == f"{old}{'&' if '?' in old else '?'}place=a%2Fb%3Ac",
    "private_links": lambda old, new: new == "http://169.254.169.254/latest/meta-data",
}


def test_every_fault_of_urls_has_its_expectation() -> None:
    assert URLS.keys() == {name for name, fault in OPERATION_FAULTS.items() if isinstance(fault.needs, Urls)}


@pytest.mark.parametrize("name", sorted(URLS))
def test_a_fault_of_urls_changes_urls_and_nothing_else(name: str, contract: Contract) -> None:
    needs = OPERATION_FAULTS[name].needs
    assert needs is not None
    for operation in contract.operations.values():
        for situation in operation.situations.values():
            body = situation.template.write(lambda name: MISSING)
            before, after = orjson.loads(body), orjson.loads(under(name, decided(body, operation)).body)
            there = [place for place in places(needs, {}, operation) if isinstance(resolve(before, place), str)]
            assert has_field(needs, {}, operation, body) == bool(there) == (after != before)
            assert all(resolve(after, place) == resolve(before, place) for place in {*leaves(before)} - {*there})
            assert all(URLS[name](resolve(before, place), resolve(after, place)) for place in there)


@pytest.mark.parametrize(
    ("old", "new"),
    [("https://a:1/b//c?d=e%20f", "http://other:2/b//c?d=e%20f"), ("not an address", "http://other:2not an address")],
)
def test_path_and_query_move_to_another_origin_byte_for_byte(old: str, new: str) -> None:
    assert elsewhere_at("http://other:2/", old) == new


def test_urls_are_moved_to_the_configured_origins() -> None:
    origins = {"foreign": "http://other:2/", "port": "http://here:3", "private": "http://10.0.0.1"}
    for role, name, start in (
        ("status", "foreign_links", "http://other:2/"),
        ("status", "port_links", "http://here:3/"),
        ("status", "private_links", "http://10.0.0.1/latest/meta-data"),
    ):
        moved = []
        for operation in [one.operations[role] for one in CONTRACTS]:
            for situation in operation.situations.values():
                body = situation.template.write(lambda name: MISSING)
                needs = OPERATION_FAULTS[name].needs
                assert needs is not None
                after = orjson.loads(under(name, decided(body, operation, origins=origins)).body)
                moved += [resolve(after, place) for place in places(needs, {}, operation)]
        found = [url for url in moved if isinstance(url, str)]
        assert found
        assert all(url.startswith(start) for url in found)
