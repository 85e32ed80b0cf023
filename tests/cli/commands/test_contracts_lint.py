"""`hobbyhorse contracts lint --fix`: folders of format 1 rewritten, and refused by every other command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import specimen
from tests.conftest import Run

OLD = specimen.DIRECTORY / "format-1" / "acme"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "old")
    shutil.copytree(specimen.FOLDER, tmp_path / "recent")
    api = tmp_path / "recent" / "openapi.json"
    api.write_text(api.read_text().replace("api.acme.example", "recent.acme.example"))
    return tmp_path


def test_only_folders_of_an_older_format_are_rewritten(directory: Path, run: Run) -> None:
    before = (directory / "recent" / "lifecycle.json").read_bytes()
    done = run("contracts", "lint", "--fix", directory)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"{directory / 'old'} rewritten",
        f"{directory / 'recent'} unchanged",
        "2 contracts without a problem",
    ]
    assert (directory / "recent" / "lifecycle.json").read_bytes() == before


def test_without_fix_an_older_format_is_a_problem_that_names_the_command(directory: Path, run: Run) -> None:
    done = run("contracts", "lint", directory)
    assert done.status == 1
    (line,) = done.out.splitlines()
    assert f"`hobbyhorse contracts lint --fix {directory / 'old'}`" in line


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["providers"], ["demo"], ["scenarios"], ["env", "old"]])
def test_other_commands_refuse_an_older_format_in_one_line(command: list[str], directory: Path, run: Run) -> None:
    shutil.rmtree(directory / "recent")
    done = run(*command, "--contracts", directory)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert f"has format 1; this version reads format 2: `hobbyhorse contracts lint --fix {directory / 'old'}`" in line


def test_a_folder_that_cannot_be_rewritten_is_one_line_and_unchanged(directory: Path, run: Run) -> None:
    path = directory / "old" / "lifecycle.json"
    path.write_text(path.read_text().replace('"operationId": "getHealth"', '"operationId": "getWealth"'))
    before = path.read_bytes()
    done = run("contracts", "lint", "--fix", directory)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "no operationId 'getWealth'" in line
    assert "is unchanged" in line
    assert path.read_bytes() == before


def test_the_contracts_of_the_package_are_not_rewritten(run: Run) -> None:
    done = run("contracts", "lint", "--fix")
    assert (done.status, done.out) == (2, "")
    assert "--fix needs DIR" in done.err
