"""Opens the kept state of a server: finds the store, and checks that server and state agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.kept.keeper import Keeper
from hobbyhorse.server.kept.reading import digest
from hobbyhorse.state import sqlite_tables as tables
from hobbyhorse.state.errors import StateError
from hobbyhorse.state.sqlite import SqliteStore
from hobbyhorse.state.store import agreed

SYNCS = ("normal", "full")


def open_state(text: str, seed: int, contracts: Sequence[Contract]) -> Keeper:
    """Open the state in a folder, `DIR` or `DIR?sync=full`. Raises StateError."""
    path, _, query = text.partition("?")
    options = parse_qs(query, keep_blank_values=True)
    sync = options.pop("sync", ["normal"])[-1]
    if options or sync not in SYNCS:
        raise StateError(f"{text!r} has unknown options; allowed: ?sync=full")
    if "://" in path:
        raise StateError(f"{text!r} is not a folder")
    if not path:
        raise StateError("the name of the folder is empty")
    store = SqliteStore(Path(path), full=sync == "full")
    try:
        digests = {contract.key: digest(contract) for contract in contracts}
        store.write_meta(agreed(store.found, seed, digests, store.read(tables.running)))
        return Keeper(store, contracts, store.folder.pictures)
    except StateError:
        store.stop()
        raise
