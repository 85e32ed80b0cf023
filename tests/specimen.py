"""A made-up provider that is small and has everything that the contract format has, for tests that break it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from hobbyhorse.contract.documents.defaults import complete
from hobbyhorse.contract.documents.marks import marked, unmarked
from hobbyhorse.contract.folder import read_documents
from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, replaced, resolve

DIRECTORY = Path(__file__).parent / "contract_folders"
FOLDER = DIRECTORY / "acme"


def whole(folder: Path) -> dict[str, Any]:
    """Return the documents of a folder with everything written out that it leaves out: a folder of the same format."""
    clean, marks, _ = unmarked(read_documents(folder))
    return marked(complete(clean), marks)


def edited(changes: Mapping[str, Any], removed: Sequence[str] = ()) -> dict[str, Any]:
    """Return the specimen, everything written out, with places (file#pointer) set anew, then others removed.

    The parent of each place must exist, and so must each removed place.
    """
    return changed(whole(FOLDER), changes, removed)


def shortened(changes: Mapping[str, Any], removed: Sequence[str] = ()) -> dict[str, Any]:
    """Return the specimen as it is written, leaving out all that it may, with places set anew, then others removed."""
    return changed(read_documents(FOLDER), changes, removed)


def changed(documents: dict[str, Any], changes: Mapping[str, Any], removed: Sequence[str] = ()) -> dict[str, Any]:
    """Return documents with places set anew, then others removed."""
    for address, value in [*changes.items(), *((address, MISSING) for address in removed)]:
        file, _, text = address.partition("#")
        pointer = parse_pointer(text)
        around = resolve(documents.get(file, {}), pointer[:-1])
        assert around is not MISSING, f"{address} is nowhere"
        assert value is not MISSING or pointer[-1] in around, f"{address} is not there"
        documents[file] = replaced(documents.get(file), pointer, value)
    return documents


def write(folder: Path, documents: Mapping[str, Any]) -> Path:
    """Write documents into a folder."""
    for name, document in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(orjson.dumps(document))
    return folder
