"""`hobbyhorse contracts lint`: each problem with its file and place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.contract.values import Contract
from tests.cli.contract_copies import copy, edit
from tests.conftest import CONTRACTS, Run


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
