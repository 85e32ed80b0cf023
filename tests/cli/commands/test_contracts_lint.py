"""`hobbyhorse contracts lint`: each problem with its file and place; `--fix` rewrites folders of format 1."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.contract.values import Contract
from tests import specimen
from tests.cli.contract_copies import copy, edit
from tests.conftest import CONTRACTS, Run

OLD = specimen.DIRECTORY / "format-1" / "acme"


def test_the_projects_contracts_have_no_problems(run: Run) -> None:
    done = run("contracts", "lint")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{len(CONTRACTS)} contracts without problems\n"


MISTAKES: dict[str, tuple[str, Callable[[Any], None], list[str]]] = {
    "an unreachable stage": (
        "lifecycle.json",
        lambda found: found["stages"].update({"lost": {"class": "failure", "next": []}}),
        ["lifecycle.json#/stages/lost"],
    ),
    "a keyword that contracts do not use": (
        "openapi.json",
        lambda found: found["components"]["schemas"].update({"Odd": {"not": {}}}),
        ["openapi.json#/components/schemas/Odd/not", "'not'"],
    ),
    "an assumption about nothing": (
        "lifecycle.json",
        lambda found: found["assumptions"].update({"unused": "No place is marked with it."}),
        ["lifecycle.json#/assumptions/unused"],
    ),
    "an empty file": ("lifecycle.json", lambda found: found.clear(), ["lifecycle.json", "required"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_problem_is_a_line_with_its_file_and_place(name: str, contract: Contract, tmp_path: Path, run: Run) -> None:
    file, change, words = MISTAKES[name]
    edit(copy(contract, tmp_path) / file, change)
    done = run("contracts", "lint", tmp_path)
    assert (done.status, done.err) == (1, "")
    line = next(line for line in done.out.splitlines() if words[0] in line)
    assert str(tmp_path / contract.key) in line
    assert all(word in line for word in words)


def test_the_problems_of_every_folder_are_printed(tmp_path: Path, run: Run) -> None:
    for contract in CONTRACTS:
        (copy(contract, tmp_path) / "lifecycle.json").write_text("{")
    done = run("contracts", "lint", tmp_path)
    assert done.status == 1
    assert all("lifecycle.json" in line for line in done.out.splitlines())
    assert all(contract.key in done.out for contract in CONTRACTS)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_directory_without_contracts_is_a_problem(name: str, tmp_path: Path, run: Run) -> None:
    done = run("contracts", "lint", tmp_path / name)
    assert (done.status, done.err) == (1, "")
    assert str(tmp_path / name) in done.out


# ---- an older format


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
        "2 contracts without problems",
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
