"""The client that a command names, and the runner that runs it: in virtual time, or as a process in real time."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.cases import (
    CROWD,
    EQUAL,
    FOLDER,
    KILLED,
    LONG,
    MOVED,
    ONCE,
    PICTURES,
    PROMPTS,
    RECOVERY,
    TOGETHER,
    TWICE,
)
from hobbyhorse.conformance.client.search import CaseRunner
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners.against_fake import PARALLEL, CallableRunner, CommandRunner, FakeSession
from hobbyhorse.runners.callable import ClientError, find_client
from hobbyhorse.runners.command import CommandError
from hobbyhorse.runners.process_pool import ProcessPool, WorkerSetup, processes

CLIENT = "Client"

CommandArgument = Annotated[
    list[str] | None, typer.Argument(metavar="COMMAND...", help="The client's command, after --.")
]
PythonOption = Annotated[
    str | None,
    typer.Option(
        "--python",
        metavar="FILE:FUNCTION",
        help="Test a Python callable, in virtual time, instead of a command.",
        rich_help_panel=CLIENT,
    ),
]
ResumeOption = Annotated[
    str | None,
    typer.Option(
        "--resume-command",
        metavar="CMD",
        help="Kill the client during its run, and start CMD to resume it.",
        rich_help_panel=CLIENT,
    ),
]
SpeedOption = Annotated[
    float,
    typer.Option(
        "--speed",
        metavar="N",
        help="Run the server's clock N times as fast; the command has to scale its waits.",
        rich_help_panel=CLIENT,
    ),
]
LimitOption = Annotated[
    float,
    typer.Option(
        "--limit", metavar="SECONDS", help="Stop a run of a command after SECONDS of real time.", rich_help_panel=CLIENT
    ),
]
ParallelOption = Annotated[
    int | None,
    typer.Option(
        "--parallel",
        metavar="N",
        help="Run N at a time; by default 8 commands, or one Python process per core.",
        rich_help_panel=CLIENT,
    ),
]


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The client as the user names it, and the options that all its runs share."""

    command: Sequence[str] | None
    python: str | None
    resume_command: str | None
    seed: int
    speed: float
    limit: float
    parallel: int | None
    contracts: Path | None


@dataclass(frozen=True, slots=True)
class ClientRunner:
    """Runs a client against test cases of the given kinds; `name` is the client's name in reports."""

    play: CaseRunner
    kinds: tuple[str, ...]
    name: str


@contextmanager
def open_runner(contract: Contract, model: Model, client: ClientOptions, runs: int) -> Iterator[ClientRunner]:
    """Start a server for a client and yield the client's runner. Raises UsageError."""
    if client.parallel is not None and client.parallel < 1:
        raise UsageError(f"--parallel is {client.parallel}; allowed: 1 or more")
    if (client.python is None) == (not client.command):
        raise UsageError("name one client: a command after --, or --python FILE:FUNCTION")
    kinds: tuple[str, ...] = (ONCE, TWICE, EQUAL, PROMPTS, PICTURES, LONG, TOGETHER, CROWD, RECOVERY)
    try:
        if client.python is not None:
            with _callable_runner(contract, model, client, client.python, runs) as play:
                yield ClientRunner(play, kinds, client.python)
        else:
            command, resume = _commands(client)
            # A client cannot be killed at a point of its run unless there is a command that resumes it.
            kinds = (*kinds, FOLDER, KILLED, MOVED) if resume else (*kinds, FOLDER)
            # Another process cannot be put on a virtual clock: it waits in real time, so the stages have to be short.
            with FakeSession(contract, model, client.seed, "real", client.speed, "fast") as session:
                play = CommandRunner(session, command, resume, client.limit, client.parallel or PARALLEL)
                yield ClientRunner(play, kinds, shlex.join(command))
    # LookupError: the contract has no example submission; ValueError: --resume-command has an unclosed quote.
    except (ClientError, CommandError, LookupError, ValueError) as error:
        raise UsageError(str(error)) from None


@contextmanager
def _callable_runner(
    contract: Contract, model: Model, client: ClientOptions, python: str, runs: int
) -> Iterator[CaseRunner]:
    if client.resume_command is not None:
        raise UsageError("--resume-command needs a command: a Python callable cannot be killed")
    # Before any process starts: a mistake in FILE:FUNCTION is one line, not one per process.
    function = find_client(python)
    if (size := processes(runs, client.parallel)) > 1:
        with ProcessPool(WorkerSetup(python, contract.key, model.id, client.seed, client.contracts), size) as pool:
            yield pool
    else:
        with FakeSession(contract, model, client.seed) as session:
            yield CallableRunner(session, function)


def _commands(client: ClientOptions) -> tuple[list[str], list[str] | None]:
    """Return the client's command, and the command that resumes it. Raises UsageError and ValueError."""
    command = list(client.command or ())
    resume = shlex.split(client.resume_command) if client.resume_command is not None else None
    for name, words in (("the client", command), ("--resume-command", resume)):
        if words is not None and (not words or shutil.which(words[0]) is None):
            raise UsageError(f"{name}: {_why_not_executable(words[0] if words else '')}")
    for name, value in (("--speed", client.speed), ("--limit", client.limit)):
        if not value > 0:
            raise UsageError(f"{name} is {value:g}; allowed: greater than 0")
    return command, resume


def _why_not_executable(word: str) -> str:
    """Return why a word is not a command, and the probable intention."""
    if re.search(r"\.py:\w+$", word):
        return f"command not found: {word!r}; to test a Python callable, use --python {word}"
    if Path(word).is_file():
        return f"{word!r} is not executable; put its interpreter before it, or chmod +x it"
    return f"command not found: {word!r}"
