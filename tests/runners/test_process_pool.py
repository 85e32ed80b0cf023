"""A process pool runs test cases as one process would, and leaves no process behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import HAPPY, TWICE, Case, case_of
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import CannotRun
from hobbyhorse.conformance.judge import check
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import ClientError
from hobbyhorse.runners.process_pool import ProcessPool, WorkerSetup, _Worker, fresh_runner, processes
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.conftest import CONTRACTS, ROOT
from tests.runners.test_against_fake import naive
from tests.runners.test_command import eventually

HIAPI = next(contract for contract in CONTRACTS if contract.key == "hiapi")
MODEL = HIAPI.models[0].id
NAIVE = "tests.runners.test_against_fake:naive"
COMMAND = str(Path(sys.executable).with_name("hobbyhorse"))
# Real seconds to wait for processes to end: long, since the machine may be busy, and never waited for in full.
LONGEST = 60.0

ENDS_ITSELF = """
import ctypes

def generate(base_url, api_key, request):
    ctypes.CDLL(None)._exit(3)
"""
STAYS = """
import signal, threading, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(1_000,)).start()

def generate(base_url, api_key, request):
    pass
"""
SPINS = """
import pathlib

def generate(base_url, api_key, request):
    pathlib.Path("spins").touch()
    while True:
        pass
"""

SPINS_LATER = """
import pathlib

CALLS = []

def generate(base_url, api_key, request):
    CALLS.append(request)
    while len(CALLS) > 1:
        pathlib.Path("spins").touch()
"""

# The suite makes its first two runs one after the other. From the third on, each process waits, in real time, for the
# others: the runs end only if SIZE processes are at work.
MEETS = """
import os, pathlib, subprocess
import hiapi

RUNS, SIZE = [], int(os.environ["SIZE"])

def generate(*given):
    print("in", os.getpid(), flush=True)  # a worker that is slow to exit is killed, with its buffers
    pathlib.Path(f"in-{SIZE}-{os.getpid()}").touch()
    RUNS.append(given)
    while len(RUNS) > 2 and len(list(pathlib.Path().glob(f"in-{SIZE}-*"))) < SIZE:
        subprocess.run(["sleep", "0.05"])
    return hiapi.generate(*given)
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "client.py").write_text(text)
        monkeypatch.chdir(tmp_path)
        return "client.py:generate"

    return write


def children(of: int) -> set[int]:
    """Return the ids of a process's workers that have not ended."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().partition(" (")
            state, parent = rest.rpartition(") ")[2].split()[:2]
            is_worker = b"spawn_main" in stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if is_worker and int(parent) == of and state != "Z":
            found.add(int(number))
    return found


def judged(trace: Trace) -> dict[str, Any]:
    """Return the parts of a trace that do not depend on the port of its server."""
    annotated = AnnotatedTrace(HIAPI, trace)
    requests = [(step.role, step.status, step.arrived) for step in annotated.steps]
    return {
        "scenario": trace.scenario,
        "requests": requests,
        "broken": [rule.id for rule in rules() if check(rule, annotated).breaches],
    }


def test_several_processes_give_the_traces_of_one_in_the_same_order() -> None:
    moves = ("accept_then_drop", "rate_limited", "server_error", "html_page", "unauthenticated")
    cases = [HAPPY, *(Case({"moves": {role: [{"move": move}]}}) for move in moves for role in ("submit", "status"))]
    with FakeSession(HIAPI, HIAPI.models[0]) as session:
        alone = [judged(trace) for trace in CallableRunner(session, naive)(cases)]
    with ProcessPool(WorkerSetup(NAIVE, "hiapi", MODEL), 2) as pool:
        together = [judged(trace) for trace in pool(cases)]
    assert together == alone
    assert any("SUB-01" in one["broken"] for one in together)
    assert [one["scenario"] for one in together] == [case.scenario for case in cases]


def test_two_processes_give_no_id_twice() -> None:
    with ProcessPool(WorkerSetup(NAIVE, "hiapi", MODEL), 2) as pool:
        traces = list(pool([HAPPY, HAPPY]))
    ids = [job.id[-16:] for trace in traces for job in trace.jobs or ()]  # without the time in an ULID
    assert len(ids) == len(set(ids)) == 2


def test_a_client_that_ends_its_process_without_a_fault_is_an_error(written: Callable[[str], str]) -> None:
    with (
        ProcessPool(WorkerSetup(written(ENDS_ITSELF), "hiapi", MODEL), 2) as pool,
        pytest.raises(
            ClientError, match=r"the client ended its own process \(exit status 3\), in a run against a server without"
        ),
    ):
        list(pool([HAPPY]))


def test_a_lost_run_of_two_providers_has_a_trace_of_each(written: Callable[[str], str]) -> None:
    other = next(contract for contract in CONTRACTS if contract.key == "runcomfy")
    setup = WorkerSetup(written(ENDS_ITSELF), "hiapi", MODEL, second=(other.key, other.models[0].id))
    case = Case({"timeline": {"move": "fail"}}, second={"timeline": {"move": "stuck"}})
    with ProcessPool(setup, 1) as pool:
        (trace,) = pool([case])
    assert case_of(trace) == case
    assert trace.partner is not None
    assert (trace.partner.provider, trace.partner.model) == (other.key, other.models[0].id)
    assert [one.outcome and one.outcome.kind for one in trace.runs] == ["unfinished"]
    assert [one.outcome for one in trace.partner.runs] == [None]


@pytest.mark.parametrize("fails", [False, True])
def test_no_process_outlives_the_pool(written: Callable[[str], str], fails: bool) -> None:
    before = children(os.getpid())
    try:
        with ProcessPool(WorkerSetup(written(STAYS), "hiapi", MODEL), 2) as pool:
            assert len(list(pool([HAPPY, HAPPY]))) == 2
            assert children(os.getpid()) - before
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert eventually(lambda: children(os.getpid()) <= before, LONGEST)


def test_a_pool_whose_caller_stops_does_not_wait_for_the_runs(
    written: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    end = _Worker.end

    def ended(worker: _Worker, seconds: float) -> None:
        waited.append(seconds)
        end(worker, seconds)

    monkeypatch.setattr(_Worker, "end", ended)
    with ProcessPool(WorkerSetup(written(SPINS_LATER), "hiapi", MODEL), 1) as pool:
        traces = pool([HAPPY, Case({}, TWICE)])
        next(traces)
        assert eventually(Path("spins").exists, LONGEST)
        traces.close()  # type: ignore[attr-defined]
    assert waited
    assert set(waited) == {0.0}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_command_that_started_them(
    written: Callable[[str], str], tmp_path: Path, how: int
) -> None:
    line = ["conformance", "client", "--provider", "hiapi", "--python", written(SPINS), "--parallel", "2"]
    with subprocess.Popen(
        [COMMAND, *line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as command:
        assert eventually((tmp_path / "spins").exists, LONGEST)
        workers = children(command.pid)
        assert workers
        send = os.killpg if how == signal.SIGINT else os.kill  # a terminal sends Ctrl-C to the whole group
        send(command.pid, how)
        _, printed = command.communicate(timeout=LONGEST)
    assert "Traceback" not in printed
    assert eventually(lambda: not any(Path(f"/proc/{number}").exists() for number in workers), LONGEST)


def test_the_command_runs_a_callable_in_several_processes(written: Callable[[str], str], tmp_path: Path) -> None:
    client = written(MEETS)
    line = [
        COMMAND,
        "conformance",
        "client",
        "--provider",
        "hiapi",
        "--python",
        client,
        "--runs",
        "12",
        "--report",
        "r",
    ]
    paths = {**os.environ, "PYTHONPATH": str(ROOT / "examples" / "python")}
    seen = []
    for size in ("1", "2"):
        env = {**paths, "SIZE": size}
        done = subprocess.run([*line, "--parallel", size], capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len({words for words in done.stdout.splitlines() if words.startswith("in ")}) == int(size)
        report = json.loads((tmp_path / "r" / "report.json").read_text())
        seen.append([(rule["id"], rule["verdict"]) for rule in report["rules"]])
    assert seen[0] == seen[1]


def test_a_replay_cut_off_at_the_limit_reports_it(tmp_path: Path) -> None:
    finding = tmp_path / "RTY-01.scenario.json"
    scenario = {"moves": {"status": [{"move": "rate_limited", "retry_after": 90}]}}
    finding.write_text(json.dumps({"rule": "RTY-01", "provider": "hiapi", "model": MODEL, "scenario": scenario}))
    line = [COMMAND, "conformance", "replay", str(finding), "--times", "1", "--limit", "1", "--real-time"]
    done = subprocess.run([*line, "--", "sleep", "60"], capture_output=True, text=True, check=False)
    assert (done.returncode, "not-reached" in done.stdout) == (4, True), done.stdout + done.stderr
    assert "1 of 1 runs did not finish: it had not ended at its limit of 1 s; --limit allows more" in done.stdout


def test_a_module_of_the_current_directory_is_a_client(written: Callable[[str], str]) -> None:
    written("def generate(base_url, api_key, request):\n    raise ValueError('of this directory')\n")
    line = [COMMAND, "conformance", "client", "--provider", "hiapi", "--python", "client:generate", "--runs", "1"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "of this directory" in done.stderr


def test_the_number_of_processes_follows_the_runs_and_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    assert [processes(runs) for runs in (1, 60, 100, 500, 10_000)] == [1, 1, 2, 6, 6]
    assert [processes(500, most) for most in (1, 3, 9)] == [1, 3, 9]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processes(500) == 2


REMEMBERS = """
RUNS = []

def generate(base_url, api_key, request):
    RUNS.append(api_key)
    raise ValueError(f"run {len(RUNS)} of this process")
"""


def messages(traces: list[Trace]) -> list[str]:
    return [run.outcome.message for trace in traces for run in trace.runs if run.outcome is not None]


def test_a_fresh_process_imports_the_client_anew(written: Callable[[str], str]) -> None:
    run = fresh_runner(WorkerSetup(written(REMEMBERS), "hiapi", MODEL))
    assert messages(run([HAPPY, HAPPY])) == [f"ValueError: run {number} of this process" for number in (1, 2)]
    assert messages(run([HAPPY])) == ["ValueError: run 1 of this process"]


def test_the_fork_server_outlives_the_workers(written: Callable[[str], str]) -> None:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork server")
    run = fresh_runner(WorkerSetup(written(REMEMBERS), "hiapi", MODEL))
    run([HAPPY])
    before = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    run([HAPPY])
    assert forkserver._forkserver._forkserver_pid == before  # type: ignore[attr-defined]


def test_a_client_that_another_process_cannot_import_cannot_be_run_there(
    written: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    run = fresh_runner(WorkerSetup(written("raise OSError('only here')"), "hiapi", MODEL))
    with pytest.raises(CannotRun, match="only here"):
        run([HAPPY])
    assert "Traceback" not in capfd.readouterr().err


def test_the_cases_before_a_case_are_those_of_its_own_process() -> None:
    cases = [Case({"moves": {"status": [{"move": "latency", "seconds": number}]}}) for number in range(1, 7)]
    with ProcessPool(WorkerSetup(NAIVE, "hiapi", MODEL), 2) as pool:
        list(pool(cases))
        befores = [pool.before(case) for case in cases]
        assert pool.before(HAPPY) == []
    for case, before in zip(cases, befores, strict=True):
        assert before == [one for one in cases[: cases.index(case)] if one in before]
    # The first case of each process has none before it, and every other one has its predecessor.
    assert sum(not before for before in befores) in (1, 2)
    assert sum(len(before) for before in befores) <= 15
