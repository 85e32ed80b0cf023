"""The clients to copy break no rule, in as many runs as HOBBYHORSE_RUNS says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.judge import check
from hobbyhorse.conformance.client.report import drill_of
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import find_client
from hobbyhorse.runners.client_suite import examine
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conftest import CONTRACTS, ROOT, many
from tests.test_examples import COMMANDS, NEEDS

RUNS = int(os.environ.get("HOBBYHORSE_RUNS", "500"))
SEED = int(os.environ.get("HOBBYHORSE_SEED", "0"))
CLIENTS = sorted((ROOT / "examples" / "python").glob("*.py"))
assert CLIENTS
EXPECTED = {f"SUB-0{n}" for n in (1, 5)} | {"POL-01", "POL-03", "RTY-01", "RTY-04"} | {"TMO-01", "RES-01", "RES-06"}
"""Rules that every client must have come to: what nobody observes proves nothing."""


@pytest.mark.parametrize("path", CLIENTS, ids=lambda path: path.stem)
def test_a_client_to_copy_breaks_no_rule(path: os.PathLike[str]) -> None:
    name = os.path.basename(path).removesuffix(".py")
    contract = next(contract for contract in CONTRACTS if name.startswith(contract.key))
    result = examine(find_client(f"{path}:generate"), contract, contract.models[0], runs=RUNS, seed=SEED)
    found = [
        f"{one.rule.id}: {drill_of(finding.trace)}: {'; '.join(finding.messages)}"
        for one in result.broken
        for finding in one.findings
    ]
    assert not found, "\n".join(found)
    passed = {one.rule.id for one in result.verdicts if one.verdict == "passed"}
    assert passed >= EXPECTED
    assert ("CBK-04" in passed) == name.endswith("callbacks")
    assert result.coverage.met >= result.coverage.total * 0.2


@pytest.mark.parametrize("name", ["hiapi.mjs", "vtrix.sh"])
def test_a_command_to_copy_breaks_no_rule(name: str, tmp_path: Path) -> None:
    provider, (program, file) = COMMANDS[name]
    words = [program, str(ROOT / "examples" / file)]
    if missing := [tool for tool in NEEDS[name] if shutil.which(tool) is None]:
        pytest.skip(f"needs {missing[0]}, which is not here")
    suite = [str(Path(sys.executable).with_name("hobbyhorse")), "conformance", "client", "--provider", provider]
    suite += ["--runs", str(many(150, 8)), "--speed", "60", "--limit", "20", "--report", str(tmp_path)]
    done = subprocess.run([*suite, "--", *words], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {rule["id"]: rule["verdict"] for rule in json.loads((tmp_path / "report.json").read_text())["rules"]}
    assert {verdicts[rule] for rule in ("POL-01", "TMO-01", "SCH-01", "SEC-01")} == {"passed"}


RATE_LIMITED = {"move": "rate_limited", "retry_after": 90, "times": "always"}
NO_ADDRESS = {"move": "wrong_type", "value": "video_url"}
NO_DATE = {"move": "wrong_type", "value": "created_at"}
EXPIRED = {"move": "expired", "times": "always"}
AT_ONCE = {"move": "server_error", "times": 3, "retry_after": 0}
FOUND: list[tuple[str, dict[str, Any]]] = [
    (
        "runcomfy",  # asked for the result again where it had been told to wait, once it had tried to cancel
        {"moves": {"result": [RATE_LIMITED]}, "timeline": {"move": "slow"}},
    ),
    *(  # asked for no new link once one had been missing
        (name, {"moves": {"status": [NO_ADDRESS], "media": [EXPIRED]}}) for name in ("hiapi", "runflow", "vtrix")
    ),
    (
        "runflow",  # was accused of asking again where it was refused, though an answer in between told of the job
        {"moves": {"status": [{"move": "unauthenticated"}, NO_DATE, {"move": "forbidden"}, {"move": "timeout"}]}},
    ),
    (
        "vtrix",  # was accused of shorter pauses where it had been told to come at once
        {"moves": {"status": [{"move": "server_error", "times": 3}, AT_ONCE]}},
    ),
]
"""What clients to copy broke a rule on before, found at night."""


@pytest.mark.parametrize(("name", "scenario"), FOUND)
def test_what_was_found_at_night_stays_mended(name: str, scenario: dict[str, Any]) -> None:
    contract = next(contract for contract in CONTRACTS if name.startswith(contract.key))
    with FakeSession(contract, contract.models[0]) as arena:
        client = find_client(str(ROOT / "examples" / "python" / f"{name}.py:generate"))
        trace = CallableRunner(arena, client).run(Case(scenario))
    assert not trace.unmet
    story = AnnotatedTrace(contract, trace)
    assert {rule.id: said for rule in rules() if (said := check(rule, story))} == {}
