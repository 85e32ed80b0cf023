"""A small state for the tests of the commands that look into one."""

from __future__ import annotations

from pathlib import Path

from hobbyhorse.state.records import Head, JobRecord
from hobbyhorse.state.sqlite import SqliteStore
from hobbyhorse.state.store import Changes, Meta
from hobbyhorse.worlds.kept_jobs import JOB_VALUES
from hobbyhorse.worlds.kept_worlds import HEAD_VALUES


def write_state(folder: Path, *, broken: bool = False) -> Path:
    """Write a state with one world and one running job; return its folder."""
    store = SqliteStore(folder)
    store.write_meta(Meta(3, {"acme": "abcdef0123456789"}))
    head = None if broken else Head(begun=1, values={**dict.fromkeys(HEAD_VALUES), "jobs": [0, 1, 0, 0, "0"]})
    job = JobRecord(0, "a-job", "acme", values=dict.fromkeys(JOB_VALUES))
    store.put(Changes(world="a-world", head=head, jobs=[job], checked=False))
    store.stop()
    return folder
