"""A command runs in virtual time if that works, and the user is told if it does not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hobbyhorse.cli.usage import complain
from hobbyhorse.conformance.client.cases import HAPPY
from hobbyhorse.runners.virtual import mode as modes
from hobbyhorse.runners.virtual.compiled import Unavailable
from hobbyhorse.runners.virtual.mode import CommandOptions, command_runner
from tests.cli.sample_clients import HIAPI
from tests.conftest import ROOT

EXAMPLE = [sys.executable, str(ROOT / "examples" / "python" / "hiapi.py")]
OPTIONS = CommandOptions(
    EXAMPLE, None, seed=0, limit=60.0, speed=None, parallel=None, virtual=None, fit=None, complain=complain
)
PROVIDERS = [(HIAPI, HIAPI.models[0])]


def refused() -> Path:
    raise Unavailable("ptrace is refused")


def mode(options: CommandOptions) -> bool:
    """Return whether a command runs in virtual time."""
    with command_runner(PROVIDERS, options) as (runner, _):
        return runner.in_virtual_time


def test_a_command_runs_in_virtual_time_if_that_works(tracer: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with command_runner(PROVIDERS, OPTIONS) as (runner, fit):
        assert runner.in_virtual_time
        assert fit.share == 1
        (trace,) = runner([HAPPY])
    assert trace.virtual
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("options", [replace(OPTIONS, virtual=False), replace(OPTIONS, speed=2.0)])
def test_real_time_and_a_speed_are_obeyed(options: CommandOptions, capfd: pytest.CaptureFixture[str]) -> None:
    assert not mode(options)
    assert capfd.readouterr().err == ""


def test_a_machine_without_virtual_time_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(modes, "checked_tracer", refused)
    assert not mode(OPTIONS)
    assert capfd.readouterr().err == "hobbyhorse: the command runs in real time: ptrace is refused\n"
    with pytest.raises(Unavailable, match="ptrace is refused"):
        mode(replace(OPTIONS, virtual=True))


def test_a_client_with_an_uncovered_call_runs_in_real_time(
    waits: str, tracer: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "client.sh"
    script.write_text(f"{waits} ptrace\nexec {' '.join(EXAMPLE)}\n")
    options = replace(OPTIONS, argv=["sh", str(script)])
    assert not mode(options)
    assert capfd.readouterr().err == "hobbyhorse: the command runs in real time: the client uses ptrace\n"
    with pytest.raises(Unavailable, match="the client uses ptrace"):
        mode(replace(options, virtual=True))


def test_a_client_that_works_in_real_time_only_runs_in_real_time(
    tracer: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "client.sh"
    script.write_text(f'[ "$(date +%Y%m%d)" = 20260101 ] && exit 1\nexec {" ".join(EXAMPLE)}\n')
    assert not mode(replace(OPTIONS, argv=["sh", str(script)]))
    assert "gets its video there, but not in virtual time" in capfd.readouterr().err


def test_a_client_that_never_works_stays_in_virtual_time(tracer: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert mode(replace(OPTIONS, argv=["false"]))
    assert capfd.readouterr().err == ""


def test_another_machine_has_to_ask_for_virtual_time(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(modes, "machine", lambda: "aarch64")
    assert not mode(OPTIONS)
    assert "virtual time was not tested on aarch64; try --virtual" in capfd.readouterr().err
