"""The client that a command names: a callable or a command, and the mistakes in naming it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hobbyhorse.cli.client_runner import ClientOptions, open_runner, replay_options
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.cases import (
    CLOCK_KINDS,
    CROWD,
    EQUAL,
    FOLDER,
    KILLED,
    LONG,
    MEMBERS,
    MOVED,
    ONCE,
    PICTURES,
    PROMPTS,
    RECOVERY,
    TOGETHER,
    TWICE,
    Case,
)
from hobbyhorse.runners.process_pool import ProcessPool
from tests.cli.sample_clients import HIAPI, KEEPS
from tests.runners.virtual.conftest import tracer

__all__ = ["tracer"]

NONE = ClientOptions(
    command=None, python=None, resume_command=None, seed=0, speed=None, limit=30.0, parallel=None, contracts=None
)
CALLABLE = replace(NONE, python=KEEPS[1])
COMMAND = replace(NONE, command=["true"])


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (NONE, "name one client: a command after --, or --python FILE:FUNCTION"),
        (replace(CALLABLE, command=["true"]), "name one client: "),
        (replace(CALLABLE, parallel=0), "--parallel is 0; allowed: 1 or more"),
        (replace(CALLABLE, tls=True), "--tls needs a command"),
        (replace(CALLABLE, virtual=True), "--virtual and --real-time are for commands"),
        (replace(COMMAND, virtual=True, speed=2.0), "--speed is for real time"),
        (replace(CALLABLE, resume_command="true"), "--resume-command needs a command"),
        (replace(CALLABLE, python="nowhere.py:generate"), "nowhere.py"),
        (replace(COMMAND, command=["no-such-command"]), "the client: command not found: 'no-such-command'"),
        (replace(COMMAND, command=["client.py:generate"]), "use --python client.py:generate"),
        (replace(COMMAND, command=["./plain.txt"]), "'./plain.txt' is not executable; put its interpreter before it"),
        (replace(COMMAND, resume_command="no-such-command"), "--resume-command: command not found: 'no-such-command'"),
        (replace(COMMAND, resume_command=""), "--resume-command: command not found: ''"),
        (replace(COMMAND, resume_command="'"), "No closing quotation"),
        (replace(COMMAND, speed=0.0), "--speed is 0; allowed: greater than 0"),
        (replace(COMMAND, limit=float("nan")), "--limit is nan; allowed: greater than 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_an_error_before_the_client_runs(
    client: ClientOptions, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.txt").write_text("plain")
    with pytest.raises(UsageError) as error, open_runner(HIAPI, HIAPI.models[0], client, runs=1):
        pytest.fail("the client is run")
    assert message in str(error.value)


KINDS = (ONCE, TWICE, EQUAL, PROMPTS, PICTURES, LONG, TOGETHER, CROWD, RECOVERY)


def test_a_callable_runs_in_virtual_time() -> None:
    with open_runner(HIAPI, HIAPI.models[0], CALLABLE, runs=1) as runner:
        (trace,) = runner.play([Case()])
    assert (runner.name, runner.kinds) == (KEEPS[1], (*KINDS, MEMBERS, *CLOCK_KINDS))
    assert [run.outcome.kind for run in trace.runs if run.outcome] == ["success"]


def test_many_runs_of_a_callable_are_shared_by_processes() -> None:
    with open_runner(HIAPI, HIAPI.models[0], replace(CALLABLE, parallel=2), runs=1) as runner:
        assert isinstance(runner.play, ProcessPool)
        assert runner.play.size == 2


def test_only_a_command_that_can_be_resumed_is_killed() -> None:
    real = replace(COMMAND, virtual=False)
    with open_runner(HIAPI, HIAPI.models[0], real, runs=1) as runner:
        assert (runner.name, runner.kinds, runner.virtual) == ("true", (*KINDS, FOLDER), False)
    with open_runner(HIAPI, HIAPI.models[0], replace(real, resume_command="true -x"), runs=1) as runner:
        assert runner.kinds == (*KINDS, FOLDER, KILLED, MOVED)
        (trace,) = runner.play([Case()])
    assert trace.exchanges == ()


def test_the_clock_of_a_command_is_set_in_virtual_time_only(tracer: Path) -> None:
    with open_runner(HIAPI, HIAPI.models[0], COMMAND, runs=1) as runner:
        assert (runner.kinds, runner.virtual) == ((*KINDS, FOLDER, *CLOCK_KINDS), True)
    with open_runner(HIAPI, HIAPI.models[0], replace(COMMAND, resume_command="true -x"), runs=1) as runner:
        assert runner.kinds == (*KINDS, FOLDER, KILLED, MOVED, *CLOCK_KINDS)


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (replace(NONE, python="a b.py:f"), ("--python", "a b.py:f")),
        (
            replace(NONE, python="a.py:f", contracts=Path("mine"), limit=5.0),
            ("--contracts", "mine", "--python", "a.py:f"),
        ),
        (replace(NONE, command=["node", "c.mjs"]), ("--", "node", "c.mjs")),
        (replace(NONE, command=["node", "c.mjs"], tls=True), ("--tls", "--", "node", "c.mjs")),
        (
            replace(NONE, command=["x"], resume_command="x --resume", limit=60.0, speed=2.5),
            ("--limit", "60", "--speed", "2.5", "--resume-command", "x --resume", "--", "x"),
        ),
        (replace(NONE, command=["x"], virtual=True), ("--virtual", "--", "x")),
        (replace(NONE, command=["x"], virtual=False), ("--real-time", "--", "x")),
    ],
)
def test_a_replay_names_the_client_and_the_options_that_are_not_default(
    client: ClientOptions, words: tuple[str, ...]
) -> None:
    assert replay_options(client) == words
