"""Reports of figures: an aligned table under a title, and limits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class BoundMissed(Exception):
    """A figure exceeded its limit."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure with its limit, which must be kept, and its target, which is only printed."""

    name: str
    figure: float
    limit: float
    target: float
    unit: str = ""
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the figure is within the limit."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def __str__(self) -> str:
        form = f"{{:{'.0f' if self.unit else '.2f'}}}{self.unit}"
        side = "at least" if self.at_least else "at most"
        figure, limit, target = (form.format(value) for value in (self.figure, self.limit, self.target))
        return f"{self.name} {figure} ({side} {limit}, target {target}){'' if self.kept else '  MISSED'}"


def run(*benchmarks: Callable[[], None]) -> int:
    """Run benchmarks in order; return 1 if a limit was missed and `--check` was given, else 0."""
    missed = []
    for benchmark in benchmarks:
        try:
            benchmark()
        except BoundMissed as error:
            missed.append(error)
    return 1 if missed and "--check" in sys.argv[1:] else 0


def show(title: str, rows: Sequence[Sequence[str]], *bounds: Bound) -> None:
    """Print a table with headings in its first row, then the bounds. Raises BoundMissed."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(title)
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  " + "  ".join((first.ljust(widths[0]), *cells)))
    for bound in bounds:
        print(f"  {bound}")
    print(flush=True)
    if missed := [str(bound) for bound in bounds if not bound.kept]:
        raise BoundMissed("; ".join(missed))
