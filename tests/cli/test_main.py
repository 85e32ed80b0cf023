"""The entry point: help, version, exit statuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CONTRACTS, Done, Run

COMMAND = Path(sys.executable).with_name("hobbyhorse")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["env"], ["providers", "--nope"], ["contracts"], ["contracts", "nonsense"], []], ids=str
)
def test_a_command_that_is_none_is_one_line_and_exit_status_2(arguments: list[str], run: Run) -> None:
    done = run(*arguments)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1, done.err


COMMANDS = ("serve", "demo", "providers", "scenarios", "env", "health", "video", "probe", "contracts")


def test_help_names_every_command(run: Run) -> None:
    done = run("--help")
    assert (done.status, done.err) == (0, "")
    assert all(command in done.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, run: Run) -> None:
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert "Usage:" in done.out


def test_the_installed_command_is_this_one(run: Run) -> None:
    done = subprocess.run([COMMAND, "env", CONTRACTS[0].key], capture_output=True, text=True, check=False)
    assert Done(done.returncode, done.stdout, done.stderr) == run("env", CONTRACTS[0].key)
