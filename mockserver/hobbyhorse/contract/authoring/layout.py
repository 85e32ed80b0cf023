"""The layout of a contract's files: a value that fits is written on one line. Knows nothing about contracts."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The width of the project's own contracts: an example or a binding mostly fits, and a diff still shows both sides.
WIDTH = 120

INDENT = "  "


def laid_out(value: Any) -> str:
    """Return JSON in which an object or list is on one line if it fits, else with one member per line."""
    return _block(value, "", 0) + "\n"


def _block(value: Any, indent: str, before: int) -> str:
    """Return a value's JSON, to be written after `before` characters on its first line."""
    line = json.dumps(value, ensure_ascii=False)
    # One character is reserved for the comma that may follow the value.
    if not isinstance(value, dict | list) or not value or before + len(line) < WIDTH:
        return line
    inner = indent + INDENT
    if isinstance(value, list):
        rows = [inner + _block(item, inner, len(inner)) for item in value]
        return "[\n" + ",\n".join(rows) + "\n" + indent + "]"
    rows = []
    for name, item in value.items():
        start = f"{inner}{json.dumps(name, ensure_ascii=False)}: "
        rows.append(start + _block(item, inner, len(start)))
    return "{\n" + ",\n".join(rows) + "\n" + indent + "}"


def write_all(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder: first all as temporary files, then by rename, so no reader sees half a file."""
    written: list[tuple[str, Path]] = []
    try:
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=(folder / name).parent, prefix=".", suffix=".tmp")
            written.append((temporary, folder / name))
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
        for temporary, path in written:
            # A temporary file is private to its owner; the file that it replaces, or a new one, is not.
            os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.replace(temporary, path)
    finally:
        for temporary, _ in written:
            Path(temporary).unlink(missing_ok=True)
