"""Who may import whom: the layers of the package, kept by reading its import statements."""

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

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "expressions",
        "lifecycle",
        "activity",
        "clock",
        "racing",
        "ids",
        "moves",
        "traces",
        "signatures",
        "links",
        "sources",
        "cache",
        "media",
        "health",
        "framing",
        "unsent",
        "complaints",
    ),
    ("contract", "proxy", "nearest"),
    (
        "journal",
        "jobs",
        "worlds",
        "scenarios",
        "plays",
        "limits",
        "routes",
        "catalogue",
        "pages",
        "gallery",
        "conformance",
    ),
    ("callbacks", "studio", "distort", "watching"),
    ("recording",),
    ("calls", "mediahost", "faults"),
    ("inspection",),
    ("roles", "guard", "panel", "control"),
    ("trouble", "own"),
    ("app",),
    ("transport",),
    ("server",),
    ("mock",),
    ("remote", "arena"),
    ("demo", "pytest_plugin", "suite", "crew"),
    ("show", "verdicts", "server_verdicts", "usage"),
    ("conformance_server_cli", "conformance_cli", "proxy_cli"),
    ("cli",),
)
"""From below to above; a module imports from its own layer and those below."""

FORBIDDEN = {
    "expressions": {"starlette", "httpx", "uvicorn", "jsonschema_rs"},
    "lifecycle": {"starlette", "httpx", "uvicorn", "jsonschema_rs"},
    "activity": {"starlette", "httpx", "uvicorn", "jsonschema_rs"},
    "clock": {"starlette", "httpx", "uvicorn", "jsonschema_rs"},
    "media": {"starlette", "httpx", "uvicorn", "jsonschema_rs", "hypothesis"},
    "framing": {"starlette", "httpx", "uvicorn", "jsonschema_rs", "asyncio", "socket"},
    "proxy": {"starlette", "httpx", "uvicorn", "jsonschema_rs", "typer", "rich"},
    "watching": {"starlette", "httpx", "uvicorn", "asyncio", "socket", "typer", "rich"},
    "contract": {"starlette", "httpx", "uvicorn", "hypothesis"},
    "app": {"hypothesis", "typer", "rich"},
    "conformance": {"starlette", "uvicorn", "typer", "rich"},
}
"""What a module may not know at all."""

SERVER_ONLY = {
    "jobs",
    "worlds",
    "journal",
    "routes",
    "catalogue",
    "pages",
    "gallery",
    "callbacks",
    "studio",
    "calls",
    "roles",
    "inspection",
    "mediahost",
    "own",
    "plays",
    "limits",
    "trouble",
    "faults",
    "control",
    "guard",
    "panel",
    "recording",
    "activity",
    "mock",
    "arena",
    "crew",
}


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def part(path: Path) -> str:
    """Return the part of the package that a file belongs to: a module, or a subpackage."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Yield the full names that a file imports when it runs; what only type checkers see does not count."""
    tree = ast.parse(path.read_text())
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test):
            block.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "hobbyhorse"
            yield from ([f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module])


def rank(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_layer_and_those_below(path: Path) -> None:
    for name in imports(path):
        root, *rest = name.split(".")
        if root == "hobbyhorse" and rest:
            assert rank(rest[0]) <= rank(part(path)), f"{path.name} imports {name}"


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
    assert not known & FORBIDDEN.get(part(path), set())


def test_the_suite_imports_nothing_of_the_fake() -> None:
    for path in (PACKAGE / "conformance").rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[:1] != ["hobbyhorse"] or name.split(".")[1] not in SERVER_ONLY | {"app", "server"}


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


def test_the_layers_name_every_part_of_the_package() -> None:
    assert {part(path) for path in modules()} <= {name for layer in LAYERS for name in layer}


def test_a_session_of_pytest_that_does_not_use_the_fixture_imports_next_to_nothing() -> None:
    code = "import sys, hobbyhorse.testing.pytest_plugin; print(sorted(name for name in sys.modules if 'hobbyhorse' in name))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['hobbyhorse', 'hobbyhorse.worlds.mistakes', 'hobbyhorse.testing.pytest_plugin']"


def test_serving_imports_nothing_that_only_other_commands_need() -> None:
    """What is slow to import and not needed to be ready stays out of the modules that `serve` loads."""
    slow = ["hypothesis", "PIL", "httpx", "imageio_ffmpeg", "rich", "jsonschema"]
    slow += ["hobbyhorse.server.world_trace", "hobbyhorse.traces.trace"]
    code = (
        "import sys, hobbyhorse.cli.main, hobbyhorse.server.app, hobbyhorse.server.run;"
        f"print([name for name in {slow} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
