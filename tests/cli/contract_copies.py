"""Copies of the project's contracts, to be changed by a test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.values import Contract


def copy(contract: Contract, directory: Path, name: str | None = None) -> Path:
    """Copy a provider's folder into a directory of contracts; return it."""
    folder = directory / (name or contract.key)
    shutil.copytree(data_directory("contracts") / contract.key, folder)
    return folder


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
