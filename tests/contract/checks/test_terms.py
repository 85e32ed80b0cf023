"""Checks of times, ids, keys, assumptions, variants and clients."""

from __future__ import annotations

from pathlib import Path

from tests.contract.broken_folders import Broken, assert_found, broken_in


@broken_in("terms", "marks")
def test_each_mistake_is_found_at_its_place_and_nothing_else_is(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)
