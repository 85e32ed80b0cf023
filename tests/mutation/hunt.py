"""Run the tests against one mutant in a copy of the tree, beginning with the cheapest tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .plan import ROOT, Mutant

# A mutant that loops forever is dead: no unmutated stage takes half as long on two cores, and a module's own
# test file takes seconds.
STAGE_SECONDS = 400
OWN_STAGE_SECONDS = 100
WIDER = {
    "contract": ("tests/contract", "tests/server/test_app.py", "tests/test_documents.py"),
    "scenarios": ("tests/scenarios", "tests/server/test_callbacks.py", "tests/test_scenario_catalogue.py"),
    "worlds": ("tests/worlds", "tests/server", "tests/testing/test_local.py"),
    "conformance": ("tests/conformance", "tests/test_broken_clients.py"),
    "client": ("tests/conformance/client", "tests/test_broken_clients.py"),
    "server": ("tests/conformance/server", "tests/test_broken_servers.py"),
}
"""The tests that follow a module's own test file, by the folder of the module."""


@contextmanager
def copied_tree() -> Iterator[Path]:
    """Yield a temporary copy of the files that git tracks, in which mutants can be applied."""
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        yield tree


def stages(mutant: Mutant) -> Iterator[tuple[str, ...]]:
    """Yield the tests that could notice a mutant: its module's own file, then those of the folder and beyond."""
    _, _, *folders, name = mutant.path.split("/")
    own = "/".join(("tests", *folders, f"test_{name}"))
    if (ROOT / own).is_file():
        yield (own,)
    for wide in WIDER[next(one for one in reversed(folders) if one in WIDER)]:
        yield (wide,)


def passes(tree: Path, tests: Sequence[str]) -> bool:
    """Whether tests pass on a tree. Returns False also if they do not end."""
    limit = OWN_STAGE_SECONDS if tests[0].endswith(".py") else STAGE_SECONDS
    command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests)
    environment = {**os.environ, "PYTHONPATH": str(tree / "mockserver")}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def killer(tree: Path, mutant: Mutant) -> str | None:
    """Return the tests that notice a mutant, or None if all of them pass."""
    path = tree / mutant.path
    original = path.read_text()
    path.write_text(mutant.source())
    try:
        return next((" ".join(tests) for tests in stages(mutant) if not passes(tree, tests)), None)
    finally:
        path.write_text(original)


def work(mutants: Any, found: Any) -> None:
    """Run queued mutants in a copy of the tree until a None arrives; put (mutant, killer) into `found`."""
    with copied_tree() as tree:
        while (mutant := mutants.get()) is not None:
            found.put((mutant, killer(tree, mutant)))
