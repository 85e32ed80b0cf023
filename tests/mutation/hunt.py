"""Run the tests that could notice one mutant, the fastest first, in a copy of the tree."""

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

from .covering import Covering
from .plan import ROOT, Mutant

# The tests of one mutant take at most this long without it. Slower ones are left out, so a survivor may be noticed by
# one of them: the score is a lower bound.
MOST_SECONDS = 60.0
MOST_TESTS = 400
# A mutant that loops forever is dead: no tests take this much longer than they did under coverage.
SLOWER, START_SECONDS = 5.0, 40.0
# A test that is not among the measured durations takes less than their minimum.
UNMEASURED_SECONDS = 0.02


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


def chosen(mutant: Mutant, covering: Covering) -> tuple[tuple[str, ...], float]:
    """Return the tests that could notice a mutant, the fastest first, and their seconds.

    What only an import runs, such as a constant, is left to the tests of the module.
    """
    own = "/".join(("tests", *mutant.path.split("/")[2:-1], f"test_{mutant.path.rpartition('/')[2]}"))
    covered = covering.of(mutant.path, (ROOT / mutant.path).read_text(), mutant.line)
    if not covered:
        return ((own,) if (ROOT / own).is_file() else ()), MOST_SECONDS
    tests, total = list[str](), 0.0
    # The module's own tests first: they are most likely to notice.
    for test in sorted(covered, key=lambda one: not one.startswith(f"{own}::"))[:MOST_TESTS]:
        total += covering.seconds.get(test, UNMEASURED_SECONDS)
        if tests and total > MOST_SECONDS:
            break
        tests.append(test)
    return tuple(tests), total


def passes(tree: Path, tests: Sequence[str], seconds: float) -> bool:
    """Whether tests pass on a tree. Returns False also if they do not end."""
    command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests)
    environment = {**os.environ, "PYTHONPATH": str(tree / "mockserver")}
    limit = START_SECONDS + SLOWER * seconds
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def killed(tree: Path, mutant: Mutant, covering: Covering) -> bool:
    """Whether a test notices a mutant."""
    tests, seconds = chosen(mutant, covering)
    path = tree / mutant.path
    original = path.read_text()
    path.write_text(mutant.source())
    try:
        return bool(tests) and not passes(tree, tests, seconds)
    finally:
        path.write_text(original)


def work(mutants: Any, found: Any, covering: Covering) -> None:
    """Run queued mutants in a copy of the tree until a None arrives; put (mutant, noticed) into `found`."""
    with copied_tree() as tree:
        while (mutant := mutants.get()) is not None:
            found.put((mutant, killed(tree, mutant, covering)))
