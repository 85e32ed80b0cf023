"""The table of faults: complete, consistent, and the same as the tables of docs/scenarios.md."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson
import pytest

from hobbyhorse.scenarios.moves import (
    CALLBACK,
    CALLBACK_MOVES,
    MEDIA,
    MEDIA_MOVES,
    MOVES,
    SITUATION,
    TIMELINE,
    Kind,
    kinds,
)
from tests.conftest import ROOT

SCHEMA = orjson.loads((ROOT / "fixtures" / "scenario.schema.json").read_bytes())
PAGE = (ROOT / "docs" / "scenarios.md").read_text()
TABLES: tuple[Mapping[str, Kind], ...] = (MOVES, MEDIA_MOVES, CALLBACK_MOVES, TIMELINE, {"": SITUATION})


def test_each_role_has_its_own_faults() -> None:
    assert kinds(MEDIA) is MEDIA_MOVES
    assert kinds(CALLBACK) is CALLBACK_MOVES
    assert kinds("submit") is kinds("anything else") is MOVES


def test_a_file_can_have_every_transport_fault_but_the_one_that_needs_an_effect() -> None:
    transport = {name for name, kind in MOVES.items() if kind.family == "transport"}
    assert transport - MEDIA_MOVES.keys() == {"accept_then_drop"}


def test_each_fault_has_an_effect_in_one_clause_and_known_options() -> None:
    known = {name for part in ("move", "timeline") for name in SCHEMA["$defs"][part]["properties"]}
    for found in TABLES:
        for name, kind in found.items():
            assert re.fullmatch(r"[a-z][^.!?]*", kind.effect), name
            assert set(kind.options) <= known, name


def table(title: str) -> dict[str, str]:
    """Return the rows of the page's table under a heading: first cell, last cell."""
    rows = re.findall(r"^\| `?([^`|]+?)`? \|.*\|([^|]*)\|$", PAGE.split(f"### {title}\n", 1)[1].split("\n#")[0], re.M)
    return {name: last.strip() for name, last in rows[1:]}


@pytest.mark.parametrize(
    ("title", "documented"),
    [
        ("On an operation", {"any situation": SITUATION, **MOVES}),
        ("On the file", MEDIA_MOVES),
        ("On the callback", CALLBACK_MOVES),
        ("The timeline", TIMELINE),
    ],
)
def test_the_page_has_every_fault_with_its_options_and_no_other(title: str, documented: Mapping[str, Kind]) -> None:
    found = {name: tuple(re.findall(r"`([^`]+)`", options)) for name, options in table(title).items()}
    assert found == {name: kind.options for name, kind in documented.items()}


def test_the_page_has_every_option_and_no_other() -> None:
    taken = {option for found in TABLES for kind in found.values() for option in kind.options} | {"times"}
    assert set(table("The options")) == taken
    assert all(table("The options").values())
    allowed = {name for part in ("move", "timeline") for name in SCHEMA["$defs"][part]["properties"]} - {"move"}
    assert allowed == taken
