"""Checks of callbacks: their situations, places and signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from hobbyhorse.contract.checks.callbacks import fields
from tests.contract.broken_folders import Broken, assert_found, broken_in


@broken_in("callbacks")
def test_each_mistake_is_found_at_its_place_and_nothing_else_is(broken: Broken, tmp_path: Path) -> None:
    assert_found(broken, tmp_path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("t={timestamp},v1={signature}", ["timestamp", "signature"]),
        ("{{signature}}", []),
        ("{id!r}", ["id"]),
        ("{id:>3}", ["id:>3"]),
        ("{", ["{"]),
    ],
)
def test_the_names_in_braces_are_found(text: str, names: list[str]) -> None:
    assert fields(text) == names
