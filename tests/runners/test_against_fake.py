"""A client meets the fake: a callable in virtual time, a command in real time, each drill a trace."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from hobbyhorse.conformance.client.cases import CROWD, HAPPY, KILLED, LONG, MOVED, TWICE, Case
from hobbyhorse.conformance.client.judge import check
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import CannotRun, Plan, Search
from hobbyhorse.runners.against_fake import CallableRunner, CommandRunner, FakeSession
from hobbyhorse.runners.callable import find_client
from hobbyhorse.runners.client_suite import client_suite, examine
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace, to_json
from tests.conftest import CONTRACTS, ROOT

BY_KEY = {contract.key: contract for contract in CONTRACTS}
HIAPI = BY_KEY["hiapi"]
EXAMPLE = ROOT / "examples" / "python" / "hiapi.py"
RULES = {rule.id: rule for rule in rules()}
LOST = Case({"moves": {"submit": [{"move": "accept_then_drop"}]}})
STUCK = Case({"timeline": {"move": "stuck"}})


def naive(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Order again whatever happens, poll every two seconds, give up after a minute."""
    with httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, verify=False, trust_env=False) as http:
        for _ in range(3):
            try:
                job = http.post(f"{base_url}/v1/tasks", json=request).raise_for_status().json()["data"]["taskId"]
                break
            except httpx.HTTPError:
                time.sleep(1)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            time.sleep(2)
            task = http.get(f"{base_url}/v1/tasks/{job}").raise_for_status().json()["data"]
            if task["status"] == "success":
                return http.get(task["output"][0]["url"]).raise_for_status().content
    raise TimeoutError(f"{job} is still running")


async def asynchronous(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """The same for asyncio."""
    import asyncio  # noqa: PLC0415

    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {api_key}"}, verify=False, trust_env=False) as http:
        job = (await http.post(f"{base_url}/v1/tasks", json=request)).json()["data"]["taskId"]
        while True:
            await asyncio.sleep(2)
            task = (await http.get(f"{base_url}/v1/tasks/{job}")).json()["data"]
            if task["status"] == "success":
                return (await http.get(task["output"][0]["url"])).content


@pytest.fixture
def arena() -> Iterator[FakeSession]:
    with FakeSession(HIAPI, HIAPI.models[0]) as opened:
        yield opened


def play(arena: FakeSession, client: Callable[..., Any], drill: Case = HAPPY) -> Trace:
    return CallableRunner(arena, client).play(drill)


def broken(trace: Trace) -> set[str]:
    story = AnnotatedTrace(BY_KEY[trace.provider], trace)
    return {rule.id for rule in rules() if check(rule, story)}


@pytest.mark.parametrize("client", [naive, asynchronous], ids=["sync", "async"])
def test_a_callable_runs_in_virtual_time_and_its_video_is_known(arena: FakeSession, client: Callable[..., Any]) -> None:
    begun = time.monotonic()
    trace = play(arena, client)
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


def test_one_click_that_became_two_jobs_is_seen(arena: FakeSession) -> None:
    trace = play(arena, naive, LOST)
    assert "SUB-01" in broken(trace)
    assert len(trace.exchanges) > 2
    assert trace.unmet == ()
    assert trace.scenario == LOST.scenario


def test_the_same_drill_gives_the_same_trace(arena: FakeSession) -> None:
    def seen(trace: Trace) -> list[tuple[Any, ...]]:
        return [(one.arrived, one.role, one.method, one.status, one.answered, one.job) for one in trace.exchanges]

    assert seen(play(arena, naive, LOST)) == seen(play(arena, naive, LOST))


def test_the_key_stands_nowhere_in_a_trace(arena: FakeSession) -> None:
    assert "hh-test-key" not in str(to_json(play(arena, naive)))


def test_a_client_that_gives_up_says_which_job(arena: FakeSession) -> None:
    outcome = play(arena, naive, STUCK).runs[0].outcome
    assert outcome is not None
    assert (outcome.kind, outcome.id_exposed) == ("timeout", True)


class Handle:
    """What an SDK gives its user: the id is one of its values."""

    def __init__(self, task: str) -> None:
        self.id, self._secret = task, "hidden"


class Pending(Exception):
    """A job that is under way, with its handle."""


class Members(Exception):
    """As `ExceptionGroup` is, which Python 3.10 has not."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("errors")
        self.exceptions = errors


def gives_up(raises: Callable[[str], Exception]) -> Callable[..., str]:
    def client(base_url: str, api_key: str, request: dict[str, Any]) -> str:
        with httpx.Client(base_url=base_url, headers={"authorization": f"Bearer {api_key}"}) as http:
            task = http.post("/v1/tasks", json=request).json()["data"]["taskId"]
        raise raises(task)

    return client


def hidden(task: str) -> Exception:
    error = Pending("no")
    error.__context__, error.__suppress_context__ = Pending(task), True
    return error


def caused(task: str) -> Exception:
    error = Pending("no")
    error.__cause__ = Members(Pending(Handle(task)))
    return error


@pytest.mark.parametrize(
    ("raises", "kind", "exposed"),
    [
        (lambda task: Pending(Handle(task)), "failed", True),
        (lambda task: Pending(type("Empty", (), {"_id": task})()), "failed", False),
        (lambda task: Members(TimeoutError("too long"), Members(Pending("deadline", task))), "timeout", True),
        (lambda task: Members(TimeoutError("too long"), ValueError(task)), "failed", True),
        (caused, "failed", True),
        (hidden, "failed", False),
        (lambda task: Pending(f"{task} did not finish in 900 s"), "timeout", True),
        (lambda task: Pending(f"{task} did not finish successfully"), "failed", True),
    ],
)
def test_the_job_is_found_in_what_a_client_raises(
    arena: FakeSession, raises: Callable[[str], Exception], kind: str, exposed: bool
) -> None:
    outcome = play(arena, gives_up(raises)).runs[0].outcome
    assert outcome is not None
    assert (outcome.kind, outcome.id_exposed) == (kind, exposed)


def test_a_client_that_never_gives_up_is_ended(arena: FakeSession) -> None:
    trace = play(arena, asynchronous, STUCK)
    outcome = trace.runs[0].outcome
    assert outcome is not None
    assert outcome.kind == "unfinished"
    assert "TMO-01" in broken(trace)


def test_a_client_that_exits_has_failed(arena: FakeSession) -> None:
    def leaves(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        raise SystemExit(3)

    outcome = play(arena, leaves).runs[0].outcome
    assert outcome is not None
    assert outcome.kind == "failed"


def test_what_is_left_running_is_watched(arena: FakeSession) -> None:
    def leaky(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        def poll() -> None:
            while True:
                time.sleep(5)
                httpx.get(f"{base_url}/v1/tasks", headers={"Authorization": f"Bearer {api_key}"}, verify=False)

        threading.Thread(target=poll, daemon=True).start()
        return naive(base_url, api_key, request)

    assert "POL-02" in broken(play(arena, leaky))
    assert "POL-02" not in broken(play(arena, naive))
    story = AnnotatedTrace(HIAPI, play(arena, naive))
    assert check(RULES["POL-02"], story) == []


def test_two_orders_and_a_crowd_are_runs_of_one_trace(arena: FakeSession) -> None:
    twice = play(arena, naive, Case({}, TWICE))
    assert len(twice.runs) == 2
    assert twice.runs[0].request != twice.runs[1].request
    assert "SUB-02" not in broken(twice)
    crowd = play(arena, naive, Case({}, CROWD))
    assert len(crowd.runs) == 3
    assert {exchange.status for exchange in crowd.exchanges} >= {200, 429}


def test_the_longest_prompt_ends_in_words_of_ours(arena: FakeSession) -> None:
    run = play(arena, naive, Case({}, LONG)).runs[0]
    assert run.request is not None
    assert run.request["input"]["prompt"].endswith("run 1")
    assert len(run.request["input"]["prompt"]) == 2_000


def test_each_run_has_a_world_that_is_forgotten(arena: FakeSession) -> None:
    for _ in range(3):
        play(arena, naive)
    assert len(list(arena.server.asgi.worlds)) == 0


def command(arena: FakeSession, *more: str, limit: float = 30.0) -> CommandRunner:
    argv = [sys.executable, str(EXAMPLE)]
    return CommandRunner(arena, argv, [*argv, "--resume"], limit)


OTHER_KEYS = {"none": "{}", "another": '{"authorization": "Bearer undefined"}', "elsewhere": '{"x-api-key": key}'}


@pytest.mark.parametrize("headers", OTHER_KEYS.values(), ids=OTHER_KEYS)
@pytest.mark.parametrize("kind", ["callable", "command"])
def test_a_client_that_does_not_send_its_key_is_told_so(tmp_path: Path, headers: str, kind: str) -> None:
    text = "import os, httpx\n\ndef generate(base, key, request):\n"
    text += f'    httpx.post(base + "/v1/tasks", json=request, headers={headers}).raise_for_status()\n\n'
    text += 'if __name__ == "__main__":\n'
    text += '    generate(os.environ["HOBBYHORSE_BASE_URL"], os.environ["HOBBYHORSE_API_KEY"], {})\n'
    (tmp_path / "client.py").write_text(text)
    path = tmp_path / "client.py"
    clock = "manual" if kind == "callable" else "real"
    with FakeSession(HIAPI, HIAPI.models[0], clock=clock) as arena:
        play = (
            CallableRunner(arena, find_client(f"{path}:generate"))
            if kind == "callable"
            else CommandRunner(arena, [sys.executable, str(path)])
        )
        with pytest.raises(CannotRun, match=r"POST \S+/v1/tasks \(401\); does it send the API key"):
            Search(HIAPI, play, Plan(5)).run("a client", "m")


def test_who_runs_beside_another_is_not_held_for_it(real: FakeSession) -> None:
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
    drills = [
        Case({"moves": {"submit": [held]}}, KILLED, 1),
        Case({"moves": {"status": [{"move": "timeout"}]}}, MOVED, 2),
    ]
    for trace in command(real)(drills):
        assert [run.resumed for run in trace.runs] == [False, True]
        outcome = trace.runs[1].outcome
        assert outcome is not None
        assert outcome.kind == "success", outcome
        assert trace.jobs is not None
        assert len(trace.jobs) == 1
        assert broken(trace) == set()


def test_a_command_that_orders_again_when_it_is_started_again_is_seen(real: FakeSession, tmp_path: Path) -> None:
    changed = tmp_path / "client.py"
    changed.write_text(EXAMPLE.read_text().replace("if kept.exists() else", "if False else"))
    player = CommandRunner(real, [sys.executable, str(changed)], [sys.executable, str(changed)], 30.0)
    trace = player.play(Case({"moves": {"status": [{"move": "timeout"}]}}, KILLED, 2))
    assert "PER-01" in broken(trace)


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


def test_a_command_that_floods_is_judged_by_all_that_it_did(real: FakeSession, tmp_path: Path) -> None:
    client = tmp_path / "flood.py"
    client.write_text(FLOOD)
    trace = CommandRunner(real, [sys.executable, str(client)], limit=20.0).play(HAPPY)
    assert len(trace.exchanges) > 1_000
    assert {"POL-01", "POL-07"} <= broken(trace)


def test_a_callable_that_floods_is_ended(arena: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hobbyhorse.runners.against_fake.MOST_REQUESTS", 1_200)

    def floods(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
        with httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, verify=False, trust_env=False) as http:
            job = http.post(f"{base_url}/v1/tasks", json=request).json()["data"]["taskId"]
            while True:
                http.get(f"{base_url}/v1/tasks/{job}")

    trace = play(arena, floods)
    outcome = trace.runs[0].outcome
    assert outcome is not None
    assert outcome.kind == "unfinished"
    assert "POL-07" in broken(trace)


def test_the_suite_finds_what_a_naive_client_does() -> None:
    result = examine(naive, HIAPI, HIAPI.models[0], runs=40)
    found = {one.rule.id for one in result.broken}
    assert {"SUB-01", "POL-03"} <= found
    assert "SCH-01" not in found


def test_the_same_seed_finds_the_same_with_the_same_smallest_scenarios() -> None:
    def found(seed: int) -> list[tuple[str, str, tuple[str, ...]]]:
        with FakeSession(HIAPI, HIAPI.models[0], seed) as opened:
            search = Search(HIAPI, CallableRunner(opened, naive), Plan(12, seed))
            verdicts = search.run("naive", "m").verdicts
        return [
            (one.rule.id, one.verdict, tuple(str(finding.trace.scenario) for finding in one.findings))
            for one in verdicts
        ]

    assert found(3) == found(3)


def test_the_class_for_pytest_has_a_test_for_each_rule_that_applies() -> None:
    suite = client_suite(naive, provider="hiapi", runs=5)
    names = [name for name in vars(suite) if name.startswith("test_")]
    assert "test_SUB_01_no_ambiguous_resend" in names
    assert len(names) == len([rule for rule in rules() if rule.applies(HIAPI)])


@pytest.mark.parametrize(
    "how", [{"provider": "nobody"}, {"provider": "hiapi", "model": "x"}, {"provider": "hiapi", "rules": ["X-1"]}]
)
def test_a_class_for_what_is_not_there_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(LookupError):
        client_suite(naive, **how)


def test_the_class_fails_where_a_rule_is_broken(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from hobbyhorse import client_suite
        import sys

        sys.path.insert(0, ROOT)

        from tests.runners.test_against_fake import naive

        TestNaive = client_suite(naive, provider="hiapi", runs=40, accepted={"POL-03": "known", "SCH-01": "stale"})
        """.replace("ROOT", repr(str(ROOT)))
    )
    found = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA")
    found.stdout.fnmatch_lines(["*FAILED*test_SUB_01_no_ambiguous_resend*"])
    found.stdout.fnmatch_lines(["*XFAIL*test_POL_03_all_terminals*known*"])
    found.stdout.fnmatch_lines(["*SCH-01 is accepted (stale), and not broken: take it out*"])
    found.stdout.fnmatch_lines(["*server: submit: *"])
