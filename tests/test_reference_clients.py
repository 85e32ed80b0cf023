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
from hobbyhorse.runners.virtual.command_runner import VirtualCommandRunner
from hobbyhorse.runners.virtual.self_check import checked_tracer
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.conftest import CONTRACTS, NIGHT, ROOT, many
from tests.runners.virtual.conftest import tracer
from tests.test_examples import COMMANDS, NEEDS

__all__ = ["tracer"]

RUNS = int(os.environ.get("HOBBYHORSE_RUNS", "300"))
SEED = int(os.environ.get("HOBBYHORSE_SEED", "0"))
CLIENTS = sorted((ROOT / "examples" / "python").glob("*.py"))
assert CLIENTS
# By day two of them, with and without callbacks, unless a number of runs is wanted.
WHOLE = NIGHT or "HOBBYHORSE_RUNS" in os.environ
BY_DAY = CLIENTS if WHOLE else CLIENTS[1:4:2]
# The clients with the most single faults, with and without callbacks.
MOST_FAULTS = [path for path in CLIENTS if path.stem in ("runcomfy", "runflow_callbacks")]
assert len(MOST_FAULTS) == 2
# Rules that every client must have met: a rule that is not observed proves nothing.
EXPECTED = {f"SUB-0{n}" for n in (1, 5)} | {"POL-01", "POL-03", "RTY-01", "RTY-04"} | {"TMO-01", "RES-01", "RES-06"}


@pytest.mark.parametrize("path", BY_DAY, ids=lambda path: path.stem)
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
    suite += ["--runs", str(many(150, 8)), "--speed", "60", "--limit", "40", "--report", str(tmp_path)]
    done = subprocess.run([*suite, "--", *words], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {rule["id"]: rule["verdict"] for rule in json.loads((tmp_path / "report.json").read_text())["rules"]}
    assert {verdicts[rule] for rule in ("POL-01", "TMO-01", "SCH-01", "SEC-01")} == {"passed"}


# Single faults, two timelines, two ways to run, and two steps of the clock.
CASES = [
    *(
        Case({"moves": {"submit": [{"move": name}]}})
        for name in ("server_error", "accept_then_drop", "unauthenticated")
    ),
    Case({"moves": {"status": [{"move": "rate_limited", "retry_after": 90}]}}),
    Case({"moves": {"status": [{"move": "timeout"}]}}),
    Case({"moves": {"status": [{"move": "server_error", "times": "always"}]}}),
    Case({"moves": {"media": [{"move": "expired"}]}}),
    STUCK_JOB,
    Case({"timeline": {"move": "fail", "stage": "fail"}}),
    *(Case({}, kind) for kind in ("twice", "together", "ahead", "behind")),
]
# The clients in other languages, each with its provider and the tools that it needs.
OTHERS = {
    "javascript/hiapi.mjs": ("hiapi", ("node",)),
    "bash/vtrix.sh": ("vtrix", ("bash", "curl", "getent", "sha256sum")),
    "php/hiapi.php": ("hiapi", ("php",)),
    "ruby/hiapi.rb": ("hiapi", ("ruby",)),
    "go/hiapi.go": ("hiapi", ("go",)),
    "java/Hiapi.java": ("hiapi", ("java", "javac")),
}
# Compiling takes longer than the runs of a day.
COMPILED = ("go/hiapi.go", "java/Hiapi.java")
# Runs by night: a JVM needs seconds for each, and two clients get as many as the Python clients.
NIGHTLY = {"java/Hiapi.java": 50, "javascript/hiapi.mjs": RUNS, "bash/vtrix.sh": RUNS}


def words_of(name: str, folder: Path) -> list[str]:
    """Return the command of a client, after its compilation."""
    path = ROOT / "examples" / name
    if name == "go/hiapi.go":
        subprocess.run(["go", "build", "-o", str(folder / "client"), str(path)], check=True)
        return [str(folder / "client")]
    if name == "java/Hiapi.java":
        subprocess.run(["javac", "-d", str(folder), str(path)], check=True)
        return ["java", "-cp", str(folder), "Hiapi"]
    return [OTHERS[name][1][0], str(path)]


@pytest.mark.usefixtures("tracer")
@pytest.mark.parametrize("name", OTHERS)
def test_a_client_in_another_language_breaks_no_rule_in_virtual_time(name: str, tmp_path: Path) -> None:
    provider, tools = OTHERS[name]
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"needs {missing[0]}, which is not installed")
    if name in COMPILED and not NIGHT:
        pytest.skip("its compilation takes long; runs by night")
    suite = [str(Path(sys.executable).with_name("hobbyhorse")), "conformance", "client", "--provider", provider]
    suite += ["--virtual", "--limit", "120", "--runs", str(many(NIGHTLY.get(name, 500), 8)), "--seed", str(SEED)]
    suite += ["--report", str(tmp_path / "report"), "--", *words_of(name, tmp_path)]
    done = subprocess.run(suite, capture_output=True, text=True, timeout=many(40_000, 900), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    verdicts = {rule["id"]: rule["verdict"] for rule in report["rules"]}
    # A few runs do not reach the cases in which the clock is set.
    seen = ("POL-01", "TMO-01", "SCH-01", "SEC-01", *(("CLK-01",) if NIGHT else ()))
    assert {verdicts[rule] for rule in seen} == {"passed"}
    assert report["summary"]["unjudged"] == {}


@pytest.mark.usefixtures("tracer")
def test_a_callable_and_a_program_get_the_same_verdicts(tmp_path: Path) -> None:
    """Both run the same cases; a program has a folder besides, and reports its outcome itself."""
    path, contract = ROOT / "examples" / "python" / "hiapi.py", next(one for one in CONTRACTS if one.key == "hiapi")
    with FakeSession(contract, contract.models[0]) as session:
        callable_runner = CallableRunner(session, find_client(f"{path}:generate"))
        program = VirtualCommandRunner(session, [sys.executable, str(path)], limit=120.0, tracer=checked_tracer())
        cases = [case for case in CASES if case.kind in CALLABLE_KINDS][:: many(1, 4)]
        for case in cases:
            halves = [AnnotatedTrace(contract, runner.run(case)) for runner in (callable_runner, program)]
            found = [{rule.id for rule in rules() if check(rule, half).breaches} for half in halves]
            assert found[0] == found[1], str(case)
            # Only a program can report that an outcome is unknown.
            ends = [[run.outcome.kind == "success" for run in half.trace.runs if run.outcome] for half in halves]
            assert ends[0] == ends[1], str(case)


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
