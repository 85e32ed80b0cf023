"""The entry point: help, version, exit statuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from hobbyhorse.contract.folder import ContractError
from tests.conftest import CONTRACTS, Done, Run

COMMAND = Path(sys.executable).with_name("hobbyhorse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command."),
        (["nonsense"], "No such command 'nonsense'."),
        (["prob"], "No such command 'prob'. Did you mean 'probe', 'proxy'?"),
        (["env"], "Missing argument 'provider'."),
        (["providers", "--nope"], "No such option: --nope"),
        (["serve", "--port", "70000"], "Invalid value for '--port': 70000 is not in the range 0<=x<=65535."),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments: list[str], message: str, run: Run) -> None:
    assert run(*arguments) == Done(2, "", f"hobbyhorse: {message}\n")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ContractError(Path("x.json"), ["a"], "is\nwrong"), Done(2, "", "hobbyhorse: x.json#/a: is wrong\n")),
        (KeyboardInterrupt(), Done(130, "", "")),
        (typer.Abort(), Done(130, "", "")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_end_of_a_command_decides_the_exit_status(
    error: BaseException, expected: Done, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: Path | None) -> None:
        raise error

    monkeypatch.setattr("hobbyhorse.cli.commands.env.load_contracts", fail)
    assert run("env", CONTRACTS[0].key) == expected


def test_another_error_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hobbyhorse.cli.commands.env.load_contracts", lambda directory: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("env", CONTRACTS[0].key)


def on_terminal(*words: str, **variables: str) -> bytes:
    """Run a command on a terminal of its own, and return its output."""
    ours, theirs = os.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", **variables}
    with subprocess.Popen([COMMAND, *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 65_536):
                printed += chunk
        except OSError:  # on Linux, the end of a terminal
            pass
    os.close(ours)
    return printed


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_no_color_leaves_no_colour() -> None:
    colour = re.compile(rb"\x1b\[[0-9;]*(?<![0-9])(?:3[0-8]|4[0-8]|9[0-7])(?![0-9])[0-9;]*m")
    assert colour.search(on_terminal("conformance", "client", "--help"))
    assert not colour.search(on_terminal("conformance", "client", "--help", NO_COLOR="1"))


def test_the_version_is_that_of_the_distribution(run: Run) -> None:
    assert run("--version") == Done(0, f"hobbyhorse {version('hobbyhorse')}\n", "")


def test_help_lists_every_command(run: Run) -> None:
    done = run("--help")
    assert (done.status, done.err) == (0, "")
    assert {"serve", "demo", "providers", "scenarios", "env", "health", "video", "probe"} <= set(done.out.split())
    assert {"conformance", "contracts", "proxy", "rules"} <= set(done.out.split())


def test_the_installed_command_is_this_one(run: Run) -> None:
    done = subprocess.run([COMMAND, "env", CONTRACTS[0].key], capture_output=True, text=True, check=False)
    assert Done(done.returncode, done.stdout, done.stderr) == run("env", CONTRACTS[0].key)
