"""Correct clients that others wrote from the documents break only the rules for which findings.json has a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import rules
from tests.conftest import NIGHT, ROOT, many

CORRECT = ROOT / "tests" / "blind_clients" / "correct"
FINDINGS: dict[str, dict[str, str]] = json.loads((CORRECT / "findings.json").read_text())
CLIENTS = sorted(path.name for path in CORRECT.iterdir() if path.suffix in (".py", ".mjs"))
assert CLIENTS
# By day only a few clients, of another provider and library each.
BY_DAY = ("hiapi_urllib.py", "runflow_requests.py", "vtrix_httpx.py")
# Real seconds of a suite, on a busy machine.
LONGEST = 1_800


@pytest.mark.parametrize("name", CLIENTS if NIGHT else BY_DAY)
def test_a_correct_client_breaks_no_other_rule_than_its_listed_ones(name: str, tmp_path: Path) -> None:
    path = CORRECT / name
    if path.suffix == ".mjs" and shutil.which("node") is None:
        pytest.skip("needs node, which is not installed")
    runs = many(60 if path.suffix == ".mjs" else 500, 40)
    suite = [str(Path(sys.executable).with_name("hobbyhorse")), "conformance", "client"]
    suite += ["--provider", name.partition("_")[0], "--runs", str(runs), "--report", str(tmp_path)]
    suite += ["--", "node", str(path)] if path.suffix == ".mjs" else ["--parallel", "1", "--python", f"{path}:generate"]
    # The client's processes share this environment: a run is the same in each time zone.
    done = subprocess.run(suite, capture_output=True, text=True, timeout=LONGEST, check=False, env=dict(os.environ))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report: list[dict[str, Any]] = json.loads((tmp_path / "report.json").read_text())["rules"]
    found = {one["id"]: [finding["message"] for finding in one["findings"]] for one in report if one["findings"]}
    assert {rule: messages for rule, messages in found.items() if rule not in FINDINGS.get(name, {})} == {}


def test_the_listed_findings_are_of_existing_clients_and_rules() -> None:
    known = {rule.id: rule for rule in rules()}
    assert set(FINDINGS) <= set(CLIENTS)
    for name, found in FINDINGS.items():
        assert set(found) <= set(known), name
        for rule, why in found.items():
            assert why.endswith("."), (name, rule)
            # A MUST needs words of a document or a standard, which the client's author would accept.
            assert known[rule].level == "SHOULD" or why.count('"') >= 2, (name, rule)
