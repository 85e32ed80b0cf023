"""The example clients break no rule, in HOBBYHORSE_RUNS runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.cli.commands.conformance_client import PROFILE_RUNS
from hobbyhorse.conformance.client.cases import CALLABLE_KINDS, HAPPY, Case, case_of
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import STUCK_JOB, Plan, Search
from hobbyhorse.conformance.judge import check
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import find_client
from hobbyhorse.runners.client_suite import examine
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.conftest import CONTRACTS, NIGHT, ROOT, many
from tests.test_examples import COMMANDS, NEEDS

RUNS = int(os.environ.get("HOBBYHORSE_RUNS", "500"))
SEED = int(os.environ.get("HOBBYHORSE_SEED", "0"))
CLIENTS = sorted((ROOT / "examples" / "python").glob("*.py"))
assert CLIENTS
# The clients with the most single faults, with and without callbacks.
MOST_FAULTS = [path for path in CLIENTS if path.stem in ("runcomfy", "runflow_callbacks")]
assert len(MOST_FAULTS) == 2
# Rules that every client must have met: a rule that is not observed proves nothing.
EXPECTED = {f"SUB-0{n}" for n in (1, 5)} | {"POL-01", "POL-03", "RTY-01", "RTY-04"} | {"TMO-01", "RES-01", "RES-06"}


@pytest.mark.parametrize("path", CLIENTS, ids=lambda path: path.stem)
def test_an_example_client_breaks_no_rule(path: os.PathLike[str]) -> None:
    name = os.path.basename(path).removesuffix(".py")
    contract = next(contract for contract in CONTRACTS if name.startswith(contract.key))
    result = examine(find_client(f"{path}:generate"), contract, contract.models[0], runs=RUNS, seed=SEED)
    found = [
        f"{one.rule.id}: {case_of(finding.trace)}: {'; '.join(finding.messages)}"
        for one in result.broken
        for finding in one.findings
    ]
    assert not found, "\n".join(found)
    passed = {one.rule.id for one in result.verdicts if one.verdict == "passed"}
    assert passed >= EXPECTED
    assert ("CBK-04" in passed) == name.endswith("callbacks")
    assert result.coverage.met >= result.coverage.total * 0.2


@pytest.mark.parametrize("path", CLIENTS if NIGHT else MOST_FAULTS, ids=lambda path: path.stem)
def test_the_profile_for_ci_tries_each_single_fault_and_each_variation(path: Path) -> None:
    contract = next(contract for contract in CONTRACTS if path.stem.startswith(contract.key))
    with FakeSession(contract, contract.models[0]) as session:
        runner = CallableRunner(session, find_client(f"{path}:generate"))
        runner.fit()
        real = {case.key: runner.run(case) for case in (HAPPY, STUCK_JOB)}

        def run(cases: Sequence[Case]) -> Iterator[Trace]:
            """Run a client that ends each other case like the faultless one: only the plan matters here."""
            for case in cases:
                same: Any = {"scenario": case.scenario, "drill": case.kind, "point": case.point, "order": case.order}
                yield real[case.key] if case.key in real else replace(real[HAPPY.key], **same)

        runs = PROFILE_RUNS["ci"][0]
        search = Search(contract, run, Plan(runs, SEED, ("SUB-01",), CALLABLE_KINDS))
        result = search.run("client", contract.models[0].id)
    assert result.coverage.untried == ()
    assert result.runs == runs
    # With fewer runs than single faults, those without a run are listed.
    few = Search(contract, run, Plan(100, SEED, ("SUB-01",), CALLABLE_KINDS)).run("client", contract.models[0].id)
    assert len(few.coverage.untried) > result.coverage.total / 2


@pytest.mark.parametrize("name", ["hiapi.mjs", "vtrix.sh"])
def test_an_example_command_breaks_no_rule(name: str, tmp_path: Path) -> None:
    provider, (program, file) = COMMANDS[name]
    words = [program, str(ROOT / "examples" / file)]
    if missing := [tool for tool in NEEDS[name] if shutil.which(tool) is None]:
        pytest.skip(f"needs {missing[0]}, which is not installed")
    suite = [str(Path(sys.executable).with_name("hobbyhorse")), "conformance", "client", "--provider", provider]
    suite += ["--runs", str(many(150, 8)), "--speed", "60", "--limit", "20", "--report", str(tmp_path)]
    done = subprocess.run([*suite, "--", *words], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {rule["id"]: rule["verdict"] for rule in json.loads((tmp_path / "report.json").read_text())["rules"]}
    assert {verdicts[rule] for rule in ("POL-01", "TMO-01", "SCH-01", "SEC-01")} == {"passed"}


RATE_LIMITED = {"move": "rate_limited", "retry_after": 90, "times": "always"}
NO_URL = {"move": "wrong_type", "value": "video_url"}
NO_DATE = {"move": "wrong_type", "value": "created_at"}
EXPIRED = {"move": "expired", "times": "always"}
IMMEDIATELY = {"move": "server_error", "times": 3, "retry_after": 0}
# Scenarios in which an example client broke a rule, or was accused wrongly, in longer runs.
FOUND: list[tuple[str, dict[str, Any]]] = [
    (
        "runcomfy",  # after its cancellation, it requested the result again without the wait of Retry-After
        {"moves": {"result": [RATE_LIMITED]}, "timeline": {"move": "slow"}},
    ),
    *(  # they requested no new link once a link had been missing
        (name, {"moves": {"status": [NO_URL], "media": [EXPIRED]}}) for name in ("hiapi", "runflow", "vtrix")
    ),
    (
        "runflow",  # it was accused of repeating a refused request, although a response in between was about the job
        {"moves": {"status": [{"move": "unauthenticated"}, NO_DATE, {"move": "forbidden"}, {"move": "timeout"}]}},
    ),
    (
        "vtrix",  # it was accused of shorter pauses although Retry-After was 0
        {"moves": {"status": [{"move": "server_error", "times": 3}, IMMEDIATELY]}},
    ),
]


@pytest.mark.parametrize(("name", "scenario"), FOUND)
def test_earlier_findings_stay_fixed(name: str, scenario: dict[str, Any]) -> None:
    contract = next(contract for contract in CONTRACTS if name.startswith(contract.key))
    with FakeSession(contract, contract.models[0]) as session:
        client = find_client(str(ROOT / "examples" / "python" / f"{name}.py:generate"))
        trace = CallableRunner(session, client).run(Case(scenario))
    assert not trace.unmet
    annotated = AnnotatedTrace(contract, trace)
    assert {rule.id: found for rule in rules() if (found := check(rule, annotated).breaches)} == {}
