"""Find commands by listing a package, and import each command only when it runs. Knows no command by name.

A module `serve` is the command `serve`, and a module `contracts_lint` is the command `contracts lint`. Each defines a
function `command`: its parameters are the command's options, and its docstring is the help. A group's help is the
docstring of the module of its name, here `contracts`. A module may name a prefix of environment variables, in
`ENVIRONMENT`: then each option of the command can be set by a variable, too.

The help of a group lists the first line of each docstring. It is read from the source, without importing the module:
importing every command takes half a second, and `serve` must not wait for the imports of the others.
"""

from __future__ import annotations

import ast
import difflib
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup, TyperOption

from hobbyhorse.cli.usage import complain

PACKAGE = "hobbyhorse.cli.commands"


class CommandGroup(TyperGroup):
    """The commands of a package whose module names begin with a prefix."""

    def __init__(self, *, package: str = PACKAGE, prefix: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self._package, self._prefix = package, prefix
        self._folder = Path(import_module(package).__path__[0])
        modules = [path.stem for path in sorted(self._folder.glob("[a-z]*.py"))]
        names = [name.removeprefix(prefix) for name in modules if name.startswith(prefix)]
        groups = {name.partition("_")[0] for name in names if "_" in name}
        # A command is only a name until it runs; Typer needs the names to list them, and to guess a misspelt one.
        for name in sorted(groups.union(name for name in names if "_" not in name)):
            self.commands[name] = self._subgroup(name) if name in groups else TyperCommand(name)

    def _subgroup(self, name: str) -> CommandGroup:
        file = self._file(name)
        return CommandGroup(
            name=name,
            help=ast.get_docstring(_parsed(file)) if file.is_file() else None,
            package=self._package,
            prefix=f"{self._prefix}{name}_",
        )

    def _file(self, name: str) -> Path:
        return self._folder / f"{self._prefix}{name}.py"

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command to run, and import its module."""
        # Not in get_command, because the help calls get_command for each listed command.
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None or isinstance(command, CommandGroup) else self._load(name), rest

    def _load(self, name: str) -> Any:
        # Typer makes a command of a function only through an app; an app of one command is this command, not a group.
        app, module = typer.Typer(add_completion=False), import_module(f"{self._package}.{self._prefix}{name}")
        app.command(name)(module.command)
        command = typer.main.get_command(app)
        if (prefix := getattr(module, "ENVIRONMENT", None)) is not None:
            read_environment(command, prefix)
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with one line for each command."""
        for name, command in self.commands.items():
            if not isinstance(command, CommandGroup):
                command.help = _docstring_of_command(self._file(name))
        super().format_help(ctx, formatter)


def read_environment(command: Any, prefix: str) -> None:
    """Let variables set the options of a command: for `--public-url`, PREFIX and `_PUBLIC_URL`.

    Complains about a variable that sets no option.
    """
    known: set[str] = set()
    for option in command.params:
        if isinstance(option, TyperOption):
            spelled = [one.lstrip("-").replace("-", "_").upper() for one in option.opts if one.startswith("--")]
            given = option.envvar or []
            option.envvar = [*([given] if isinstance(given, str) else given), *(f"{prefix}_{one}" for one in spelled)]
            # One sentence of the command's help tells of all variables.
            option.show_envvar = False
            known.update(option.envvar)
    for name in sorted(os.environ):
        if name.startswith(f"{prefix}_") and name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            complain(f"the variable {name} sets no option" + (f"; did you mean {near[0]}?" if near else ""))


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _docstring_of_command(file: Path) -> str | None:
    for node in _parsed(file).body:
        if isinstance(node, ast.FunctionDef) and node.name == "command":
            return ast.get_docstring(node)
    return None
