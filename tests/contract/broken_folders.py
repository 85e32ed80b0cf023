"""Folders that are wrong in one way, found by listing contract_folders/broken, for the tests of lint's checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.contract.checks.subject import Problem
from hobbyhorse.contract.lint import lint
from tests import specimen


@dataclass(frozen=True)
class Broken:
    """A folder that is wrong in one way: what is changed in the specimen, and what lint says of which place."""

    file: str
    name: str
    at: str
    says: str
    wrong: dict[str, Any]

    @property
    def folder(self) -> str:
        """The folder's name."""
        return str(self.wrong.get("folder", specimen.FOLDER.name))

    def documents(self) -> dict[str, Any]:
        """Return the folder's documents."""
        start = specimen.shortened if self.wrong.get("short") else specimen.edited
        return start(self.wrong.get("set", {}), self.wrong.get("remove", ()))

    def write(self, directory: Path) -> Path:
        """Write the folder: its documents, then what is no document, or is none any more."""
        folder = specimen.write(directory / self.folder, self.documents())
        for name, (old, new) in self.wrong.get("replace", {}).items():
            (folder / name).write_text((folder / name).read_text().replace(old, new, 1))
        for name, text in self.wrong.get("files", {}).items():
            if text is None:
                (folder / name).unlink()
            else:
                (folder / name).write_text(text)
        return folder


def all_broken() -> Iterator[Broken]:
    for path in sorted((specimen.DIRECTORY / "broken").glob("*.json")):
        for wrong in json.loads(path.read_text()):
            yield Broken(path.stem, wrong["name"], wrong["at"], wrong["says"], wrong)


BROKEN = list(all_broken())


def place(problem: Problem, folder: Path) -> str:
    """Return where a problem is: the file in the folder, and the pointer if there is one."""
    file = problem.path.relative_to(folder).as_posix().removeprefix(".")
    return f"{file}#{problem.pointer}" if problem.pointer else file


def broken_in(*files: str) -> pytest.MarkDecorator:
    """Parametrize a test over the broken folders of some files."""
    found = [broken for broken in BROKEN if broken.file in files]
    assert {broken.file for broken in found} == set(files)
    return pytest.mark.parametrize("broken", found, ids=lambda broken: broken.name)


def assert_found(broken: Broken, directory: Path) -> None:
    """Assert that lint reports what is wrong, at its place, in one line, and nothing else."""
    folder = broken.write(directory)
    problems = lint(folder)
    assert [place(problem, folder) for problem in problems] == [broken.at], "\n".join(map(str, problems))
    assert broken.says in problems[0].message
    assert len(str(problems[0]).splitlines()) == 1
