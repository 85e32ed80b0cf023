"""A damaged state: the start names the record, a request is refused, and nothing is written over it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.kept import reporting
from hobbyhorse.server.kept.opening import open_state
from hobbyhorse.state.errors import StateError
from tests.conftest import CONTRACTS
from tests.server.kept.restarting import Kept, kept
from tests.world import KEY

pytestmark = pytest.mark.anyio

DAMAGE = [
    ("update job set record = '{' where end = ''", "the job 0 cannot be read: unexpected end of data"),
    ("update job set record = json_remove(record, '$.values.order') where end = ''", "it has no 'order'"),
    ("update world set record = '{' where record is not null", "the head cannot be read: unexpected end of data"),
    ("update world set record = '{}' where record is not null", "the head cannot be read: it has no 'settings'"),
    ("update world set record = json_remove(record, '$.values.jobs')", "the head cannot be read: it has no 'jobs'"),
]


def change(server: Kept, statement: str) -> None:
    with sqlite3.connect(server.folder / "state.db") as db:
        # The records are bytes, which only text functions of SQLite take as text.
        assert db.execute(statement.replace("(record,", "(cast(record as text),")).rowcount
    db.close()


@pytest.mark.parametrize(("statement", "reason"), DAMAGE)
async def test_a_start_names_the_record_that_it_cannot_read(tmp_path: Path, statement: str, reason: str) -> None:
    contract = CONTRACTS[0]
    async with kept(tmp_path, contract) as server:
        await server.mock.submit(contract)
        await server.until_written()
        handle = server.mock.world.handle
        await server.kill()
        change(server, statement)
        with pytest.raises(StateError, match="`hobbyhorse state check` lists all damage") as refused:
            server.start()
        assert f"world {handle}: " in str(refused.value)
        assert reason in str(refused.value)
        assert server.mock.fake.worlds.opened(handle) is None


async def test_the_command_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    contract = CONTRACTS[0]
    async with kept(tmp_path, contract) as server:
        await server.mock.submit(contract)
        await server.until_written()
        await server.kill()
        change(server, "update job set record = '{'")
        command = [
            str(Path(sys.executable).with_name("hobbyhorse")),
            "serve",
            "--port",
            "0",
            "--state",
            str(server.folder),
        ]
        env = {**os.environ, "COLUMNS": "300"}
        done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True, env=env)
        assert (done.returncode, done.stdout) == (2, "")
        assert "the job 0 cannot be read" in done.stderr
        assert done.stderr.count("\n") == 1


async def killed_with_ended_jobs(server: Kept) -> None:
    """Let all jobs of a server end, and kill it once they are kept so."""
    await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
    await server.plane.ok("GET", "/ledger")
    await server.until_written()
    await server.kill()


async def test_a_request_for_a_damaged_world_is_refused_and_overwrites_nothing(
    contract: Contract, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_reported", set())
    async with kept(tmp_path, contract, pace="instant") as server:
        await server.mock.submit(contract)
        await killed_with_ended_jobs(server)
        change(server, "update world set record = '{' where record is not null")
        server.start()
        for _ in range(3):
            reply = await server.mock.call_plain(contract, "status", path={"job": "a-job"})
            assert reply.status == 503
        assert (await server.mock.call_plain(contract, "status", path={"job": "a-job"}, key="another")).status in (
            403,
            404,
        )
        await server.until_written()
        await server.kill()
    assert capsys.readouterr().err.count("the head cannot be read") == 1
    db = sqlite3.connect(server.folder / "state.db")
    assert (b"{",) in db.execute("select cast(record as blob) from world").fetchall()
    db.close()


async def test_a_job_that_cannot_be_read_is_refused_alone(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract, pace="instant") as server:
        jobs = [await server.mock.submit(contract) for _ in range(2)]
        await killed_with_ended_jobs(server)
        change(server, "update job set record = '{' where number = 0")
        server.start()
        assert (await server.mock.call_plain(contract, "status", path={"job": jobs[0]})).status == 503
        assert (await server.mock.call_plain(contract, "status", path={"job": jobs[1]})).status == 200
        handle = server.mock.world.handle
        for path in (f"/_mock/jobs/{jobs[0]}", f"/media/{handle}/{jobs[0]}/video.mp4"):
            reply = await server.mock.send("GET", path, key=KEY, host="localhost")
            assert (reply.status, reply.json["error"]["code"]) == (503, "overloaded")


def test_a_client_cannot_fill_the_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_reported", set())
    monkeypatch.setattr(reporting, "MOST_REPORTED", 2)
    for name in "aabbcca":
        reporting.report(name)
    assert capsys.readouterr().err == "hobbyhorse: a\nhobbyhorse: b\n"


async def test_a_due_whose_job_is_gone_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_reported", set())
    contract = CONTRACTS[0]
    async with kept(tmp_path, contract) as server:
        await server.mock.submit(contract)
        assert server.mock.world.unkept is not None
        server.mock.world.unkept.due(9e12, "attempt", "gone", {"attempt": 1})
        await server.until_written()
        await server.restart()
    assert "a callback of the job gone is dropped: the job is not kept" in capsys.readouterr().err


async def test_a_database_with_damaged_pages_is_refused(tmp_path: Path) -> None:
    async with kept(tmp_path, CONTRACTS[0]) as server:
        await server.mock.submit(CONTRACTS[0])
        await server.until_written()
        await server.kill()
    with sqlite3.connect(server.folder / "state.db") as db:
        db.execute("pragma wal_checkpoint(truncate)")
        (page,) = db.execute("select rootpage from sqlite_master where name = 'job_running'").fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    db.close()
    with (server.folder / "state.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(StateError, match=r"the database in '.*' cannot be read: database disk image is malformed"):
        open_state(str(server.folder), 0, CONTRACTS)
