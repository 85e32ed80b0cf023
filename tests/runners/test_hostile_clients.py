"""Whatever a callable does to its process, its run ends with an outcome, and the next run is as good as the first."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.process_pool import ProcessPool, WorkerSetup
from hobbyhorse.traces.trace import Outcome, Trace
from tests.conftest import CONTRACTS
from tests.runners import hostile

HIAPI = next(contract for contract in CONTRACTS if contract.key == "hiapi")
MODEL = HIAPI.models[0]
# A case with a fault: in the happy case, the loss of the process is an error.
CASE = Case({"moves": {"submit": [{"move": "server_error"}]}})
WAITS = "every thread of the client waits, and no event is left that could wake one: "
linux = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")

# The client's name, the kind of its outcome, and the beginning of the message.
OUTCOMES = [
    ("raises_odd", "failed", "Odd: <Odd without a readable text>"),
    ("raises_not_text", "failed", "NotText: <NotText without a readable text>"),
    ("raises_no_attributes", "failed", "NoAttributes: "),
    ("raises_endless", "unfinished", "the client had not ended at the limit of its virtual time"),
    ("raises_huge", "failed", "LargeText: ('yyy"),
    ("raises_surrogates", "failed", "ValueError:    [31m"),
    ("raises_nothing", "failed", "ValueError: "),
    ("raises_chain", "failed", "ValueError: later"),
    ("raises_nested", "failed", "Group: errors (ValueError: innermost)"),
    ("raises_itself", "failed", "Group: errors"),
    ("raises_interrupt", "failed", "KeyboardInterrupt: "),
    ("raises_exit", "failed", "SystemExit: text"),
    ("raises_generator_exit", "failed", "GeneratorExit: "),
    ("raises_cancelled", "failed", "CancelledError: "),
    ("raises_recursion", "failed", "RecursionError: "),
    ("raises_memory", "failed", "MemoryError: "),
    ("returns_odd", "failed", "RuntimeError: __class__"),
    ("returns_fifo", "success", "returned PosixPath("),
    ("returns_zero", "success", "returned '/dev/zero', which cannot be read: it is not a regular file"),
    ("returns_directory", "success", "returned '/', which cannot be read: it is not a regular file"),
    ("returns_long_text", "success", "returned 'xxx"),
    ("returns_large_bytes", "success", ""),
    ("returns_generator", "success", "returned <generator object returns_generator>; allowed: "),
    ("returns_async_generator", "success", "returned <async_generator object returns_async_generator>; allowed: "),
    ("exits", "unfinished", "the client ended its own process (exit status 7)"),
    ("exits_in_a_thread", "unfinished", "the client ended its own process (exit status 8)"),
    ("kills_itself", "unfinished", "the client ended its own process (signal 9)"),
    ("kills_its_group", "unfinished", "the client ended its own process (signal 15)"),
    ("kills_its_parent", "unfinished", "the client ended the process that started it (signal 9)"),
    ("kills_all", "unfinished", "the client ended its own process (signal 9)"),
    ("interrupts_itself", "unfinished", "the client ended its own process (signal 15)"),
    ("aborts", "unfinished", "the client ended its own process (signal 6)"),
    ("replaces_its_program", "unfinished", "the client replaced its own process by a program"),
    ("forks", "failed", "ValueError: the parent"),
    ("forks_and_raises", "failed", "ValueError: the parent"),
    ("keeps_a_pool", "failed", "ValueError: None"),
    ("catches_everything", "unfinished", "the client had not ended at the limit of its virtual time"),
    ("waits", "unfinished", f"{WAITS}in waits (tests/runners/hostile.py:"),
    ("waits_again", "unfinished", f"{WAITS}in waits_again (tests/runners/hostile.py:"),
    ("awaits", "unfinished", f"{WAITS}task in awaits (tests/runners/hostile.py:"),
    ("runs_a_process", "failed", "ValueError: ran"),
]
# Clients that damage their process, so that each needs a new one.
DAMAGE = [
    ("crashes", "unfinished", "the client's process was ended by signal 11 (SIGSEGV)"),
    ("exits_in_c", "unfinished", "the client ended its own process (exit status 9)"),
    ("killed_in_c", "unfinished", "the client's process was ended by signal 9 (SIGKILL)"),
    ("forks_and_exits", "unfinished", "the client ended its own process (exit status 9)"),
    ("forks_forever", "failed", "ValueError: the parent"),
    ("daemonises", "failed", "ValueError: the parent"),
    ("closes_output", "failed", "ValueError: closed"),
    ("closes_all", "unfinished", "the client"),
    ("replaces_everything", "failed", "ValueError: replaced"),
    ("limits_recursion", "failed", "ValueError: limited"),
    ("deletes_its_directory", "failed", "ValueError: deleted"),
    ("replaces_time_and_sockets", "failed", "ValueError: replaced"),
    ("leaves_threads", "failed", "ValueError: left"),
    ("leaves_a_blocked_thread", "failed", "ValueError: left"),
    ("keeps_a_loop", "failed", "ValueError: waited"),
]


@pytest.fixture(scope="module")
def session() -> Iterator[FakeSession]:
    with FakeSession(HIAPI, MODEL) as session:
        yield session


def outcome_of(trace: Trace) -> Outcome:
    outcome = trace.runs[0].outcome
    assert outcome is not None
    return outcome


def marked_processes() -> list[str]:
    """Return the live processes with the mark of this test process."""
    mark = f"HOBBYHORSE_RUN=test {os.getpid()}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as environ, open(f"/proc/{name}/stat", "rb") as stat:
                alive = stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
                if alive and mark in environ.read():
                    found.append(name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("name", "kind", "message"), OUTCOMES)
def test_a_run_ends_with_an_outcome_and_the_next_one_is_as_good(
    session: FakeSession, name: str, kind: str, message: str
) -> None:
    outcome = outcome_of(CallableRunner(session, getattr(hostile, name)).run(CASE))
    assert outcome.kind == kind, outcome.message
    assert outcome.message.startswith(message)
    outcome.message.encode()
    after = outcome_of(CallableRunner(session, hostile.requests).run(CASE))
    assert after.message == "ValueError: 401"


@linux
@pytest.mark.parametrize(("name", "kind", "message"), DAMAGE)
def test_a_client_that_damages_its_process_gets_a_new_one(
    name: str, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda size: f"test {os.getpid()}")
    setup = WorkerSetup(f"tests.runners.hostile:{name}", "hiapi", MODEL.id)
    with ProcessPool(setup, 1, patience=60.0) as pool:
        outcomes = [outcome_of(trace) for trace in pool([CASE, CASE])]
    for outcome in outcomes:
        assert outcome.kind == kind, outcome.message
        assert outcome.message.startswith(message)
    assert marked_processes() == []


def test_a_client_whose_process_takes_too_long_is_given_up() -> None:
    setup = WorkerSetup("tests.runners.hostile:blocks_in_c", "hiapi", MODEL.id)
    with ProcessPool(setup, 1, patience=6.0) as pool:
        (trace,) = pool([CASE])
    assert outcome_of(trace).kind == "unfinished"
    assert outcome_of(trace).message == "the run had not ended after 6 s of real time"


@linux
def test_a_process_of_the_client_takes_no_virtual_time(session: FakeSession) -> None:
    trace = CallableRunner(session, hostile.uses_processes).run(CASE)
    assert outcome_of(trace).message == "ValueError: 1 [0, 0]"
    assert outcome_of(trace).ended == trace.runs[0].started


@linux
def test_a_process_that_does_not_end_is_named_as_the_reason(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.runners.scheduler.CHILDREN_SECONDS", 0.2)
    outcome = outcome_of(CallableRunner(session, hostile.waits_for_a_process).run(CASE))
    assert outcome.kind == "unfinished"
    reason = "the client waits for a process that it started, which has not ended: in waits_for_a_process ("
    assert outcome.message.startswith(reason)
