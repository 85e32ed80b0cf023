"""Tables whose cells are data, never markup."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table


def plain_table(*columns: str) -> Table:
    """Return an empty table that prints its cells verbatim."""
    table = _PlainTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


class _PlainTable(Table):
    def add_row(self, *cells: object, **options: Any) -> None:
        # Rich takes a bracketed word, such as "[url]", for a style, and does not print it.
        super().add_row(*(escape(str(cell)) for cell in cells), **options)
