"""House rules that ruff does not know: reasons for numbers, a test file for each module, few imports in functions."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "mockserver" / "hobbyhorse"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" and path.parent != PACKAGE)
MOST_LATE_IMPORTS = 16
LEAST_COMMENTS = 0.03
"""The share of code lines that carry a comment."""

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def comments(path: Path) -> dict[int, str]:
    """Return the comments of a file by line; directives to tools are not comments."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    found = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    return {line: text for line, text in found.items() if not re.fullmatch(r"# (noqa|type): ?[\w, \[\]-]*", text)}


def is_number(node: ast.expr | None) -> bool:
    """Whether an expression is a number, arithmetic of numbers, or a tuple of them."""
    match node:
        case ast.Constant(value):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ast.BinOp(left=left, right=right):
            return is_number(left) and is_number(right)
        case ast.UnaryOp(operand=operand):
            return is_number(operand)
        case ast.Tuple(elts=elements):
            return bool(elements) and all(map(is_number, elements))
    return False


def numbers(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the name, first and last line of each module-level constant that is a number."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_number(node.value):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield ast.unparse(target), node.lineno, node.end_lineno or node.lineno


@each_module
def test_each_module_level_number_has_its_reason_in_a_comment(path: Path) -> None:
    said = comments(path)
    silent = [
        f"{path}:{first}: {name}"
        for name, first, last in numbers(path)
        if first - 1 not in said and not said.keys() & set(range(first, last + 1))
    ]
    assert silent == []


@each_module
def test_each_module_has_a_test_file_of_its_name(path: Path) -> None:
    name = path.relative_to(PACKAGE)
    assert (ROOT / "tests" / name.parent / f"test_{name.name}").is_file()


def late_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line of each import inside a function, and the text of that line."""
    lines = path.read_text().splitlines()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield node.lineno, lines[node.lineno - 1]


def test_few_imports_stand_inside_functions_each_with_its_measured_reason() -> None:
    found = {(path, *late) for path in PACKAGE.rglob("*.py") for late in late_imports(path)}
    assert len(found) <= MOST_LATE_IMPORTS, "\n".join(f"{path}:{line}: {text.strip()}" for path, line, text in found)
    unexplained = [one for one in found if not re.search(r"# noqa: PLC0415 - .*\d ms\b", one[2])]
    assert unexplained == []


def test_a_share_of_the_code_lines_is_comments() -> None:
    code = comment = 0
    for path in PACKAGE.rglob("*.py"):
        tokens = list(tokenize.generate_tokens(io.StringIO(path.read_text()).readline))
        skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
        code += len({token.start[0] for token in tokens if token.type not in skipped})
        comment += len(comments(path))
    assert comment >= LEAST_COMMENTS * code, f"{comment} comments on {code} lines of code"


@pytest.mark.parametrize(
    ("code", "is_silent"),
    [
        ("A = 3\n", True),
        ("A = 3  # the documented bound\n", False),
        ("# The documented bound.\nA = 3\n", False),
        ("A = (1.5, -2 * 60)\n", True),
        ("A: int = 1 << 20\n", True),
        ("A = 3  # noqa: E501\n", True),
        ("A = True\nB = 'three'\nC = len('three')\n", False),
    ],
)
def test_a_number_without_a_reason_is_seen(code: str, is_silent: bool, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(code)
    if is_silent:
        with pytest.raises(AssertionError):
            test_each_module_level_number_has_its_reason_in_a_comment(path)
    else:
        test_each_module_level_number_has_its_reason_in_a_comment(path)
