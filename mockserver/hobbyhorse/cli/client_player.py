"""The client that a command names, and how it is run: in virtual time, or as a process."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.cases import CROWD, KILLED, LONG, MOVED, ONCE, TWICE
from hobbyhorse.conformance.client.search import Play
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners.against_fake import PARALLEL, CallableRunner, CommandRunner, FakeSession
from hobbyhorse.runners.callable import ClientError, find_client
from hobbyhorse.runners.command import CommandError
from hobbyhorse.runners.process_pool import ProcessPool, WorkerSetup, processes

CommandArgument = Annotated[
    list[str] | None, typer.Argument(metavar="COMMAND...", help="The client, behind --; see docs/conformance.md.")
]
PythonOption = Annotated[
    str | None,
    typer.Option("--python", metavar="FILE:FUNCTION", help="A Python callable instead of a command: in virtual time."),
]
SpeedOption = Annotated[
    float,
    typer.Option("--speed", metavar="N", help="The server's clock runs N times as fast (for commands that follow it)."),
]
LimitOption = Annotated[
    float, typer.Option("--limit", metavar="SECONDS", help="How long one run of a command may take, in real time.")
]
ParallelOption = Annotated[
    int | None,
    typer.Option(
        "--parallel", metavar="N", help="How many run at once: 8 commands, or a Python process for each core."
    ),
]
ResumeOption = Annotated[
    str | None,
    typer.Option("--resume-command", metavar="CMD", help="How the client is started again after it was killed."),
]


@contextmanager
def open_player(
    contract: Contract,
    model: Model,
    python: str | None,
    command: list[str] | None,
    resume_command: str | None,
    seed: int,
    speed: float,
    limit: float,
    parallel: int | None,
    runs: int,
    contracts: Path | None,
) -> Iterator[tuple[Play, tuple[str, ...], str]]:
    """Open the arena for a client; gives who plays drills there, which kinds of them, and the client's name."""
    if parallel is not None and parallel < 1:
        raise UsageError(f"--parallel {parallel}; it is a number from 1")
    if (python is None) == (not command):
        raise UsageError("name one client: a command behind --, or --python FILE:FUNCTION")
    kinds: tuple[str, ...] = (ONCE, TWICE, LONG, CROWD)
    try:
        if python is not None:
            if resume_command is not None:
                raise UsageError("--resume-command is for commands: a Python callable cannot be killed")
            found = find_client(python)
            if (size := processes(runs, parallel)) > 1:
                with ProcessPool(WorkerSetup(python, contract.key, model.id, seed, contracts), size) as crew:
                    yield crew, kinds, python
                return
            with FakeSession(contract, model, seed) as arena:
                yield CallableRunner(arena, found), kinds, python
            return
        assert command is not None
        resume = shlex.split(resume_command) if resume_command is not None else None
        kinds = (*kinds, KILLED, MOVED) if resume else kinds
        for name, words in (("the client", command), ("--resume-command", resume)):
            if words is not None and (not words or shutil.which(words[0]) is None):
                raise UsageError(f"{name}: {_no_command(words[0] if words else '')}")
        if not speed > 0 or not limit > 0:
            raise UsageError("--speed and --limit are greater than 0")
        size = parallel or PARALLEL
        with FakeSession(contract, model, seed, "real", speed, "fast") as arena:
            yield CommandRunner(arena, command, resume, limit, size), kinds, shlex.join(command)
    except (ClientError, CommandError, LookupError, ValueError) as error:
        raise UsageError(str(error)) from None


def _no_command(word: str) -> str:
    """Say why a word is no command, and what was probably meant."""
    if re.search(r"\.py:\w+$", word):
        return f"there is no command {word!r}; a Python callable is named with --python {word}"
    if Path(word).is_file():
        return f"{word!r} is a file that cannot be executed; name what runs it before it, or chmod +x it"
    return f"there is no command {word!r}"
