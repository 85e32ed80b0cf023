"""Writes the files that are derived from the faults: `python -m tests.scenario_reference`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hobbyhorse.scenarios import reference
from tests.conftest import ROOT

SCHEMA, PAGE = ROOT / "fixtures" / "scenario.schema.json", ROOT / "docs" / "scenarios.md"


def derived() -> Mapping[Path, str]:
    """Return the derived files with their contents."""
    return {SCHEMA: reference.rendered(reference.schema()) + "\n", PAGE: reference.page(PAGE.read_text())}


if __name__ == "__main__":
    for path, text in derived().items():
        path.write_text(text)
