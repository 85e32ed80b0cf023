"""Test cases with a command in virtual time: its traces are those of a callable, or the run has no verdict."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import (
    AHEAD,
    CROWD,
    FOLDER,
    HAPPY,
    KILLED,
    MOVED,
    RECOVERY,
    TOGETHER,
    TWICE,
    Case,
)
from hobbyhorse.conformance.client.planning import HALF_SENT
from hobbyhorse.conformance.client.report import report_json
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import STUCK_JOB, Plan, Search
from hobbyhorse.conformance.judge import check
from hobbyhorse.runners.against_fake import BETWEEN_SECONDS, RECOVERY_SECONDS, FakeSession
from hobbyhorse.runners.virtual.command_runner import SLOW, SPINNING, VirtualCommandRunner
from hobbyhorse.runners.virtual.compiled import Unavailable
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Outcome, Trace
from tests.conftest import CONTRACTS, ROOT

EXAMPLE = ROOT / "examples" / "python" / "hiapi.py"
HIAPI = next(contract for contract in CONTRACTS if contract.key == "hiapi")
RUNFLOW = next(contract for contract in CONTRACTS if contract.key == "runflow")


@pytest.fixture(scope="module")
def session() -> Iterator[FakeSession]:
    with FakeSession(HIAPI, HIAPI.models[0]) as opened:
        yield opened


def command(session: FakeSession, tracer: Path, *argv: str, limit: float = 60.0) -> VirtualCommandRunner:
    words = list(argv) or [sys.executable, str(EXAMPLE)]
    return VirtualCommandRunner(session, words, [*words, "--resume"], limit, 2, tracer=tracer)


def broken(trace: Trace, contract: Any = HIAPI) -> set[str]:
    return {rule.id for rule in rules() if check(rule, AnnotatedTrace(contract, trace)).breaches}


def kinds(trace: Trace) -> list[str]:
    return [run.outcome.kind for run in trace.runs if run.outcome is not None]


POLL = 'curl -s "$HOBBYHORSE_BASE_URL/v1/tasks/none" -H "Authorization: Bearer $HOBBYHORSE_API_KEY"'


def shell(tmp_path: Path, body: str) -> list[str]:
    """Return a client that submits, and then does what a shell script says."""
    script = tmp_path / "client.sh"
    script.write_text(
        'curl -s -X POST "$HOBBYHORSE_BASE_URL/v1/tasks" -H "Authorization: Bearer $HOBBYHORSE_API_KEY"'
        ' -H "Content-Type: application/json" --data-binary "@$HOBBYHORSE_REQUEST" >/dev/null\n' + body
    )
    return ["bash", str(script)]


def test_a_command_waits_minutes_in_no_time_and_its_trace_has_them(session: FakeSession, tracer: Path) -> None:
    begun = time.monotonic()
    trace = command(session, tracer).run(HAPPY)
    assert (kinds(trace), broken(trace)) == (["success"], set())
    outcome = trace.runs[0].outcome
    assert outcome is not None
    assert 60 < outcome.ended - trace.runs[0].started < 120
    assert time.monotonic() - begun < 40
    assert (trace.virtual, trace.real_dates, trace.unjudged) == (True, False, "")


def test_a_client_s_own_deadline_is_observed(session: FakeSession, tracer: Path) -> None:
    trace = command(session, tracer).run(STUCK_JOB)
    assert (kinds(trace), broken(trace)) == (["timeout"], set())
    outcome = trace.runs[0].outcome
    assert outcome is not None
    assert outcome.ended - trace.runs[0].started == pytest.approx(600, abs=30)


def test_a_long_retry_after_is_waited_for_also_as_a_date(session: FakeSession, tracer: Path) -> None:
    for form in ({"retry_after": 110}, {"retry_after_date": 120}):
        moves = [{"move": "rate_limited", **form}]
        trace = command(session, tracer).run(Case({"moves": {"status": moves}}))
        assert (kinds(trace), broken(trace)) == (["success"], set()), form
        read = AnnotatedTrace(HIAPI, trace)
        polls = [step for step in read.steps if step.role == "status"]
        limited = next(at for at, step in enumerate(polls) if step.status == 429)
        assert polls[limited + 1].exchange.arrived - polls[limited].exchange.arrived >= 110


def test_a_client_that_cuts_a_long_retry_after_short_breaks_a_rule(
    session: FakeSession, tracer: Path, tmp_path: Path
) -> None:
    hasty = tmp_path / "client.py"
    text = EXAMPLE.read_text().replace("import time\n", "import time\n_sleep = time.sleep\n")
    hasty.write_text(text.replace("time.sleep(", "(lambda seconds: _sleep(min(seconds, 5)))("))
    for form in ({"retry_after": 110}, {"retry_after_date": 120}):
        scenario = {"moves": {"status": [{"move": "rate_limited", **form}]}}
        trace = command(session, tracer, sys.executable, str(hasty)).run(Case(scenario))
        assert "RTY-01" in broken(trace)


def test_two_runs_do_not_share_their_moment_and_a_recovery_waits(session: FakeSession, tracer: Path) -> None:
    for kind, pause in ((TWICE, BETWEEN_SECONDS), (FOLDER, BETWEEN_SECONDS), (RECOVERY, RECOVERY_SECONDS)):
        trace = command(session, tracer).run(Case({}, kind))
        assert (kinds(trace), broken(trace)) == (["success"] * 2, set())
        first = trace.runs[0].outcome
        assert first is not None
        assert trace.runs[1].started - first.ended >= pause


def test_several_commands_share_one_time(session: FakeSession, tracer: Path) -> None:
    for kind in (TOGETHER, CROWD):
        trace = command(session, tracer).run(Case({}, kind))
        assert len({run.started for run in trace.runs}) == 1
        assert len(trace.runs) == 3
        assert broken(trace) == set()
    assert kinds(command(session, tracer).run(Case({}, TOGETHER))) == ["success"] * 3


def test_a_command_is_killed_while_it_waits_and_collects_its_job(session: FakeSession, tracer: Path) -> None:
    held: dict[str, Any] = {"move": "timeout", "accepted": True}
    cases = [
        Case({"moves": {"submit": [held]}}, KILLED, 1),
        Case({"moves": {"status": [{"move": "timeout"}]}}, MOVED, 2),
    ]
    for trace in command(session, tracer)(cases):
        assert [run.resumed for run in trace.runs] == [False, True]
        assert kinds(trace)[1] == "success"
        assert trace.jobs is not None
        assert len(trace.jobs) == 1
        assert broken(trace) == set()


def test_a_command_is_killed_in_the_middle_of_a_download(session: FakeSession, tracer: Path, tmp_path: Path) -> None:
    case = Case({"moves": {"media": [dict(HALF_SENT)]}}, KILLED, 3)
    careful = command(session, tracer).run(case)
    assert kinds(careful) == ["unfinished", "success"]
    assert broken(careful) == set()
    text = EXAMPLE.read_text().replace(
        "                body += chunk\n",
        "                body += chunk\n"
        '                Path(os.environ["HOBBYHORSE_OUTPUT"]).write_bytes(body if b"ftyp" in body else b"")\n',
    )
    lazy = tmp_path / "client.py"
    lazy.write_text(
        text.replace(
            "    request = json.loads",
            "    if output.exists() and output.stat().st_size:\n        return 0\n    request = json.loads",
        )
    )
    trace = command(session, tracer, sys.executable, str(lazy)).run(case)
    assert kinds(trace) == ["unfinished", "success"]
    assert broken(trace) == {"RES-06"}


def test_the_clock_of_a_command_is_set_and_a_deadline_by_it_breaks_a_rule(
    session: FakeSession, tracer: Path, tmp_path: Path
) -> None:
    assert broken(command(session, tracer).run(Case({}, AHEAD))) == set()
    wrong = tmp_path / "client.py"
    wrong.write_text(EXAMPLE.read_text().replace("time.monotonic()", "time.time()"))
    trace = command(session, tracer, sys.executable, str(wrong)).run(Case({}, AHEAD))
    assert "CLK-01" in broken(trace)


def test_a_client_with_callbacks_gets_them(tracer: Path) -> None:
    with FakeSession(RUNFLOW, RUNFLOW.models[0]) as session:
        words = [sys.executable, str(ROOT / "examples" / "python" / "runflow_callbacks.py")]
        trace = VirtualCommandRunner(session, words, limit=60.0, tracer=tracer).run(HAPPY)
    assert (kinds(trace), broken(trace, RUNFLOW)) == (["success"], set())
    assert trace.deliveries


def test_a_process_that_outlives_the_command_is_watched(session: FakeSession, tracer: Path, tmp_path: Path) -> None:
    body = f"(for n in 1 2 3 4; do sleep 10; {POLL}; done) >/dev/null 2>&1 &\nexit 1\n"
    trace = command(session, tracer, *shell(tmp_path, body)).run(HAPPY)
    outcome = trace.runs[0].outcome
    assert outcome is not None
    later = [one.arrived - outcome.ended for one in trace.exchanges[1:]]
    assert later == pytest.approx([10, 20, 30, 40], abs=0.1)


def test_a_client_that_waits_forever_is_stuck(session: FakeSession, tracer: Path, tmp_path: Path) -> None:
    trace = command(session, tracer, *shell(tmp_path, "kill -STOP $$\n")).run(HAPPY)
    outcome = trace.runs[0].outcome
    assert outcome is not None
    assert (outcome.kind, outcome.stuck, trace.unjudged) == ("unfinished", True, "")


def test_a_client_that_floods_is_ended(
    session: FakeSession, tracer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.runners.virtual.command_runner.MOST_REQUESTS", 20)
    body = f"while :; do {POLL} >/dev/null; done\n"
    trace = command(session, tracer, *shell(tmp_path, body)).run(HAPPY)
    outcome = trace.runs[0].outcome
    assert outcome is not None
    assert "it was killed" not in outcome.message
    assert "the client has sent more than 20 requests" in outcome.message


def test_runs_without_a_verdict_are_counted_and_not_judged(session: FakeSession, tracer: Path) -> None:
    happy = command(session, tracer).run(HAPPY)
    stuck = replace(happy.runs[0], outcome=Outcome("unfinished", happy.ended, stuck=True))

    def result(unjudged: str) -> Result:
        def play(cases: Sequence[Case]) -> Iterator[Trace]:
            for case in cases:
                yield (
                    happy if case == HAPPY else replace(happy, runs=(stuck,), scenario=case.scenario, unjudged=unjudged)
                )

        return Search(HIAPI, play, Plan(6)).run("client", HIAPI.models[0].id)

    judged, unjudged = result(""), result("ptrace")
    assert judged.broken
    assert judged.unjudged == {}
    assert not unjudged.broken
    assert unjudged.unjudged["ptrace"] == unjudged.runs - 1
    assert report_json(unjudged)["summary"]["unjudged"] == unjudged.unjudged


def uncovered(waits: str, way: str, tmp_path: Path) -> list[str]:
    return shell(tmp_path, f"{waits} {way}\nexit 1\n")


def test_a_call_that_is_not_covered_leaves_the_run_without_a_verdict(
    session: FakeSession, tracer: Path, waits: str, tmp_path: Path
) -> None:
    runner = command(session, tracer, *uncovered(waits, "ptrace", tmp_path))
    assert runner.run(HAPPY).unjudged == "ptrace"
    with pytest.raises(Unavailable, match="the client uses ptrace"):
        runner.fit()


def test_a_denied_call_counts_only_if_the_client_needs_it(
    session: FakeSession, tracer: Path, waits: str, tmp_path: Path
) -> None:
    runner = command(session, tracer, *uncovered(waits, "io_uring", tmp_path))
    assert runner.run(HAPPY).unjudged == "io_uring_setup"
    good = tmp_path / "good.sh"
    good.write_text(f"{waits} io_uring\nexec {sys.executable} {EXAMPLE}\n")
    runner = command(session, tracer, "bash", str(good))
    assert (kinds(runner.run(HAPPY)), runner.run(HAPPY).unjudged) == (["success"], "")
    assert runner.run(STUCK_JOB).unjudged == ""


def test_a_client_that_reads_its_clock_in_a_loop_until_it_is_cut_off_has_no_verdict(
    session: FakeSession, tracer: Path, tmp_path: Path
) -> None:
    body = "while :; do :; done\n"
    runner = command(session, tracer, *shell(tmp_path, body), limit=12.0)
    assert runner.run(HAPPY).unjudged == SPINNING
    assert "the client computed for more than a second" in runner.late_notes()[0]


def test_a_run_that_takes_too_much_real_time_has_no_verdict(session: FakeSession, tracer: Path) -> None:
    assert command(session, tracer, "bash", "-c", "while :; do sleep 1; done", limit=0.5).run(HAPPY).unjudged == SLOW


def outcome_of(trace: Trace) -> Mapping[str, Any]:
    return {"kinds": kinds(trace), "requests": [one.method + one.url.partition("?")[0] for one in trace.exchanges]}


def test_the_same_case_gives_the_same_outcome(session: FakeSession, tracer: Path) -> None:
    case = Case({"moves": {"submit": [{"move": "server_error"}]}})
    found = [outcome_of(trace)["kinds"] for trace in command(session, tracer)([case] * 6)]
    assert found == [found[0]] * 6
