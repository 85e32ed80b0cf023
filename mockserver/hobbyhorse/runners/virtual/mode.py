"""Whether a command runs in virtual or in real time, and its runner."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from platform import machine, system

from hobbyhorse.conformance.client.cases import HAPPY
from hobbyhorse.conformance.client.diagnosis import Fit, without_video
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners.against_fake import PARALLEL, CommandRunner, FakeSession
from hobbyhorse.runners.virtual.command_runner import VirtualCommandRunner
from hobbyhorse.runners.virtual.compiled import Unavailable
from hobbyhorse.runners.virtual.self_check import checked_tracer
from hobbyhorse.traces.trace import Trace

# A part of the message about a client that starts processes without end.
TOO_MANY = "it started more than"
# The machine on which the tracer was tested. On others, virtual time has to be requested.
TESTED_MACHINE = "x86_64"


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """A command, the command that resumes it, and how both are run. `speed` is None unless it was given."""

    argv: Sequence[str]
    resume: Sequence[str] | None
    seed: int
    limit: float
    speed: float | None
    parallel: int | None
    virtual: bool | None
    fit: Fit | None
    complain: Callable[[str], None] = print
    """Prints a line on stderr."""
    tls: bool = False
    """Whether the client is run at the providers' own hosts, with TLS, in real time."""


@contextmanager
def command_runner(
    providers: Sequence[tuple[Contract, Model]], command: CommandOptions
) -> Iterator[tuple[CommandRunner, Fit]]:
    """Start a server for a command; yield its runner, and how the test cases are adapted to it.

    Raises Unavailable if virtual time was requested and does not work, or CommandError.
    """
    tracer = _tracer(command)
    if tracer is not None:
        with virtual_runner(providers, command, tracer) as found:
            if found is not None:
                yield found
                return
    (contract, model), *second = providers
    # In real time, the stages have to be short.
    speed = command.speed or 1.0
    other = second[0] if second else None
    opened = FakeSession(contract, model, command.seed, "real", speed, "fast", second=other, tls=command.tls)
    with opened as session:
        runner = CommandRunner(session, command.argv, command.resume, command.limit, command.parallel or PARALLEL)
        yield runner, runner.fit()


def _tracer(command: CommandOptions) -> Path | None:
    """Return the tracer if the command runs in virtual time. Raises Unavailable."""
    if command.virtual is False or command.speed is not None:
        return None
    if command.virtual is None and machine() != TESTED_MACHINE and system() == "Linux":
        command.complain(f"the command runs in real time: virtual time was not tested on {machine()}; try --virtual")
        return None
    try:
        return checked_tracer()
    except Unavailable as error:
        _fall_back(command, str(error))
        return None


def _fall_back(command: CommandOptions, reason: str) -> None:
    """Report that real time is used. Raises Unavailable if virtual time was requested."""
    if command.virtual:
        raise Unavailable(reason)
    command.complain(f"the command runs in real time: {reason}")


@contextmanager
def virtual_runner(
    providers: Sequence[tuple[Contract, Model]], command: CommandOptions, tracer: Path
) -> Iterator[tuple[CommandRunner, Fit] | None]:
    """Yield the runner in virtual time, or None if the client cannot be judged there. Raises Unavailable."""
    (contract, model), *second = providers
    size = command.parallel or len(os.sched_getaffinity(0))
    other = second[0] if second else None
    opened = FakeSession(contract, model, command.seed, fit=command.fit or Fit(), second=other, place="virtual")
    with opened as session:
        runner = VirtualCommandRunner(session, command.argv, command.resume, command.limit, size, tracer=tracer)
        try:
            happy = runner.checked(HAPPY)
        except Unavailable as error:
            reason = str(error)
        else:
            # A client that was ended for its many processes is not started again.
            outcome = happy.runs[-1].outcome
            failed = without_video(session.read(happy)) is not None and TOO_MANY not in (
                outcome.message if outcome else ""
            )
            if not (failed and command.virtual is None and _succeeds_in_real_time(providers, command)):
                yield runner, runner.fitted(happy) if command.fit is None else command.fit
                return
            reason = "the client gets its video there, but not in virtual time"
    _fall_back(command, reason)
    yield None


def _ends(trace: Trace) -> list[str]:
    return [run.outcome.message for run in trace.runs if run.outcome is not None]


def _succeeds_in_real_time(providers: Sequence[tuple[Contract, Model]], command: CommandOptions) -> bool:
    """Whether a client that gets no video in virtual time gets one in real time."""
    (contract, model), *second = providers
    other = second[0] if second else None
    opened = FakeSession(contract, model, command.seed, "real", 1.0, "fast", second=other, place="trial")
    with opened as session:
        trace = CommandRunner(session, command.argv, command.resume, command.limit, 1).run(HAPPY)
        return without_video(session.read(trace)) is None
