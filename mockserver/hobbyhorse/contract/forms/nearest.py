"""Find the operation for which an unmatched request was probably meant, and their differences. No server.

A bare 404 does not help the author of a client. The nearest operation has the minimum edit distance between path
segments, so that one missing prefix costs one edit and not a mismatch of every later segment. The weights below only
order the candidates: a renamed segment costs 0.2 to 1.2, depending on its similarity; a missing or extra segment costs
1; a parameter accepts any value for 0.01, so that a literal match is preferred.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from urllib.parse import parse_qsl

from hobbyhorse.contract.request import Refusal, read_body, read_order, read_parameters
from hobbyhorse.contract.values import Contract, Operation

# Maximum number of compared path segments. The table grows with it, and a request may have thousands of segments;
# documented paths have fewer than ten.
MOST_SEGMENTS = 24
# Maximum number of quoted characters of a segment: a model id or a UUID fits, and a message stays on one line.
MOST_SEGMENT_CHARACTERS = 80
# The cost of another method: less than a missing or extra segment (1), because an exact path is better evidence of the
# intended operation than the method.
OTHER_METHOD = 0.5
# The cost of an empty segment for a parameter. Less than 1, because GET /jobs/ is more likely a missing job id than a
# list with an extra slash.
EMPTY_SEGMENT_COST = 0.6
# The cost of a segment that a parameter accepts: more than a literal match (0), less than any difference.
PARAMETER_COST = 0.01
# The cost of an entirely different literal segment: more than a missing or extra segment, so that an inserted segment
# is reported as one insertion. A similar segment costs as little as 0.2 and is reported as a misspelling.
OTHER_SEGMENT_COST = 1.2

_NAME = re.compile(r"\{[^}]+\}")


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: the part of the request, the place there (segment from 1, name, dotted field), and a message."""

    part: str
    at: str
    message: str


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest operation, and its differences from the request, in the order of the request."""

    operation: Operation
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        name = f"{self.operation.role} {self.operation.method} {self.operation.path}"
        return ", ".join((name, *(difference.message for difference in self.differences)))


def nearest(contract: Contract, method: str, path: str) -> Nearest:
    """Return the operation nearest to a method and path. On a tie, the first one in the contract wins."""
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
    *,
    header: Callable[[str], str | None],
    body: bytes,
) -> Difference | None:
    """Return the first violation of an operation's contract by a request, or None.

    Violations that depend on the server's state, such as an unknown job, are not detected.
    """
    found = operation.pattern.fullmatch(path)
    names = [name[1:-1] for name in _NAME.findall(operation.path)]
    values: Mapping[str, str] = dict(zip(names, found.groups(), strict=True)) if found else {}
    texts = dict(parse_qsl(query, keep_blank_values=True))
    message = read_parameters(contract, operation, values, texts, header)
    if isinstance(message, Refusal):
        return _as_difference(message)
    if operation.role not in ("submit", "run"):
        return None
    read = read_body(header("content-type"), body)
    if isinstance(read, Refusal):
        return _as_difference(read)
    message = type(message)(message.path, message.query, message.header, read)
    order = read_order(contract, operation, message)
    return _as_difference(order) if isinstance(order, Refusal) else None


def _as_difference(refusal: Refusal) -> Difference:
    message = refusal.message or refusal.situation
    if refusal.situation == "unsupported_media_type":
        return Difference("header", "content-type", f"header content-type: {message}")
    part, *where = refusal.location or ("body",)
    at = ".".join(map(str, where))
    return Difference("field" if part == "body" else str(part), at, message)


def _compare(operation: Operation, path: str) -> tuple[float, tuple[Difference, ...]]:
    """Return the edit distance between an operation's path and a request's path, and the differing segments."""
    # Wagner-Fischer over segments, with one more edit: a multi-segment parameter absorbs the next segment.
    wanted = operation.path.strip("/").split("/")
    got = path.removeprefix("/").split("/")[:MOST_SEGMENTS]
    many = {f"{{{parameter.name}}}" for parameter in operation.parameters if parameter.multi_segment}
    table: list[list[tuple[float, tuple[Difference, ...]]]] = []
    for row in range(len(wanted) + 1):
        table.append([])
        for column in range(len(got) + 1):
            edits = list(_edits(table, row, column, wanted, got, many=many))
            table[row].append(min(edits, key=lambda edit: edit[0]) if edits else (0.0, ()))
    return table[-1][-1]


def _edits(
    table: list[list[tuple[float, tuple[Difference, ...]]]],
    row: int,
    column: int,
    wanted: list[str],
    got: list[str],
    *,
    many: set[str],
) -> Iterator[tuple[float, tuple[Difference, ...]]]:
    """Yield the cost and differences of each last edit between the first `row` wanted and `column` actual segments."""
    want, have = wanted[row - 1] if row else "", got[column - 1] if column else ""
    at, shown = str(column), _short(have)
    if row and column:
        weight, found = table[row - 1][column - 1]
        if _NAME.search(want) and have:
            yield weight + PARAMETER_COST, found
        elif want == have:
            yield weight, found
        elif _NAME.search(want):
            message = f"path segment {at}, {want!r}, is empty"
            yield weight + EMPTY_SEGMENT_COST, (*found, Difference("path", at, message))
        else:
            message = f"path segment {at} is {shown}, not {want!r}"
            yield weight + OTHER_SEGMENT_COST - _similarity(want, have), (*found, Difference("path", at, message))
        if want in many and have and column > 1:
            weight, found = table[row][column - 1]
            yield weight + PARAMETER_COST, found
    if row:
        weight, found = table[row - 1][column]
        missing = f"path segment {column + 1}, {want!r}, is missing"
        yield weight + 1, (*found, Difference("path", str(column + 1), missing))
    if column:
        weight, found = table[row][column - 1]
        yield weight + 1, (*found, Difference("path", at, f"path segment {at}, {shown}, is one too many"))


def _similarity(one: str, other: str) -> float:
    """Return the common prefix and suffix of two texts as a fraction of the longer text, from 0 to 1."""
    # In "aaa" and "aa", the common prefix and suffix overlap; the overlap counts once.
    shorter = min(len(one), len(other))
    shared = _common_prefix(one, other) + _common_prefix(one[::-1], other[::-1])
    return min(shared, shorter) / max(len(one), len(other), 1)


def _common_prefix(one: str, other: str) -> int:
    """Return the length of the longest common prefix."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _short(text: str) -> str:
    return repr(text if len(text) <= MOST_SEGMENT_CHARACTERS else f"{text[:MOST_SEGMENT_CHARACTERS]}…")
