"""The client that a command names, and the runner that runs it: in virtual time, or as a process in real time."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError, complain
from hobbyhorse.conformance.client.cases import (
    CALLABLE_KINDS,
    COMMAND_KINDS,
    FALLBACK_KINDS,
    RESUMED_KINDS,
    VIRTUAL_COMMAND_KINDS,
    VIRTUAL_RESUMED_KINDS,
    Case,
)
from hobbyhorse.conformance.client.diagnosis import Fit
from hobbyhorse.conformance.client.recurrence import FreshRunner
from hobbyhorse.conformance.client.search import CaseRunner
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners.against_fake import CallableRunner, CommandRunner, FakeSession
from hobbyhorse.runners.callable import ClientError, find_client
from hobbyhorse.runners.command import CommandError
from hobbyhorse.runners.process_pool import ProcessPool, WorkerSetup, fresh_runner, processes
from hobbyhorse.runners.virtual.compiled import Unavailable
from hobbyhorse.runners.virtual.mode import CommandOptions, command_runner
from hobbyhorse.server.front.certificates import CertificateError

CLIENT = "Client"
# A client needs seconds for a job that takes one; the provider's clock runs as fast as the client's.
DEFAULT_LIMIT = 30.0

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
    float | None,
    typer.Option(
        "--speed",
        metavar="N",
        help="Run in real time, with the server's clock N times as fast; the command has to scale its waits.",
        rich_help_panel=CLIENT,
    ),
]
VirtualOption = Annotated[
    bool | None,
    typer.Option(
        "--virtual/--real-time",
        help="Run the command in virtual time (Linux; the default if it works), or in real time.",
        rich_help_panel=CLIENT,
        show_default=False,
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
        help="Run N at a time; by default three Python processes for two cores, a command per core, or 8 in real time.",
        rich_help_panel=CLIENT,
    ),
]


TlsOption = Annotated[
    bool,
    typer.Option(
        "--tls",
        help="Run the command with variables that lead the provider's own https:// host to the server.",
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
    speed: float | None
    limit: float
    parallel: int | None
    contracts: Path | None
    tls: bool = False
    fit: Fit | None = None
    """How the test cases are adapted to the client; None to find it out with a run or two."""
    virtual: bool | None = None
    """Whether a command runs in virtual time; None if that works."""


@dataclass(frozen=True, slots=True)
class ClientRunner:
    """Runs a client against test cases of the given kinds; `name` is the client's name in reports.

    `fresh` runs cases in a fresh process, and `before` returns the cases that ran before a case in its process. Both
    are None if each run has its own process.
    """

    play: CaseRunner
    kinds: tuple[str, ...]
    name: str
    fresh: FreshRunner | None = None
    before: Callable[[Case], Sequence[Case]] | None = None
    notes: tuple[str, ...] = ()
    fit: Fit = field(default_factory=Fit)
    virtual: bool = False
    """Whether a command runs in virtual time."""
    late_notes: Callable[[], tuple[str, ...]] = tuple
    """Returns the notes on the runs after their end."""


def warn_of_misplaced_options(options: Iterable[str], command: Sequence[str] | None) -> None:
    """Warn of each of our own options that stands after --, where it goes to the client."""
    known = {name for name in options if name.startswith("--")}
    for word in command or ():
        name = word.partition("=")[0]
        if name in known:
            complain(
                f"{name} stands after --, so the client gets it; if it is meant for hobbyhorse, write it before --"
            )


def option_names(context: typer.Context) -> list[str]:
    """Return the names of a command's options."""
    return [name for parameter in context.command.params for name in parameter.opts]


def replay_options(client: ClientOptions) -> tuple[str, ...]:
    """Return the words that name a client, and run it in the same way, in a command that replays a finding."""
    words = ["--contracts", str(client.contracts)] if client.contracts is not None else []
    if client.python is not None:
        return (*words, "--python", client.python)
    given = [("--limit", client.limit, DEFAULT_LIMIT), ("--speed", client.speed, None)]
    words += [word for name, value, default in given if value != default for word in (name, f"{value:g}")]
    words += [] if client.virtual is None else ["--virtual" if client.virtual else "--real-time"]
    words += ["--tls"] if client.tls else []
    words += ["--resume-command", client.resume_command] if client.resume_command is not None else []
    return (*words, "--", *(client.command or ()))


@contextmanager
def open_runner(
    contract: Contract, model: Model, client: ClientOptions, runs: int, second: tuple[Contract, Model] | None = None
) -> Iterator[ClientRunner]:
    """Start a server for a client and yield the client's runner. Raises UsageError.

    `second` is the provider that the client falls back to, with its model.
    """
    _check(client, falls_back=second is not None)
    providers = [(contract, model)] if second is None else [(contract, model), second]
    if client.tls:
        _check_tls(client, providers)
    try:
        for one in providers:
            order_for(*one)
    except LookupError as error:
        raise UsageError(str(error)) from None
    with _usage_errors():
        if client.python is not None:
            given = client.fit or Fit()
            named = None if second is None else (second[0].key, second[1].id)
            setup = WorkerSetup(client.python, contract.key, model.id, client.seed, client.contracts, given, named)
            with _callable_runner(providers, client, setup, runs) as (play, fit):
                before = play.before if isinstance(play, ProcessPool) else None
                fresh = fresh_runner(replace(setup, fit=fit))
                ways = CALLABLE_KINDS if second is None else FALLBACK_KINDS
                yield ClientRunner(play, ways, client.python, fresh, before, about(fit), fit)
        else:
            with command_runner(providers, _options(client)) as (commands, fit):
                yield _for_command(client, commands, fit, falls_back=second is not None)


def _check(client: ClientOptions, *, falls_back: bool) -> None:
    """Raise UsageError if options contradict each other."""
    if client.parallel is not None and client.parallel < 1:
        raise UsageError(f"--parallel is {client.parallel}; allowed: 1 or more")
    if client.python is not None and client.virtual is not None:
        raise UsageError("--virtual and --real-time are for commands; a Python callable runs in virtual time")
    if (client.python is None) == (not client.command):
        raise UsageError("name one client: a command after --, or --python FILE:FUNCTION")
    if falls_back and client.resume_command is not None:
        raise UsageError("--resume-command needs one provider: a client that falls back is not killed and restarted")


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn the errors of a client that cannot be run into UsageError."""
    try:
        yield
    # Not LookupError and ValueError: raised by a rule or a runner, they are errors of ours.
    except (ClientError, CommandError) as error:
        raise UsageError(str(error)) from None
    except Unavailable as error:
        raise UsageError(f"--virtual: {error}") from None
    except CertificateError as error:
        raise UsageError(f"--tls: {error}") from None


def _options(client: ClientOptions) -> CommandOptions:
    command, resume = _commands(client)
    return CommandOptions(
        command,
        resume,
        client.seed,
        client.limit,
        client.speed,
        client.parallel,
        # A certificate is valid from today on, and the date of virtual time is another one.
        False if client.tls else client.virtual,
        client.fit,
        complain,
        client.tls,
    )


def _for_command(client: ClientOptions, commands: CommandRunner, fit: Fit, *, falls_back: bool) -> ClientRunner:
    """Return the runner of a command. `falls_back` means that the client has two providers."""
    virtual, resumes = commands.in_virtual_time, client.resume_command is not None
    # A client cannot be killed at a point of its run unless there is a command that resumes it.
    if falls_back:
        kinds: tuple[str, ...] = FALLBACK_KINDS
    elif virtual:
        kinds = VIRTUAL_RESUMED_KINDS if resumes else VIRTUAL_COMMAND_KINDS
    else:
        kinds = RESUMED_KINDS if resumes else COMMAND_KINDS
    name = shlex.join(client.command or ())
    return ClientRunner(
        commands, kinds, name, notes=about(fit), fit=fit, virtual=virtual, late_notes=commands.late_notes
    )


def _check_tls(client: ClientOptions, providers: Sequence[tuple[Contract, Model]]) -> None:
    """Check whether a client can be tested at the providers' own hosts. Raises UsageError."""
    if client.python is not None:
        raise UsageError("--tls needs a command: the variables of a proxy are for another process")
    for contract, _ in providers:
        if not contract.hosts:
            raise UsageError(f"--tls: the contract of {contract.key} names no host; add `servers` to its openapi.json")


def about(fit: Fit) -> tuple[str, ...]:
    """Return notes on how the test cases are adapted to the client."""
    notes = []
    if fit.share != 1:
        share = f"{fit.share:.1%} of their usual time"
        notes.append(f"the client gives up before the usual jobs end, so the jobs take {share}")
    if fit.role != "submit":
        notes.append(f"the client submits with the operation {fit.role!r}, so it gets requests of that form")
    return tuple(notes)


@contextmanager
def _callable_runner(
    providers: Sequence[tuple[Contract, Model]], client: ClientOptions, setup: WorkerSetup, runs: int
) -> Iterator[tuple[CallableRunner | ProcessPool, Fit]]:
    """Yield the runner, and how the test cases are adapted to the client."""
    if client.resume_command is not None:
        raise UsageError("--resume-command needs a command: a Python callable cannot be killed")
    (contract, model), *second = providers
    if client.parallel == 1:
        opened = FakeSession(contract, model, client.seed, fit=setup.fit, second=second[0] if second else None)
        with opened as session:
            runner = CallableRunner(session, find_client(setup.client))
            yield runner, runner.fit() if client.fit is None else client.fit
    else:
        # Also if one process is enough: a client that ends or damages its process must not end the suite.
        size = processes(runs, client.parallel)
        with ProcessPool(setup, size) as pool:
            yield pool, pool.fit(contract) if client.fit is None else client.fit


def _commands(client: ClientOptions) -> tuple[list[str], list[str] | None]:
    """Return the client's command, and the command that resumes it. Raises UsageError."""
    command = list(client.command or ())
    try:
        resume = shlex.split(client.resume_command) if client.resume_command is not None else None
    except ValueError as error:
        raise UsageError(f"--resume-command: {error}") from None
    for name, words in (("the client", command), ("--resume-command", resume)):
        if words is not None and (not words or shutil.which(words[0]) is None):
            raise UsageError(f"{name}: {_why_not_executable(words[0] if words else '')}")
    if client.virtual and client.tls:
        raise UsageError("--tls is for real time: a certificate is not valid at the date of virtual time")
    if client.virtual and client.speed is not None:
        raise UsageError("--speed is for real time; in virtual time, waits take no time at all")
    for name, value in (("--speed", client.speed), ("--limit", client.limit)):
        if value is not None and not value > 0:
            raise UsageError(f"{name} is {value:g}; allowed: greater than 0")
    return command, resume


def _why_not_executable(word: str) -> str:
    """Return why a word is not a command, and the probable intention."""
    if re.search(r"\.py:\w+$", word):
        return f"command not found: {word!r}; to test a Python callable, use --python {word}"
    if Path(word).is_file():
        return f"{word!r} is not executable; put its interpreter before it, or chmod +x it"
    return f"command not found: {word!r}"
