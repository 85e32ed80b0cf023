"""Mutants of the package's source: all of them, and a seeded sample. Runs no test.

Cosmic Ray provides the operators and applies them. Its own runner is not used: it starts the whole test suite for each
mutant, which takes minutes, and keeps its results by position, so that every edit of a file throws them away.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mockserver" / "hobbyhorse"
FOLDERS = ("contract", "scenarios", "worlds", "conformance")
# Operators with arguments, arithmetic that this code does not use, and identity comparisons about which Python warns.
LEFT_OUT = ("Variable", "BitAnd", "BitXor", "LShift", "RShift", "Pow")
IDENTITY = ("Is", "IsNot")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change in one place. `key` does not change as long as the enclosing definition does not change."""

    path: str
    line: int
    operator: str
    occurrence: int
    key: str

    @property
    def stratum(self) -> tuple[str, str]:
        """The folder and the family of the operator: each is sampled separately."""
        return self.path.split("/")[2], self.operator.removeprefix("core/").split("_")[0]

    def source(self) -> str:
        """Return the mutated source of the module. Raises LookupError if the module has changed."""
        code = mutate_code((ROOT / self.path).read_text(), get_operator(self.operator)(), self.occurrence)
        if code is None:
            raise LookupError(f"{self} does not fit its file any more")
        return str(code)


def is_used(operator: str) -> bool:
    """Whether an operator makes mutants that are meaningful for this code."""
    if any(word in operator for word in LEFT_OUT):
        return False
    _, _, words = operator.partition("ReplaceComparisonOperator_")
    before, _, after = words.partition("_")
    return (before in IDENTITY) == (after in IDENTITY)


def annotation_spans(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the spans of annotations, in which a change does not affect the program, because they never run."""
    found = (getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns"))
    return [
        ((one.lineno, one.col_offset), (one.end_lineno or one.lineno, one.end_col_offset or 0))
        for one in found
        if isinstance(one, ast.expr)
    ]


def definitions(tree: ast.Module, source: str) -> list[tuple[int, int, str]]:
    """Return the first line, last line and text of each top-level statement."""
    return [
        (node.lineno, node.end_lineno or node.lineno, ast.get_source_segment(source, node) or "") for node in tree.body
    ]


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    source, name = path.read_text(), path.relative_to(ROOT).as_posix()
    parsed = ast.parse(source)
    tree, never_run, texts = get_ast(source), annotation_spans(parsed), definitions(parsed, source)
    ordinals: dict[tuple[str, str], int] = defaultdict(int)
    for operator in filter(is_used, sorted(operator_names())):
        for occurrence, place in enumerate(positions(tree, operator)):
            if any(first <= place <= last for first, last in never_run):
                continue
            text = next((text for first, last, text in texts if first <= place[0] <= last), "")
            ordinals[text, operator] += 1
            parts = "\0".join((name, text, operator, str(ordinals[text, operator])))
            yield Mutant(name, place[0], operator, occurrence, hashlib.sha256(parts.encode()).hexdigest()[:16])


def positions(tree: object, operator: str) -> Iterator[tuple[int, int]]:
    """Yield the line and column of each occurrence of an operator, in the order in which Cosmic Ray counts them."""
    instance = get_operator(operator)()
    for node in ast_nodes(tree):
        for start, _ in instance.mutation_positions(node):
            yield start


def all_mutants() -> list[Mutant]:
    """Return every mutant of the folders under test."""
    paths = sorted(path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py"))
    return [mutant for path in paths for mutant in mutants_of(path)]


def sample(mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """Return about `count` mutants: from each stratum its share, but at least one.

    The order inside a stratum depends on the seed and the mutants' keys, so an edit changes the sample only by the
    mutants of the edited definition.
    """
    strata: dict[tuple[str, str], list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        strata[mutant.stratum].append(mutant)
    total = sum(map(len, strata.values()))
    found: list[Mutant] = []
    for stratum in sorted(strata):
        ordered = sorted(strata[stratum], key=lambda one: hashlib.sha256(f"{seed}:{one.key}".encode()).digest())
        found += ordered[: max(1, round(count * len(ordered) / total))]
    Random(seed).shuffle(found)
    return found
