"""Which operation of a contract a refused request comes nearest to, and what exactly differs; knows no server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from urllib.parse import parse_qsl

from hobbyhorse.contract.request import Refusal, read_body, read_order, read_parameters
from hobbyhorse.contract.values import Contract, Operation

MOST_SEGMENTS = 24
"""How many segments of a path are looked at."""
MOST_SEGMENT_CHARACTERS = 80
"""How much of a segment is shown."""
OTHER_METHOD = 0.5
"""What another method weighs, against 1 for a segment that is missing or one too many."""
EMPTY_SEGMENT_COST = 0.6
"""What an empty segment weighs where a name's value belongs: an id that a client lost, not a list it asked for."""

_NAME = re.compile(r"\{[^}]+\}")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs: the part of the request, where in it (segment from 1, name, or dotted field), and how."""

    part: str
    at: str
    message: str


@dataclass(frozen=True, slots=True)
class Nearest:
    """The operation that a request comes nearest to, and what differs, in the order of the request."""

    operation: Operation
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        how = ", ".join(difference.message for difference in self.differences)
        return f"{self.operation.role} {self.operation.method} {self.operation.path}{', ' if how else ''}{how}"


def nearest(contract: Contract, method: str, path: str) -> Nearest:
    """Return the operation that comes nearest to a method and a path."""
    candidates = []
    for operation in contract.operations.values():
        weight, differences = _compare(operation, path)
        if operation.method != method:
            weight += OTHER_METHOD
            message = f"the method is {method if method.isalnum() else _short(method)}, not {operation.method}"
            differences = (Difference("method", "", message), *differences)
        candidates.append((weight, Nearest(operation, differences)))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def difference(
    contract: Contract,
    operation: Operation,
    path: str,
    query: str,
    header: Callable[[str], str | None],
    body: bytes,
) -> Difference | None:
    """Return what in a request to an operation breaks the contract first, or None if nothing does that shows here."""
    found = operation.pattern.fullmatch(path)
    names = [name[1:-1] for name in _NAME.findall(operation.path)]
    values: Mapping[str, str] = dict(zip(names, found.groups(), strict=True)) if found else {}
    texts = dict(parse_qsl(query, keep_blank_values=True))
    message = read_parameters(contract, operation, values, texts, header)
    if isinstance(message, Refusal):
        return _said(message)
    if operation.role not in ("submit", "run"):
        return None
    read = read_body(header("content-type"), body)
    if isinstance(read, Refusal):
        return _said(read)
    message = type(message)(message.path, message.query, message.header, read)
    order = read_order(contract, operation, message)
    return _said(order) if isinstance(order, Refusal) else None


def _said(refusal: Refusal) -> Difference:
    """Return a refusal as the difference that it stands for."""
    message = refusal.message or refusal.situation
    if refusal.situation == "unsupported_media_type":
        return Difference("header", "content-type", f"header content-type: {message}")
    part, *where = refusal.location or ("body",)
    at = ".".join(map(str, where))
    return Difference("field" if part == "body" else str(part), at, message)


def _compare(operation: Operation, path: str) -> tuple[float, tuple[Difference, ...]]:
    """Return how far a path is from an operation's, and the segments that differ.

    The least edit of segments: a literal one may be another, a named one is whatever stands there, and some names
    stand for several segments.
    """
    wanted = operation.path.strip("/").split("/")
    got = path.removeprefix("/").split("/")[:MOST_SEGMENTS]
    many = {f"{{{parameter.name}}}" for parameter in operation.parameters if parameter.multi_segment}
    table: list[list[tuple[float, tuple[Difference, ...]]]] = []
    for row in range(len(wanted) + 1):
        table.append([])
        for column in range(len(got) + 1):
            ways = list(_ways(table, row, column, wanted, got, many))
            table[row].append(min(ways, key=lambda way: way[0]) if ways else (0.0, ()))
    return table[-1][-1]


def _ways(
    table: list[list[tuple[float, tuple[Difference, ...]]]],
    row: int,
    column: int,
    wanted: list[str],
    got: list[str],
    many: set[str],
) -> Iterator[tuple[float, tuple[Difference, ...]]]:
    """Yield the ways to compare the first `row` wanted segments with the first `column` that are there."""
    want, have = wanted[row - 1] if row else "", got[column - 1] if column else ""
    at, shown = str(column), _short(have)
    if row and column:
        weight, found = table[row - 1][column - 1]
        if _NAME.search(want) and have:
            yield weight + 0.01, found
        elif want == have:
            yield weight, found
        elif _NAME.search(want):
            message = f"path segment {at}, {want!r}, is empty"
            yield weight + EMPTY_SEGMENT_COST, (*found, Difference("path", at, message))
        else:
            message = f"path segment {at} is {shown}, not {want!r}"
            yield weight + 1.2 - _alike(want, have), (*found, Difference("path", at, message))
        if want in many and have and column > 1:
            weight, found = table[row][column - 1]
            yield weight + 0.01, found
    if row:
        weight, found = table[row - 1][column]
        missing = f"path segment {column + 1}, {want!r}, is missing"
        yield weight + 1, (*found, Difference("path", str(column + 1), missing))
    if column:
        weight, found = table[row][column - 1]
        yield weight + 1, (*found, Difference("path", at, f"path segment {at}, {shown}, is one too many"))


def _alike(one: str, other: str) -> float:
    """Return how alike two texts are, from 0 to 1: by their common beginning and end."""
    shorter = min(len(one), len(other))
    return min(_common(one, other) + _common(one[::-1], other[::-1]), shorter) / max(len(one), len(other), 1)


def _common(one: str, other: str) -> int:
    """Return the length of the common beginning of two texts."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _short(text: str) -> str:
    return repr(text if len(text) <= MOST_SEGMENT_CHARACTERS else f"{text[:MOST_SEGMENT_CHARACTERS]}…")
