"""Templates escape every value, miss none, and are part of the package."""

from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError

from hobbyhorse.server.ui.templating import ASSETS, FOLDER, asset, render
from hobbyhorse.traces.timeline import PALETTE


def test_values_are_escaped() -> None:
    found = render("problem.html", {"message": "<script>", "hint": "\"'&"})
    assert "&lt;script&gt;" in found
    assert "&#34;&#39;&amp;" in found


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("problem.html", {})


def test_the_style_has_the_palette_of_the_time_lines() -> None:
    assert asset("page.css").startswith(PALETTE.encode())
    assert {path.name for path in (FOLDER / "assets").iterdir()} == set(ASSETS)


def test_no_template_needs_what_the_policy_forbids() -> None:
    for path in (FOLDER / "templates").iterdir():
        text = path.read_text()
        assert not re.search(r'\sstyle="|\son[a-z]+="|<style|javascript:|\|\s*safe|https?://', text), path
        assert not re.search(r"<script(?! src=)", text), path
