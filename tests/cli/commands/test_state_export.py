"""`hobbyhorse state export`: a state as JSON lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.commands.kept_state import write_state


def test_each_record_is_one_line(tmp_path: Path) -> None:
    # In a process of its own, because it writes bytes.
    command = [str(Path(sys.executable).with_name("hobbyhorse")), "state", "export", str(write_state(tmp_path))]
    done = subprocess.run(command, check=True, capture_output=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["kind"] for one in found] == ["meta", "head", "job"]
    assert found[2]["record"]["id"] == "a-job"
