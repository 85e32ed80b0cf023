"""Clients run against the fake: a callable in virtual time, a command in real time, and each case gives a trace."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from hobbyhorse.conformance.client.cases import (
    CROWD,
    EQUAL,
    FOLDER,
    HAPPY,
    KILLED,
    LONG,
    MOVED,
    PICTURES,
    PROMPTS,
    RECOVERY,
    TOGETHER,
    TWICE,
    Case,
)
from hobbyhorse.conformance.client.planning import HALF_SENT
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import CannotRun, Plan, Search
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import Judgement
from hobbyhorse.runners import against_fake
from hobbyhorse.runners.against_fake import FAILING_RUNS, CallableRunner, CommandRunner, FakeSession
from hobbyhorse.runners.callable import find_client
from hobbyhorse.runners.virtual_time import VirtualTime
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace, to_json
from tests.conftest import CONTRACTS, ROOT
from tests.runners.test_command import alive, eventually

BY_KEY = {contract.key: contract for contract in CONTRACTS}
HIAPI, RUNFLOW = BY_KEY["hiapi"], BY_KEY["runflow"]
EXAMPLE = ROOT / "examples" / "python" / "hiapi.py"
RULES = {rule.id: rule for rule in rules()}
LOST = Case({"moves": {"submit": [{"move": "accept_then_drop"}]}})
STUCK = Case({"timeline": {"move": "stuck"}})


def submits_by_run(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Submit with the operation that answers at the end of the job, and wait 20 seconds for it."""
    with httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, timeout=20, trust_env=False) as http:
        body = http.post(f"{base_url}/v1/run/{RUNFLOW.models[0].id}", json=request).raise_for_status().json()
        return httpx.get(body["video"]["url"], trust_env=False).content


def test_a_client_gets_requests_of_the_operation_with_which_it_submits() -> None:
    with FakeSession(RUNFLOW, RUNFLOW.models[0]) as session:
        runner = CallableRunner(session, submits_by_run)
        fit = runner.fit()
        assert fit.role == "run"
        assert 0 < fit.share < 0.2  # jobs take minutes, and the client waits for 20 seconds
        trace = runner.run(HAPPY)
        order = {"prompt": "a horse", "image_url": "https://example.com/a.png"}
        drawn = runner.run(Case({}, order={"input": order}))
    assert [run.outcome.kind for run in trace.runs if run.outcome] == ["success"]
    assert drawn.runs[0].request == order


def test_the_date_of_a_response_follows_virtual_time() -> None:
    dates: list[float] = []

    def client(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        with httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, trust_env=False) as http:
            job = http.post(f"{base_url}/v1/tasks", json=request).json()["data"]["taskId"]
            time.sleep(3_600)
            video = http.get(f"{base_url}/v1/tasks/{job}").json()["data"]["output"][0]["url"]
            for _ in range(2):
                response = http.get(video)
                dates.append(parsedate_to_datetime(response.headers["date"]).timestamp() - time.time())
            return response.content

    with FakeSession(HIAPI, HIAPI.models[0]) as session:
        CallableRunner(session, client).run(Case({"moves": {"media": [{"move": "unavailable"}]}}))
    assert len(dates) == 2
    assert all(-2 < one <= 0 for one in dates)


def naive(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Submit again after any error, poll every ten seconds, give up after five minutes."""
    with httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, verify=False, trust_env=False) as http:
        for _ in range(3):
            try:
                job = http.post(f"{base_url}/v1/tasks", json=request).raise_for_status().json()["data"]["taskId"]
                break
            except httpx.HTTPError:
                time.sleep(1)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            time.sleep(10)
            task = http.get(f"{base_url}/v1/tasks/{job}").raise_for_status().json()["data"]
            if task["status"] == "success":
                return http.get(task["output"][0]["url"]).raise_for_status().content
    raise TimeoutError(f"{job} is still running")


async def asynchronous(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Submit once, and poll every two seconds, on an event loop."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {api_key}"}, verify=False, trust_env=False) as http:
        job = (await http.post(f"{base_url}/v1/tasks", json=request)).json()["data"]["taskId"]
        while True:
            await asyncio.sleep(2)
            task = (await http.get(f"{base_url}/v1/tasks/{job}")).json()["data"]
            if task["status"] == "success":
                return (await http.get(task["output"][0]["url"])).content


@pytest.fixture
def session() -> Iterator[FakeSession]:
    with FakeSession(HIAPI, HIAPI.models[0]) as opened:
        yield opened


def test_no_run_repeats_an_id_and_the_same_runs_have_the_same_ids() -> None:
    def jobs(place: str) -> list[str]:
        """Return the ids of jobs, without the ten characters of an ULID for the time."""
        with FakeSession(HIAPI, HIAPI.models[0], place=place) as session:
            traces = [run_case(session, naive, case) for case in (HAPPY, HAPPY, Case(kind=TWICE))]
        sent = [one for trace in traces for one in trace.exchanges if one.method == "POST"]
        return [json.loads(one.answer)["data"]["taskId"][-16:] for one in sent]

    first = jobs("first")
    assert len(first) == len(set(first)) == 4
    assert jobs("first") == first
    assert not set(first) & set(jobs("second"))


def run_case(session: FakeSession, client: Callable[..., Any], case: Case = HAPPY) -> Trace:
    return CallableRunner(session, client).run(case)


def broken(trace: Trace) -> set[str]:
    annotated = AnnotatedTrace(BY_KEY[trace.provider], trace)
    return {rule.id for rule in rules() if check(rule, annotated).breaches}


@pytest.mark.parametrize("client", [naive, asynchronous], ids=["sync", "async"])
def test_a_callable_runs_in_virtual_time_and_its_video_is_identified(
    session: FakeSession, client: Callable[..., Any]
) -> None:
    begun = time.monotonic()
    trace = run_case(session, client)
    run = trace.runs[0]
    assert run.outcome is not None
    assert run.outcome.kind == "success"
    assert trace.jobs is not None
    assert run.outcome.sha256 == trace.jobs[0].sha256
    assert run.outcome.ended - run.started > 30
    assert time.monotonic() - begun < 30
    assert [exchange.role for exchange in trace.exchanges][:2] == ["submit", "status"]
    assert trace.exchanges[-1].role == "media"
    assert trace.exchanges[-1].url.startswith(trace.origins["media"])
    assert trace.virtual


def test_one_submission_that_became_two_jobs_breaks_a_rule(session: FakeSession) -> None:
    trace = run_case(session, naive, LOST)
    assert "SUB-01" in broken(trace)
    assert trace.jobs is not None
    assert len(trace.jobs) == 2  # the fault is for the first job only
    assert len(trace.exchanges) > 2
    assert trace.unmet == ()
    assert trace.scenario == LOST.scenario


def test_the_same_case_gives_the_same_trace_in_each_session() -> None:
    def seen() -> list[tuple[Any, ...]]:
        with FakeSession(HIAPI, HIAPI.models[0]) as session:
            trace = run_case(session, naive, LOST)
        return [(one.arrived, one.role, one.method, one.status, one.answered, one.job) for one in trace.exchanges]

    assert seen() == seen()


def test_a_trace_does_not_contain_the_key(session: FakeSession) -> None:
    assert "hh-test-key" not in str(to_json(run_case(session, naive)))


def test_a_client_that_gives_up_exposes_the_id_of_its_job(session: FakeSession) -> None:
    outcome = run_case(session, naive, STUCK).runs[0].outcome
    assert outcome is not None
    assert (outcome.kind, outcome.id_exposed) == ("timeout", True)


def test_a_client_that_never_gives_up_is_ended(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hobbyhorse.runners.against_fake.MOST_REQUESTS", 1_000)
    trace = run_case(session, asynchronous, STUCK)
    outcome = trace.runs[0].outcome
    assert outcome is not None
    assert outcome.kind == "unfinished"
    assert "TMO-01" in broken(trace)


def test_a_client_that_exits_has_failed(session: FakeSession) -> None:
    def leaves(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        raise SystemExit(3)

    outcome = run_case(session, leaves).runs[0].outcome
    assert outcome is not None
    assert outcome.kind == "failed"


def test_a_thread_that_outlives_its_client_is_watched(session: FakeSession) -> None:
    def leaky(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        def poll() -> None:
            while True:
                time.sleep(5)
                httpx.get(f"{base_url}/v1/tasks", headers={"Authorization": f"Bearer {api_key}"}, verify=False)

        threading.Thread(target=poll, daemon=True).start()
        return naive(base_url, api_key, request)

    assert "POL-02" in broken(run_case(session, leaky))
    assert "POL-02" not in broken(run_case(session, naive))
    annotated = AnnotatedTrace(HIAPI, run_case(session, naive))
    assert check(RULES["POL-02"], annotated) == Judgement(observed=True)


def test_two_submissions_and_a_crowd_are_runs_of_one_trace(session: FakeSession) -> None:
    twice = run_case(session, naive, Case({}, TWICE))
    assert len(twice.runs) == 2
    assert twice.runs[0].request != twice.runs[1].request
    assert "SUB-02" not in broken(twice)
    crowd = run_case(session, naive, Case({}, CROWD))
    assert len(crowd.runs) == 3
    assert {exchange.status for exchange in crowd.exchanges} >= {200, 429}


@pytest.mark.parametrize(("kind", "prompts", "pictures"), [(EQUAL, 1, 1), (PROMPTS, 2, 1), (PICTURES, 1, 2)])
def test_a_pair_of_orders_differs_in_one_member_or_in_none(
    session: FakeSession, kind: str, prompts: int, pictures: int
) -> None:
    trace = run_case(session, naive, Case({}, kind))
    given = [run.request["input"] for run in trace.runs if run.request is not None]
    assert len(given) == 2
    assert len({one["prompt"] for one in given}) == prompts
    assert len({one["image_urls"][0] for one in given}) == pictures
    assert [run.outcome.kind for run in trace.runs if run.outcome is not None] == ["success"] * 2
    hashes = {run.outcome.sha256 for run in trace.runs if run.outcome is not None}
    assert len(hashes) == 2, "each job has its own bytes, also if the orders are equal"


def test_a_case_with_an_order_gives_it_to_the_client_and_keeps_it_in_the_trace(session: FakeSession) -> None:
    order = session.request(HAPPY)
    order["input"] |= {"prompt": 'say "駿馬"', "duration": 4}
    trace = run_case(session, naive, Case(order=order))
    assert trace.order == order
    assert trace.runs[0].request == order
    assert "ORD-02" not in broken(trace)
    mangled = run_case(session, mangling, Case(order=order))
    assert "ORD-02" in broken(mangled)


def mangling(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Replace the quotes of the prompt."""
    return naive(
        base_url,
        api_key,
        {**request, "input": {**request["input"], "prompt": request["input"]["prompt"].replace('"', "'")}},
    )


@pytest.mark.parametrize(("kind", "runs"), [(TWICE, 2), (TOGETHER, 3), (CROWD, 3)])
def test_each_run_has_another_order_another_picture_and_another_video(
    session: FakeSession, kind: str, runs: int
) -> None:
    trace = run_case(session, patient, Case({}, kind))
    inputs = [run.request["input"] for run in trace.runs if run.request is not None]
    assert len({one["prompt"] for one in inputs}) == len({one["image_urls"][0] for one in inputs}) == runs
    assert trace.jobs is not None
    digests = [job.sha256 for job in trace.jobs]
    assert len(set(digests)) == len(digests) == runs
    assert [run.outcome.sha256 for run in trace.runs if run.outcome] == digests
    assert broken(trace) & {"RES-11", "END-01", "END-02"} == set()


def patient(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Submit until there is a free slot, poll every two seconds, and download."""
    with httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, verify=False, trust_env=False) as http:
        while (accepted := http.post(f"{base_url}/v1/tasks", json=request)).status_code == 429:
            time.sleep(5)
        job = accepted.raise_for_status().json()["data"]["taskId"]
        while (task := http.get(f"{base_url}/v1/tasks/{job}").raise_for_status().json()["data"])["status"] != "success":
            if task["status"] == "fail":
                raise RuntimeError("no video") from ValueError(task["error"]["code"])
            time.sleep(2)
    return httpx.get(task["output"][0]["url"], verify=False, trust_env=False).raise_for_status().content


def test_together_no_order_is_refused_and_in_a_crowd_some_are(session: FakeSession) -> None:
    for kind in (TOGETHER, CROWD):
        trace = run_case(session, patient, Case({}, kind))
        assert (429 in {exchange.status for exchange in trace.exchanges}) == (kind == CROWD)


FAILING = {"timeline": {"move": "fail"}}


def test_in_a_recovery_all_runs_but_the_last_meet_the_faults_and_none_shares_its_moment(session: FakeSession) -> None:
    trace = run_case(session, patient, Case(FAILING, RECOVERY))
    assert [run.outcome.kind for run in trace.runs if run.outcome] == ["failed"] * FAILING_RUNS + ["success"]
    started = [run.started for run in trace.runs]
    assert sorted(set(started)) == started
    # A client that stops for some minutes after many failures has time to begin again.
    assert started[-1] - started[-2] > 900
    assert broken(trace) == broken(run_case(session, patient, Case(FAILING)))


def test_each_run_of_a_recovery_may_send_as_many_requests_as_one_alone(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = len(run_case(session, patient, Case(FAILING)).exchanges)
    monkeypatch.setattr("hobbyhorse.runners.against_fake.MOST_REQUESTS", sent + 10)
    trace = run_case(session, patient, Case(FAILING, RECOVERY))
    assert len(trace.exchanges) > sent + 10
    assert trace.runs[-1].outcome is not None
    assert trace.runs[-1].outcome.kind == "success"


def test_a_client_that_gives_nothing_back_hangs_in_a_recovery(session: FakeSession) -> None:
    slots = threading.Semaphore(3)

    def greedy(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        slots.acquire()
        video = patient(base_url, api_key, request)
        slots.release()
        return video

    trace = run_case(session, greedy, Case(FAILING, RECOVERY))
    # The first run that does not end is the last one.
    assert [(run.outcome.kind, run.outcome.stuck) for run in trace.runs if run.outcome] == [
        *[("failed", False)] * 3,
        ("unfinished", True),
    ]
    assert {"END-01", "END-02"} <= broken(trace)


def test_a_client_that_polls_until_it_is_cut_off_does_not_hang(session: FakeSession) -> None:
    trace = run_case(session, patient, STUCK)
    assert trace.runs[0].outcome is not None
    assert (trace.runs[0].outcome.kind, trace.runs[0].outcome.stuck) == ("unfinished", False)
    assert "END-01" not in broken(trace)


def test_a_client_that_sleeps_until_it_is_cut_off_hangs(session: FakeSession) -> None:
    def sleepy(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        try:
            return patient(base_url, api_key, request)
        finally:
            time.sleep(100_000)

    assert "END-01" in broken(run_case(session, sleepy))


def test_the_reasons_that_an_error_or_its_cause_exposes_are_recorded(session: FakeSession) -> None:
    def silent(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        try:
            return patient(base_url, api_key, request)
        except RuntimeError:
            raise RuntimeError("no video") from None

    for client, reasons in ((patient, ("TASK_FAILED",)), (silent, ())):
        trace = run_case(session, client, Case(FAILING))
        assert trace.runs[0].outcome is not None
        assert trace.runs[0].outcome.reasons == reasons
        assert ("RES-10" in broken(trace)) == (not reasons)
    succeeded = run_case(session, patient).runs[0].outcome
    assert succeeded is not None
    assert succeeded.reasons is None


def test_a_video_that_is_lost_after_its_download_breaks_a_rule(session: FakeSession, tmp_path: Path) -> None:
    def named(base_url: str, api_key: str, request: Mapping[str, Any]) -> Path:
        path = tmp_path / str(request["input"]["prompt"])
        path.write_bytes(patient(base_url, api_key, request))
        return path

    assert "RES-09" in broken(run_case(session, named, Case({}, LONG)))
    assert "RES-09" not in broken(run_case(session, named))


def test_a_client_that_returns_the_video_of_another_order_breaks_a_rule(session: FakeSession) -> None:
    current: list[Mapping[str, Any]] = []

    def confused(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        current[:] = [request]
        time.sleep(1)
        return patient(base_url, api_key, current[0])

    assert "RES-11" not in broken(run_case(session, confused, Case({}, TWICE)))
    kept: dict[str, bytes] = {}

    def forgetful(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        if api_key not in kept:
            kept[api_key] = patient(base_url, api_key, request)
        return kept[api_key]

    assert "RES-11" in broken(run_case(session, forgetful, Case({}, TWICE)))


def test_the_longest_prompt_ends_with_the_mark_of_the_run(session: FakeSession) -> None:
    run = run_case(session, naive, Case({}, LONG)).runs[0]
    assert run.request is not None
    assert run.request["input"]["prompt"].endswith("run 1")
    assert len(run.request["input"]["prompt"]) == 2_000


def test_each_run_has_a_world_that_is_deleted_after_it(session: FakeSession) -> None:
    for _ in range(3):
        run_case(session, naive)
    assert len(list(session.server.asgi.worlds)) == 0


def command(session: FakeSession, *more: str, limit: float = 30.0) -> CommandRunner:
    argv = [sys.executable, str(EXAMPLE)]
    return CommandRunner(session, argv, [*argv, "--resume"], limit)


OTHER_KEYS = {"none": "{}", "another": '{"authorization": "Bearer undefined"}', "elsewhere": '{"x-api-key": key}'}


@pytest.mark.parametrize("headers", OTHER_KEYS.values(), ids=OTHER_KEYS)
@pytest.mark.parametrize("kind", ["callable", "command"])
def test_a_client_that_does_not_send_its_key_cannot_be_tested(tmp_path: Path, headers: str, kind: str) -> None:
    text = "import os, httpx\n\ndef generate(base, key, request):\n"
    text += f'    httpx.post(base + "/v1/tasks", json=request, headers={headers}).raise_for_status()\n\n'
    text += 'if __name__ == "__main__":\n'
    text += '    generate(os.environ["HOBBYHORSE_BASE_URL"], os.environ["HOBBYHORSE_API_KEY"], {})\n'
    (tmp_path / "client.py").write_text(text)
    path = tmp_path / "client.py"
    clock = "manual" if kind == "callable" else "real"
    with FakeSession(HIAPI, HIAPI.models[0], clock=clock) as session:
        runner = (
            CallableRunner(session, find_client(f"{path}:generate"))
            if kind == "callable"
            else CommandRunner(session, [sys.executable, str(path)])
        )
        with pytest.raises(CannotRun, match=r"POST \S+/v1/tasks \(401\); does the client send its API key"):
            Search(HIAPI, runner, Plan(5)).run("a client", "m")


def test_unauthenticated_requests_are_attributed_only_to_a_run_without_others_beside_it(real: FakeSession) -> None:
    one, other = real.world(HAPPY), real.world(HAPPY)
    httpx.post(f"{one.url('hiapi')}/v1/tasks", json={})
    alone = real.trace(other, HAPPY, ())
    assert not alone.exchanges
    assert not real.trace(one, HAPPY, ()).exchanges
    again = real.world(HAPPY)
    httpx.post(f"{again.url('hiapi')}/v1/tasks", json={})
    assert [exchange.status for exchange in real.trace(again, HAPPY, ()).exchanges] == [401]


@pytest.fixture(scope="module")
def real() -> Iterator[FakeSession]:
    with FakeSession(HIAPI, HIAPI.models[0], clock="real", speed=20.0, pace="fast") as opened:
        yield opened


def test_a_command_is_killed_and_collects_its_job(real: FakeSession) -> None:
    held: dict[str, Any] = {"move": "timeout", "accepted": True}
    cases = [
        Case({"moves": {"submit": [held]}}, KILLED, 1),
        Case({"moves": {"status": [{"move": "timeout"}]}}, MOVED, 2),
        Case({"moves": {"media": [dict(HALF_SENT)]}}, KILLED, 3),
    ]
    for trace in command(real)(cases):
        assert [run.resumed for run in trace.runs] == [False, True]
        outcome = trace.runs[1].outcome
        assert outcome is not None
        assert outcome.kind == "success", outcome
        assert trace.jobs is not None
        assert len(trace.jobs) == 1
        assert broken(trace) == set()


def test_a_second_command_finds_the_files_of_the_first(real: FakeSession, tmp_path: Path) -> None:
    careful = command(real).run(Case({}, FOLDER))
    assert len({run.outcome.sha256 for run in careful.runs if run.outcome is not None}) == 2
    assert broken(careful) == set()
    lazy = tmp_path / "client.py"
    lazy.write_text(
        EXAMPLE.read_text().replace(
            "    request = json.loads", "    if output.exists():\n        return 0\n    request = json.loads"
        )
    )
    trace = CommandRunner(real, [sys.executable, str(lazy)]).run(Case({}, FOLDER))
    assert "ORD-06" in broken(trace)


def test_a_command_that_submits_again_after_a_restart_breaks_a_rule(real: FakeSession, tmp_path: Path) -> None:
    changed = tmp_path / "client.py"
    changed.write_text(EXAMPLE.read_text().replace("if kept.exists() else", "if False else"))
    runner = CommandRunner(real, [sys.executable, str(changed)], [sys.executable, str(changed)], 30.0)
    trace = runner.run(Case({"moves": {"status": [{"move": "timeout"}]}}, KILLED, 2))
    assert "PER-01" in broken(trace)


def test_a_command_recovers_and_its_output_exposes_the_reason(real: FakeSession) -> None:
    trace = command(real).run(Case(FAILING, RECOVERY))
    outcomes = [run.outcome for run in trace.runs if run.outcome]
    assert [outcome.kind for outcome in outcomes] == ["failed", "success"]
    assert "TASK_FAILED" in (outcomes[0].reasons or ())
    assert outcomes[1].reasons is None
    assert broken(trace) == set()


def test_a_command_that_is_cut_off_while_it_polls_does_not_hang(real: FakeSession) -> None:
    trace = command(real, limit=3.0).run(STUCK)
    assert [run.outcome.kind for run in trace.runs if run.outcome] == ["unfinished"]
    assert "END-01" not in broken(trace)


def test_a_command_that_does_nothing_more_after_its_download_hangs(real: FakeSession, tmp_path: Path) -> None:
    changed = tmp_path / "client.py"
    changed.write_text(EXAMPLE.read_text().replace("    save(output, video)\n", "    time.sleep(1_000)\n"))
    trace = CommandRunner(real, [sys.executable, str(changed)], limit=12.0).run(HAPPY)
    assert "END-01" in broken(trace)


WAITS = """
import os, pathlib, subprocess, sys, time
if "run 2" in pathlib.Path(os.environ["HOBBYHORSE_REQUEST"]).read_text():
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path(sys.argv[1], f"{os.getpid()}-{child.pid}").touch()
    time.sleep(600)
"""


def test_the_commands_that_run_are_ended_with_their_processes_when_the_caller_stops(
    real: FakeSession, tmp_path: Path
) -> None:
    (tmp_path / "client.py").write_text(WAITS)
    (tmp_path / "started").mkdir()
    argv = [sys.executable, str(tmp_path / "client.py"), str(tmp_path / "started")]
    # The second run of each pair waits. No third pair starts, because two at a time may run.
    traces = CommandRunner(real, argv, limit=600.0, parallel=2)([HAPPY, *[Case({}, TWICE)] * 4])
    assert next(traces).drill == "once"
    assert eventually(lambda: len(list((tmp_path / "started").iterdir())) == 2)
    # In a thread, because a runner that waited for the commands would return only when they end by themselves.
    closing = threading.Thread(target=traces.close, daemon=True)  # type: ignore[attr-defined]
    closing.start()
    started = [path.name.split("-") for path in (tmp_path / "started").iterdir()]
    assert eventually(lambda: not any(alive(int(process)) for pair in started for process in pair))
    closing.join()
    assert len(list((tmp_path / "started").iterdir())) == 2
    assert not CommandRunner(real, [sys.executable, "-c", ""]).run(HAPPY).exchanges, "another call can start commands"


FLOOD = """
import http.client, json, os, urllib.parse
base = urllib.parse.urlsplit(os.environ["HOBBYHORSE_BASE_URL"])
headers = {"Authorization": "Bearer " + os.environ["HOBBYHORSE_API_KEY"], "Content-Type": "application/json"}
http = http.client.HTTPConnection(base.hostname, base.port)
http.request("POST", base.path + "/v1/tasks", open(os.environ["HOBBYHORSE_REQUEST"]).read(), headers)
job = json.loads(http.getresponse().read())["data"]["taskId"]
for _ in range(10_000):
    http.request("GET", f"{base.path}/v1/tasks/{job}", headers=headers)
    http.getresponse().read()
"""


def test_a_command_that_floods_is_judged_by_all_of_its_requests(real: FakeSession, tmp_path: Path) -> None:
    client = tmp_path / "flood.py"
    client.write_text(FLOOD)
    trace = CommandRunner(real, [sys.executable, str(client)], limit=20.0).run(HAPPY)
    assert len(trace.exchanges) > 1_000
    assert {"POL-01", "POL-07"} <= broken(trace)


def test_a_callable_that_floods_is_ended(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hobbyhorse.runners.against_fake.MOST_REQUESTS", 1_200)

    def floods(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        with httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, verify=False, trust_env=False) as http:
            job = http.post(f"{base_url}/v1/tasks", json=request).json()["data"]["taskId"]
            while True:
                http.get(f"{base_url}/v1/tasks/{job}")

    trace = run_case(session, floods)
    outcome = trace.runs[0].outcome
    assert outcome is not None
    assert outcome.kind == "unfinished"
    assert "POL-07" in broken(trace)


def other_form(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Submit once in another form that the contract accepts: wrapped, and with the model in a header."""
    body = {"input": [{"params": {name: value for name, value in request.items() if name != "model"}}]}
    headers = {"Authorization": f"Bearer {api_key}", "X-Model": request["model"]}
    with httpx.Client(headers=headers, trust_env=False) as http:
        for number in range(30):
            time.sleep(30 if number else 0)
            accepted = http.post(f"{base_url}/model/v1/generation", json=body)
            if accepted.status_code != 429:
                break
        job = accepted.raise_for_status().json()["id"]
        while True:
            time.sleep(5)
            task = http.get(f"{base_url}/model/v1/generation/task/{job}").raise_for_status().json()
            if task["status"] == "completed":
                break
    return httpx.get(task["output"][0]["content"][0]["url"], trust_env=False).content


def test_a_crowd_in_another_accepted_form_has_one_order_for_each_run() -> None:
    contract = BY_KEY["vtrix"]
    with FakeSession(contract, contract.models[0]) as session:
        trace = run_case(session, other_form, Case({}, CROWD))
    annotated = AnnotatedTrace(contract, trace)
    assert [run.outcome and run.outcome.kind for run in trace.runs] == ["success"] * 3
    assert sorted(str(annotated.owner_of(order[0])) for order in annotated.orders) == ["0", "1", "2"]
    assert not broken(trace) & {"SUB-01", "SUB-02", "SUB-06", "CON-01", "SCH-01"}


@pytest.mark.parametrize(("times", "kind"), [(1, "success"), (2, "unfinished")])
def test_only_a_client_that_takes_too_much_real_time_twice_is_the_cause(
    times: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it was the machine, which may stop a process for any time."""
    monkeypatch.setattr(against_fake, "VirtualTime", partial(VirtualTime, patience=0.3))
    runs = []

    def client(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        runs.append(request)
        while len(runs) <= times:
            pass
        return naive(base_url, api_key, request)

    contract = BY_KEY["hiapi"]
    with FakeSession(contract, contract.models[0]) as session:
        trace = run_case(session, client, HAPPY)
    assert len(runs) == 2
    (outcome,) = (run.outcome for run in trace.runs)
    assert outcome is not None
    assert outcome.kind == kind
    assert ("in client (tests/runners/test_against_fake.py:" in outcome.message) == (times == 2), outcome.message
