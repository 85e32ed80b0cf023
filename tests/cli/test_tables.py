"""Tables print their cells verbatim."""

from __future__ import annotations

import io

from rich.console import Console

from hobbyhorse.cli.tables import plain_table


def test_a_cell_in_brackets_is_not_a_style() -> None:
    table = plain_table("name", "value")
    table.add_row("[red]", "7")
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    assert [line.split() for line in console.file.getvalue().splitlines() if line.strip()][-1] == ["[red]", "7"]
