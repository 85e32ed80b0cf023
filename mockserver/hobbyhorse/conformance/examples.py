"""The function of an example client that keeps a rule. Found by its name, so that no line number can become stale."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.rule import Rule
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.values import Contract

FOLDER = "examples/python"
# Begins the name of a function in a client with callbacks.
CALLBACKS = "callbacks."


@dataclass(frozen=True, slots=True)
class Example:
    """A function of an example client: its path in the repository, its name, its lines and its code.

    An installed package has no examples: there, `lines` is None and `code` is empty.
    """

    path: str
    function: str
    lines: tuple[int, int] | None = None
    code: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the example as JSON, without its code."""
        fields: dict[str, Any] = {"path": self.path, "function": self.function}
        return fields if self.lines is None else fields | {"lines": list(self.lines)}

    def __str__(self) -> str:
        """Return the example in one line, such as `examples/python/a.py:109-124 (submit)`."""
        where = self.path if self.lines is None else f"{self.path}:{self.lines[0]}-{self.lines[1]}"
        return f"{where} ({self.function})"


def example_for(rule: Rule, contract: Contract, root: Path | None = None) -> Example | None:
    """Return the function of the provider's example client that keeps a rule, or None.

    For a provider without an example client, return the same function of another client. `root` is the repository.
    """
    has_callbacks = rule.example is not None and rule.example.startswith(CALLBACKS)
    if rule.example is None or (has_callbacks and contract.callbacks is None):
        return None
    contracts = data_directory("contracts")
    root = root or contracts.parent
    ending = "_callbacks.py" if has_callbacks else ".py"
    function = rule.example.removeprefix(CALLBACKS)
    own = f"{contract.key}{ending}"
    if not (root / FOLDER).is_dir():
        # Each of the project's own contracts has an example client; a test checks that.
        return Example(f"{FOLDER}/{own}", function) if (contracts / contract.key).is_dir() else None
    for name in (own, *sorted(path.name for path in (root / FOLDER).glob(f"*{ending}"))):
        lines = _functions(root / FOLDER / name).get(function)
        if lines is not None:
            text = (root / FOLDER / name).read_text(encoding="utf-8").splitlines()
            return Example(f"{FOLDER}/{name}", function, lines, "\n".join(text[lines[0] - 1 : lines[1]]))
    return None


@cache
def _functions(path: Path) -> dict[str, tuple[int, int]]:
    """Return the first and last line of each function, class and method of a file; empty if there is no such file."""
    if not path.is_file():
        return {}
    found: dict[str, tuple[int, int]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = _lines(node)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{one.name}": _lines(one) for one in inner if isinstance(one, ast.FunctionDef)}
    return found


def _lines(node: ast.FunctionDef | ast.ClassDef) -> tuple[int, int]:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return first, node.end_lineno or node.lineno
