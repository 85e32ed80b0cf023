"""The layout of a contract's files, and their replacement as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.authoring.layout import WIDTH, laid_out, write_all
from tests import specimen
from tests.conftest import CONTRACTS, DIRECTORY

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=40,
)


@given(value=JSON)
def test_what_is_laid_out_is_the_same_value(value: object) -> None:
    assert json.loads(laid_out(value)) == value


def test_what_fits_stands_in_a_line_and_what_does_not_has_a_line_for_each_member() -> None:
    short, long = {"a": [1, {"b": None}]}, {"a": "x" * WIDTH, "b": [1, 2]}
    assert laid_out(short) == '{"a": [1, {"b": null}]}\n'
    assert laid_out(long) == '{\n  "a": "' + "x" * WIDTH + '",\n  "b": [1, 2]\n}\n'


def test_no_line_that_can_be_broken_is_too_long() -> None:
    value = {"member": [{"name": "n" * 20, "in": "query", "schema": {"type": "string"}} for _ in range(9)]}
    assert max(map(len, laid_out(value).splitlines())) <= WIDTH


def test_letters_stay_as_they_are() -> None:
    assert laid_out({"é": "…"}) == '{"é": "…"}\n'


def test_the_contracts_have_this_layout() -> None:
    for folder in (specimen.FOLDER, *(DIRECTORY / contract.key for contract in CONTRACTS)):
        for name in ("openapi.json", "lifecycle.json"):
            text = (folder / name).read_text()
            assert laid_out(json.loads(text)) == text, f"{folder.name}/{name}"


def test_files_are_written_with_their_folders_and_keep_their_mode(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    (tmp_path / "a.json").chmod(0o600)
    write_all(tmp_path, {"a.json": "new", "models/b.json": "b"})
    assert (tmp_path / "a.json").read_text() == "new"
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "models" / "b.json").read_text() == "b"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "b.json", "models"]


def test_a_failure_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    (tmp_path / "models").write_text("in the way of a folder")
    with pytest.raises(OSError, match="models"):
        write_all(tmp_path, {"a.json": "new", "models/b.json": "b"})
    assert (tmp_path / "a.json").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "models"]
