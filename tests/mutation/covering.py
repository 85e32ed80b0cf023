"""The tests that run a line, from one run of all tests under coverage, and how long each takes.

Without this, each mutant would need every test of its folder and beyond, which takes minutes; with it, most mutants
take seconds. A test that never runs the changed line cannot notice the change.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

# These tests read sources as text: many a mutant would fail them, and prove nothing.
READING_SOURCES = ("tests/test_house_rules.py", "tests/test_layers.py", "tests/test_mutation.py")
DURATION = re.compile(r"^([\d.]+)s (?:call|setup)\s+(.*)$", re.MULTILINE)
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?::\w+(?:\[.*?\](?= - |$))?)", re.MULTILINE)
# Tests that may fail without a mutant: coverage makes everything slower, and some tests wait for other processes.
MOST_FAILED = 5


@dataclass(frozen=True, slots=True)
class Covering:
    """The ids of the tests that run each line of each file, by path and line, and the seconds of each slower test."""

    lines: dict[str, dict[int, frozenset[str]]]
    seconds: dict[str, float]

    def of(self, path: str, source: str, line: int) -> tuple[str, ...]:
        """Return the tests that run the statement on a line, the fastest first; none if only an import runs it."""
        by_line = self.lines.get(path, {})
        found = {test for one in statement_lines(source, line) for test in by_line.get(one, ())} - {""}
        return tuple(sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test)))


def statement_lines(source: str, line: int) -> range:
    """Return the lines of the innermost statement on a line; of a compound statement, those of its head."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or node.lineno):
            continue
        body = getattr(node, "body", None)
        end = body[0].lineno - 1 if isinstance(body, list) else node.end_lineno or node.lineno
        if line <= max(end, node.lineno):
            # ast.walk goes from the outside to the inside, so the last one is the innermost.
            found = range(node.lineno, max(end, node.lineno) + 1)
    return found


def measured(tree: Path) -> Covering:
    """Run the tests of a tree under coverage and return what they cover, without the few tests that failed.

    Raises RuntimeError if more than a few fail, because then the tree is broken.
    """
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "coverage"
        ignored = [word for path in READING_SOURCES for word in ("--ignore", path)]
        options = ["-q", "-n", "auto", "-p", "no:cacheprovider", "--durations=0", "--durations-min=0.02"]
        options += ["--cov=hobbyhorse", "--cov-context=test", "--cov-report="]
        environment = {**os.environ, "PYTHONPATH": str(tree / "mockserver"), "COVERAGE_FILE": str(data)}
        command = (sys.executable, "-m", "pytest", *options, *ignored, "tests")
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        failed = frozenset(FAILED.findall(done.stdout))
        if done.returncode and not 0 < len(failed) <= MOST_FAILED:
            raise RuntimeError(f"the tests fail without a mutant:\n{done.stdout[-4_000:]}")
        return read(data, tree, done.stdout, failed)


def read(data: Path, tree: Path, output: str, failed: frozenset[str] = frozenset()) -> Covering:
    """Read a coverage file with contexts, and the durations in the output of pytest. Leaves out the failed tests."""
    covered = CoverageData(str(data))
    covered.read()
    lines = {}
    for name in covered.measured_files():
        by_line = covered.contexts_by_lineno(name)
        # A context is `test id|phase`; what runs while a module is imported has none.
        lines[os.path.relpath(name, tree)] = {
            line: frozenset(context.rpartition("|")[0] for context in contexts) - failed
            for line, contexts in by_line.items()
        }
    seconds: dict[str, float] = {}
    for duration, test in DURATION.findall(output):
        seconds[test] = seconds.get(test, 0.0) + float(duration)
    return Covering(lines, seconds)
