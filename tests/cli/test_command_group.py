"""The lazy command group: a command is one file, listed without an import, and imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_group

from hobbyhorse.cli import commands
from hobbyhorse.cli.command_group import CommandGroup
from hobbyhorse.cli.main import app

LINT = '''
import typer

PRINTED = "linted"


def command(name: str = "all") -> None:
    """Lint the things.

    Exit status 0: no problem.
    """
    typer.echo(f"{PRINTED} {name}")
'''
BROKEN = '''
import no_such_module


def command() -> None:
    """Break when imported."""
'''
PACKAGE = "made_up_commands"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with the commands `lint`, `things lint` and `broken`, which cannot be imported."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "things.py").write_text('"""Work on things."""\n')
    for name, source in (("lint", LINT), ("things_lint", LINT), ("broken", BROKEN)):
        (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    yield folder
    for name in imported():
        del sys.modules[name]


def imported() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == PACKAGE]


def invoke(*words: str) -> Any:
    return CommandGroup(name="made-up", package=PACKAGE).main(words, prog_name="made-up", standalone_mode=False)


def test_a_file_is_a_command_and_a_file_with_a_prefix_is_a_command_of_a_group(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    invoke("lint", "--name", "one")
    invoke("things", "lint", "--name", "two")
    assert capsys.readouterr().out == "linted one\nlinted two\n"
    (folder / "things_new.py").write_text(LINT.replace("linted", "made"))
    invoke("things", "new")
    assert capsys.readouterr().out == "made all\n"


def test_a_command_that_runs_imports_no_other(folder: Path) -> None:
    invoke("things", "lint")
    assert imported() == [PACKAGE, f"{PACKAGE}.things_lint"]


def test_the_help_lists_every_command_with_its_first_line_and_imports_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    invoke("--help")
    rows = [line.strip("│ ").split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert rows[-3:] == [
        ["broken", "Break when imported."],
        ["lint", "Lint the things."],
        ["things", "Work on things."],
    ]
    assert imported() == [PACKAGE]


def test_the_help_of_a_group_is_the_docstring_of_its_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invoke("things", "--help")
    told = capsys.readouterr().out
    assert "Work on things." in told
    assert "Lint the things." in told
    (folder / "things.py").unlink()
    invoke("things", "lint")
    invoke("things", "--help")
    assert "Work on things." not in capsys.readouterr().out


def test_the_help_of_a_command_is_its_whole_docstring(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invoke("lint", "--help")
    told = capsys.readouterr().out
    assert "Usage: made-up lint [OPTIONS]" in told
    assert "Exit status 0: no problem." in told
    assert "--name" in told


@pytest.mark.parametrize("words", [("lin",), ("things", "lin")])
def test_an_unknown_command_is_an_error_that_names_the_nearest(words: tuple[str, ...], folder: Path) -> None:
    with pytest.raises(Exception, match=r"No such command 'lin'\. Did you mean 'lint'\?"):
        invoke(*words)


def test_a_command_that_cannot_be_imported_fails_only_when_it_runs(folder: Path) -> None:
    invoke("lint")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        invoke("broken")


def test_a_module_that_names_a_prefix_lets_variables_set_its_options(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINT_NAME", "of the environment")
    invoke("lint")
    (folder / "prefixed.py").write_text(f'{LINT}\nENVIRONMENT = "LINT"\n')
    invoke("prefixed")
    invoke("prefixed", "--name", "of the option")
    monkeypatch.setenv("LINT_NAME", "")
    invoke("prefixed")
    found = capsys.readouterr()
    assert found.out.splitlines() == [
        f"linted {name}" for name in ("all", "of the environment", "of the option", "all")
    ]
    assert found.err == ""


def test_a_variable_that_sets_no_option_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "prefixed.py").write_text(f'{LINT}\nENVIRONMENT = "LINT"\n')
    monkeypatch.setenv("LINT_NAMES", "one")
    monkeypatch.setenv("LINTER_NAME", "of another program")
    invoke("prefixed")
    found = capsys.readouterr()
    assert found.out == "linted all\n"
    assert found.err == "hobbyhorse: the variable LINT_NAMES sets no option; did you mean LINT_NAME?\n"


COMMANDS = sorted(path.stem for path in Path(commands.__file__).parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_file_of_hobbyhorse_is_a_command_with_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    get_group(app).main([*name.split("_"), "--help"], prog_name="hobbyhorse", standalone_mode=False)
    assert f"Usage: hobbyhorse {name.replace('_', ' ')} " in capsys.readouterr().out


def test_every_command_of_hobbyhorse_has_one_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    groups: list[TyperGroup] = [get_group(app)]
    for group in groups:
        group.main(["--help"], prog_name="hobbyhorse", standalone_mode=False)
        groups += [command for command in group.commands.values() if isinstance(command, TyperGroup)]
        for name, command in group.commands.items():
            assert (command.help or "").splitlines()[0].endswith("."), name
    assert {"conformance", "contracts"} <= {group.name for group in groups}
    capsys.readouterr()
