"""A trace as an archive: private files, and members that other programs expect."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from hobbyhorse.traces.exchange import ANSWER, BODY, Exchange
from hobbyhorse.traces.har import read_har
from hobbyhorse.traces.har_writing import to_har, write_private
from hobbyhorse.traces.trace import Trace
from tests.traces.recorders import ACME, API


def test_a_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.har"
    write_private(path, "{}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_becomes_private_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.har"
    path.write_text("x" * 99)
    path.chmod(0o644)
    write_private(path, "{}ü")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text("utf-8")) == (0o600, "{}ü")


def test_a_device_is_written_as_it_is() -> None:
    before = os.stat(os.devnull).st_mode
    write_private(Path(os.devnull), "{}")
    assert os.stat(os.devnull).st_mode == before


def test_a_directory_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path, "{}")


def test_the_secret_of_callbacks_is_in_no_member_of_an_archive() -> None:
    one = Exchange(
        arrived=0.0,
        role="status",
        method="GET",
        url=f"{API}/v1/jobs/whsec-1?s=whsec-1",
        headers=(("x-s", "whsec-1"),),
        body=b"whsec-1",
        status=302,
        answer_headers=(("location", "whsec-1"),),
        answer=b"whsec-1",
        job="whsec-1",
        move="whsec-1",
        situation="whsec-1",
    )
    assert "whsec-1" not in json.dumps(to_har(Trace("acme", API, (one,), secret="whsec-1")))


def test_the_missing_parts_are_written_and_read_back() -> None:
    one = Exchange(
        arrived=1.0,
        role="submit",
        method="POST",
        url=f"{API}/v1/jobs",
        headers=(("x", "y"),),
        status=201,
        answered=2.0,
        unrecorded=(BODY, ANSWER),
    )
    trace = read_har(to_har(Trace("acme", API, (one,))), ACME).trace
    assert trace.exchanges[0].unrecorded == (BODY, ANSWER)
