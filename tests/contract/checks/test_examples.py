"""Checks of examples, and of the servers and keys of openapi.json."""

from __future__ import annotations

from pathlib import Path

from tests.contract.broken_folders import Broken, assert_found, broken_in


@broken_in("examples")
def test_each_mistake_is_found_at_its_place_and_nothing_else_is(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)
