"""The layers of the package, checked by reading its import statements."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CONTRACTS, ROOT

PACKAGE = ROOT / "mockserver" / "hobbyhorse"

MAY_IMPORT: dict[str, set[str]] = {
    "contract": set(),
    "clock": set(),
    "state": set(),
    "media": {"contract"},
    "scenarios": {"contract"},
    "traces": {"contract", "scenarios"},
    "worlds": {"contract", "scenarios", "clock", "state", "traces"},
    "server": {"contract", "scenarios", "clock", "state", "media", "worlds", "traces"},
    "conformance": {"contract", "scenarios", "media", "traces"},
    "proxy": {"contract", "traces", "conformance"},
    "testing": {"contract", "scenarios", "clock", "worlds", "traces", "server"},
    "runners": {"contract", "clock", "traces", "conformance", "testing"},
    "cli": {"contract", "scenarios", "clock", "state", "media", "worlds", "traces", "server", "conformance", "proxy"}
    | {"testing", "runners"},
}
"""The layers: each folder of the package, and the folders that it may import; no folder imports `cli`."""

FORBIDDEN = {
    "contract": {"starlette", "httpx", "uvicorn"},
    "clock": {"starlette", "httpx", "uvicorn", "jsonschema_rs"},
    "state": {"starlette", "httpx", "uvicorn", "jsonschema_rs", "hypothesis"},
    "media": {"starlette", "httpx", "uvicorn", "jsonschema_rs", "hypothesis"},
    "scenarios": {"asyncio", "socket", "starlette", "httpx", "uvicorn", "hypothesis"},
    "server": {"hypothesis", "typer", "rich"},
    "worlds": {"hypothesis", "starlette", "httpx", "uvicorn"},
    "conformance": {"starlette", "uvicorn", "typer", "rich"},
    "proxy": {"starlette", "httpx", "uvicorn", "typer", "rich"},
}
"""The distributions and modules that a folder must not import at all."""

MOST_MODULES = 16
"""More modules than this in one folder are a list, not a structure."""
NAMES = {"__init__.py", "app.py", "faults.py", "pytest_plugin.py", "strategies.py"}
"""The documented import names that stand beside the folders."""


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def top(path: Path) -> str:
    """Return the folder of the package that a file belongs to, or "" for a documented import name beside them."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[str]:
    """Yield the full names that a file imports when it runs; imports for type checkers do not count."""
    tree = ast.parse(path.read_text())
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test):
            block.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_the_folders_that_its_own_may_import(path: Path) -> None:
    for name in imports(path):
        root, *rest = name.split(".")
        if root == "hobbyhorse" and rest and top(path):
            assert rest[0] == top(path) or rest[0] in MAY_IMPORT[top(path)], f"{path.name} imports {name}"


def test_the_table_has_every_folder_and_every_folder_says_what_it_is() -> None:
    assert {top(path) for path in modules()} - {""} == MAY_IMPORT.keys()
    assert {path.name for path in PACKAGE.glob("*.py")} == NAMES
    for path in PACKAGE.rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert said.count(". ") == 0, f"{path}: one sentence"
        assert said.endswith("."), path


def test_a_folder_has_few_modules() -> None:
    for folder in {path.parent for path in modules()}:
        count = len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        assert count <= MOST_MODULES or folder == PACKAGE / "cli" / "commands", f"{folder} has {count} modules"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_can_be_imported(path: Path) -> None:
    """Those, too, that are imported when they are first needed, by then perhaps in two threads at once.

    This compiles them; Python 3.11 may fail to parse in one thread what another parses too (python/cpython#106905).
    """
    name = ".".join(("hobbyhorse", *path.relative_to(PACKAGE).with_suffix("").parts))
    assert importlib.import_module(name).__file__ == str(path)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_does_not_know_what_it_may_not_know(path: Path) -> None:
    known = {name.split(".")[0] for name in imports(path)}
    assert not known & FORBIDDEN.get(top(path), set())


def test_the_modules_have_no_import_cycle() -> None:
    names = {"hobbyhorse." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in modules()}
    edges = {name: {found for found in imports(path) if found in names} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"import cycle: {' -> '.join((*way, name))}"
        if name not in done:
            for to in sorted(edges[name]):
                visit(to, (*way, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_no_file_of_the_package_names_a_provider() -> None:
    names = [contract.key for contract in CONTRACTS]
    for path in PACKAGE.rglob("*"):
        if path.is_file() and path.suffix in (".py", ".typed", ".json", ".html"):
            text = path.read_text().lower()
            assert not [name for name in names if name in text], path


def test_contracts_and_fixtures_hold_no_code() -> None:
    for directory in ("contracts", "fixtures"):
        assert not list((ROOT / directory).rglob("*.py"))


def test_a_session_of_pytest_that_does_not_use_the_fixture_imports_next_to_nothing() -> None:
    code = (
        "import sys, hobbyhorse.testing.pytest_plugin;"
        "print(*sorted(name for name in sys.modules if 'hobbyhorse' in name))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == (
        "hobbyhorse hobbyhorse.testing hobbyhorse.testing.pytest_plugin hobbyhorse.worlds hobbyhorse.worlds.mistakes"
    )


def test_serving_imports_nothing_that_only_other_commands_need() -> None:
    """What is slow to import and not needed to be ready stays out of the modules that `serve` loads."""
    slow = ["hypothesis", "PIL", "httpx", "imageio_ffmpeg", "rich", "jsonschema"]
    slow += ["hobbyhorse.server.world_trace", "hobbyhorse.traces.trace"]
    code = (
        "import sys, hobbyhorse.cli.main\n"
        "assert not [name for name in sys.modules if name.startswith('hobbyhorse.cli.commands.')]\n"
        "import hobbyhorse.cli.commands.serve\n"
        f"print([name for name in {slow} if name in sys.modules])\n"
        "print(*[name for name in sys.modules if name.startswith('hobbyhorse.cli.commands.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["[]", "hobbyhorse.cli.commands.serve"]
