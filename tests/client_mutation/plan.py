"""The mutants of correct clients: changes by Cosmic Ray, other numbers, and statements and keywords left out.

Runs no client.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.mutation.plan import ROOT, Mutant, definitions, mutants_of

# The statements that do something, beside calls. Imports and definitions would only make a client fail at once.
DOES = (ast.Assign, ast.AugAssign, ast.Raise, ast.Return, ast.Continue, ast.Break)
# Arithmetic is left out: each of its operators has a dozen replacements, which are hardly ever somebody's mistake.
# Cosmic Ray's other numbers are one more and one less: 11 seconds instead of 10 are as right.
LEFT_OUT = ("ReplaceBinaryOperator", "NumberReplacer")
# From this number on, for fractions and for numbers that scale, another one is a hundred times as large or as small: a
# sixth try, or a pause that grows by three instead of two, is as right.
LARGE, FACTOR = 10, 100
# A number scales as a factor, a divisor, a base or an exponent, as a bound of a random number, and in a setting, whose
# name is in capitals. The others count: an index, a size, a status.
SCALES, DRAWS = (ast.Mult, ast.Div, ast.Pow), ("uniform", "randint", "randrange", "triangular")
# A client that is no program by itself, or whose main part only reads the environment, is not changed there.
NOT_CHANGED = ("main", "_main")


# Of the clients that others wrote: the rules that each breaks, with the reason.
FINDINGS = ROOT / "tests" / "blind_clients" / "correct" / "findings.json"


@dataclass(frozen=True, slots=True)
class CorrectClient:
    """A client that breaks no rule beyond its listed ones.

    Its file, the callable in it, and the key of its provider.
    """

    path: str
    function: str
    provider: str

    @property
    def listed(self) -> tuple[str, ...]:
        """The rules that the unchanged client breaks: in its mutants they are not counted."""
        return tuple(_listed().get(Path(self.path).name, ()))


CLIENTS = (
    CorrectClient("examples/python/hiapi.py", "generate", "hiapi"),
    CorrectClient("examples/python/hiapi_callbacks.py", "generate", "hiapi"),
    CorrectClient("examples/python/runcomfy.py", "generate", "runcomfy"),
    CorrectClient("examples/python/runflow.py", "generate", "runflow"),
    CorrectClient("examples/python/runflow_callbacks.py", "generate", "runflow"),
    CorrectClient("examples/python/vtrix.py", "generate", "vtrix"),
    CorrectClient("tests/blind_clients/correct/hiapi_requests.py", "generate", "hiapi"),
    CorrectClient("tests/blind_clients/correct/runcomfy_aiohttp.py", "generate", "runcomfy"),
    CorrectClient("tests/blind_clients/correct/runflow_urllib.py", "generate", "runflow"),
    CorrectClient("tests/blind_clients/correct/vtrix_httpx.py", "generate", "vtrix"),
)
BY_PATH = {client.path: client for client in CLIENTS}


@cache
def _listed() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(FINDINGS.read_text())
    return found


@dataclass(frozen=True, slots=True)
class LeftOut(Mutant):
    """A statement replaced by `pass`, or a keyword argument left out: the text between two offsets is replaced."""

    start: int
    end: int
    instead: str

    def source(self) -> str:
        """Return the mutated source of the client."""
        text = (ROOT / self.path).read_bytes()
        return (text[: self.start] + self.instead.encode() + text[self.end :]).decode()


def client_mutants(client: CorrectClient) -> list[Mutant]:
    """Return every mutant of a client whose source can still be compiled."""
    path = ROOT / client.path
    skipped = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in NOT_CHANGED
    ]
    found = [*mutants_of(path), *left_out(client)]
    found = [one for one in found if not any(word in one.operator for word in LEFT_OUT)]
    lines_of = path.read_text().splitlines()
    return [
        one
        for one in found
        if not any(one.line in lines for lines in skipped) and not _is_dotted(one, lines_of[one.line - 1])
    ]


def _is_dotted(mutant: Mutant, line: str) -> bool:
    """Whether Cosmic Ray cannot replace an exception, because its name has a module in front of it."""
    return "ExceptionReplacer" in mutant.operator and "." in line


def left_out(client: CorrectClient) -> Iterator[LeftOut]:
    """Yield a mutant for each statement and keyword argument that is left out, and for each other number."""
    text = (ROOT / client.path).read_text()
    offsets, tree, texts = _offsets(text), ast.parse(text), definitions(ast.parse(text), text)
    ordinals: dict[tuple[str, str], int] = defaultdict(int)
    scaling = frozenset(_scaling(tree))
    for operator, node, instead in _places(tree, scaling):
        start = offsets[node.lineno - 1] + node.col_offset
        end = offsets[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        if operator == "LeaveOutKeyword":
            end = _after_comma(text.encode(), end)
        if isinstance(node, ast.Constant) and not _stands(node.value, text.encode()[start:end]):
            continue
        around = next((one for first, last, one in texts if first <= node.lineno <= last), "")
        # Numbers are counted together: what replaces one of them changes no key of another.
        counted = around, operator.replace("Scale", "Replace")
        ordinals[counted] += 1
        ordinal = ordinals[counted]
        parts = "\0".join((client.path, around, operator, str(ordinal)))
        key = hashlib.sha256(parts.encode()).hexdigest()[:16]
        mutant = LeftOut(client.path, node.lineno, operator, ordinal, key, start, end, instead)
        if _compiles(mutant.source()):
            yield mutant


def _places(
    tree: ast.Module, scaling: Collection[ast.AST]
) -> Iterator[tuple[str, ast.stmt | ast.keyword | ast.Constant, str]]:
    for node in ast.walk(tree):
        stated = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        if stated or isinstance(node, DOES):
            assert isinstance(node, ast.stmt)
            yield "LeaveOutStatement", node, "pass"
        elif isinstance(node, ast.Call):
            yield from (("LeaveOutKeyword", keyword, "") for keyword in node.keywords if keyword.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and type(node.value) is not bool:
            counts = isinstance(node.value, int) and node.value < LARGE
            name = "ScaleNumber" if counts and node in scaling else "ReplaceNumber"
            yield from ((name, node, repr(other)) for other in other_numbers(node.value, node in scaling))


def other_numbers(number: float, scales: bool = False) -> tuple[float, float]:
    """Return the numbers that replace one."""
    if isinstance(number, int) and number < LARGE and not scales:
        return number + 1, number - 1
    if not number:
        return FACTOR, -FACTOR
    return number * FACTOR, number // FACTOR if isinstance(number, int) else number / FACTOR


def _scaling(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of numbers that scale something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, SCALES):
            yield from (node.left, node.right)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in DRAWS:
            yield from node.args
        elif isinstance(node, ast.Assign) and all(name.isupper() for name in _names(node.targets)):
            yield from ast.walk(node.value)


def _names(targets: Iterable[ast.expr]) -> Iterator[str]:
    return (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))


def _offsets(text: str) -> list[int]:
    """Return the offset of each line in bytes, as the columns of `ast` are in bytes."""
    found = [0]
    for line in text.encode().splitlines(keepends=True):
        found.append(found[-1] + len(line))
    return found


def _stands(number: object, text: bytes) -> bool:
    """Whether a number is at its place; before Python 3.12, one inside an f-string may have another."""
    try:
        return bool(ast.literal_eval(text.decode()) == number)
    except (SyntaxError, ValueError):
        return False


def _after_comma(text: bytes, end: int) -> int:
    """Return the offset after the comma that follows an argument, if one follows."""
    rest = text[end:]
    bare = rest.lstrip()
    return end + len(rest) - len(bare) + 1 if bare.startswith(b",") else end


def _compiles(source: str) -> bool:
    try:
        compile(source, "client", "exec")
    except SyntaxError:
        return False
    return True
