"""A contract under lint, and the problems found in it. Knows no rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hobbyhorse.contract.documents.marks import Mark
from hobbyhorse.contract.documents.operations import LIFECYCLE
from hobbyhorse.contract.forms.expressions import Pointer, format_pointer
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Contract, Operation, Situation


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: the file, the place in the file, and a message."""

    path: Path
    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}#{self.pointer}: {self.message}" if self.pointer else f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Documents:
    """The files of a folder by name, not yet read as a contract, and the marks that were removed from them."""

    folder: Path
    files: Mapping[str, Any]
    marks: tuple[Mark, ...] = ()
    malformed: tuple[tuple[str, Pointer], ...] = ()

    def problem(self, message: str, *steps: str | int, file: str = LIFECYCLE) -> Problem:
        """Return a problem at a place of a file."""
        return Problem(self.folder / file, format_pointer(tuple(map(str, steps))), message)


@dataclass(frozen=True, slots=True)
class Subject:
    """A contract with or without a variant. `family` lists the base contract first, then each variant."""

    documents: Documents
    contract: Contract
    family: tuple[Contract, ...]

    @property
    def schemas(self) -> Schemas:
        """The contract's schemas."""
        return self.contract.schemas

    @property
    def lifecycle(self) -> Any:
        """The completed lifecycle.json, with the variant applied."""
        return self.schemas.document(LIFECYCLE)

    def problem(self, message: str, *steps: str | int, file: str = LIFECYCLE) -> Problem:
        """Return a problem at a place of a file."""
        return self.documents.problem(message, *steps, file=file)

    def binding_at(self, role: str, name: str) -> Pointer:
        """Return the place of an operation's binding: its own, or the common one."""
        # A problem's place should be the line to edit.
        own = self.lifecycle["operations"][role].get("bindings", {})
        return ("operations", role, "bindings", name) if name in own else ("bindings", name)

    def situation_at(self, role: str, name: str) -> Pointer:
        """Return the place of an operation's situation: its own, or the common one."""
        own = self.lifecycle["operations"][role]["situations"]
        return ("operations", role, "situations", name) if name in own else ("situations", name)

    def example(self, situation: Situation) -> Any:
        """Return the example of a situation."""
        return self.schemas.at(situation.example_at)

    def examples(self, role: str) -> list[Any]:
        """Return the examples of an operation's situations."""
        return [self.example(situation) for situation in self.contract.operations[role].situations.values()]

    def family_examples(self, role: str) -> list[Any]:
        """Return the examples of an operation's situations in the contract and in every variant."""
        return [
            self.example(situation)
            for contract in self.family
            for situation in contract.operations[role].situations.values()
        ]


DocumentCheck = Callable[[Documents], Iterator[Problem]]
ContractCheck = Callable[[Subject], Iterator[Problem]]


def ordering(subject: Subject) -> list[Operation]:
    """Return the operations that submit a job."""
    operations = subject.contract.operations
    return [operations[role] for role in ("submit", "run") if role in operations]
