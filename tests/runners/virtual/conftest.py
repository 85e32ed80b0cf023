"""Programs in virtual time, without a server."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from hobbyhorse.runners.virtual.compiled import Unavailable
from hobbyhorse.runners.virtual.self_check import NoServer, checked_tracer
from hobbyhorse.runners.virtual.timekeeper import Timekeeper

# Real seconds of a program, on a busy machine.
LONGEST = 60.0
# Virtual seconds, more than any program of the tests waits.
LIMIT = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a program in virtual time."""

    status: int | None
    out: str
    err: str
    passed: float
    keeper: Timekeeper
    cut: str | None
    stuck: bool


RunProgram = Callable[..., Done]


@pytest.fixture(scope="session")
def tracer() -> Path:
    try:
        return checked_tracer()
    except Unavailable as error:
        pytest.skip(f"needs virtual time: {error}")


@pytest.fixture(scope="session")
def waits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program whose words are ways to wait."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("needs cc, which is not installed")
    target = tmp_path_factory.mktemp("programs") / "waits"
    source = Path(__file__).with_name("waits.c")
    command = [compiler, "-O1", "-Wall", "-Wno-unused-result", "-pthread", "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    return str(target)


@pytest.fixture
def run(tracer: Path) -> RunProgram:
    """Run a program until it ends."""

    def running(argv: Sequence[str], limit: float = LIMIT) -> Done:
        server = NoServer()
        begun = server.now()
        with Timekeeper(server, tracer, limit) as keeper:
            process = keeper.launch(argv, dict(os.environ))
            assert process.end is not None
            select.select([process.end], [], [], LONGEST)
            passed = (process.ended_at or server.now()) - begun
            process.kill_leftovers()
            texts = []
            for stream in (process.stdout, process.stderr):
                os.set_blocking(stream.fileno(), False)
                with stream, suppress(BlockingIOError):
                    texts.append((stream.read(100_000) or b"").decode())
            status = process.exit_status()
            process.close()
        return Done(status, texts[0], texts[1], passed, keeper, process.cut, process.stuck)

    return running
