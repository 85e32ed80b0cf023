"""The errors of a state are all of it that a server without one imports."""

from __future__ import annotations

import subprocess
import sys

CODE = (
    "import sys, hobbyhorse.cli.commands.serve; print(*sorted(n for n in sys.modules if n.startswith('hobbyhorse.')))"
)
# What only some servers need: a state, `--watch`, `--processes`, a scrape.
LATE = {
    "hobbyhorse.state.store",
    "hobbyhorse.state.records",
    "hobbyhorse.worlds.unkept",
    "hobbyhorse.server.reloading.watch",
    "hobbyhorse.cli.processes.supervisor",
    "hobbyhorse.server.metrics.gauges",
}


def test_a_server_without_a_state_imports_no_store() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert "hobbyhorse.state.errors" in found
    assert not found & LATE
