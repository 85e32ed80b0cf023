"""Checks of the names of values and of their formats."""

from __future__ import annotations

from pathlib import Path

from hobbyhorse.contract.checks.subject import Documents, Subject
from hobbyhorse.contract.checks.values import every_binding
from hobbyhorse.contract.folder import build
from tests import specimen
from tests.contract.broken_folders import Broken, assert_found, broken_in


@broken_in("values")
def test_each_mistake_is_found_at_its_place_and_nothing_else_is(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)


def test_every_binding_is_found_once_with_its_place() -> None:
    documents = specimen.whole(specimen.FOLDER)
    contract = build(specimen.FOLDER, documents)
    found = [at for at, _ in every_binding(Subject(Documents(specimen.FOLDER, documents), contract, (contract,)))]
    assert len(found) == len(set(found))
    for place in (
        ("bindings", "error_code"),
        ("operations", "status", "bindings", "stage"),
        ("operations", "list", "items", "bindings", "cost"),
        ("callbacks", "bindings", "video_url"),
    ):
        assert place in found
