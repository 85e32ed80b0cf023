"""`hobbyhorse conformance replay`: the verdict on a finding, and its exit status."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import Judgement, Rule
from hobbyhorse.runners.against_fake import run_limit
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.cli.sample_clients import BREAKS, HIAPI, KEEPS, LOST_RESPONSE, PROVIDER
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("working_directory")

FINDING = {"rule": "SUB-01", "provider": "hiapi", "model": HIAPI.models[0].id, "scenario": LOST_RESPONSE}
SOMETIMES = """
import broken, working

runs = []

def generate(base_url, api_key, request):
    runs.append(api_key)
    return (broken if api_key == runs[0] else working).generate(base_url, api_key, request)
"""


@pytest.fixture
def finding(breaks: tuple[str, str], run: Run, tmp_path: Path) -> Path:
    """The finding of a client that breaks a rule."""
    run("conformance", "client", *PROVIDER, *breaks, "--runs", "20", "--report", "report")
    return tmp_path / "report" / "findings" / f"{BREAKS.rule}.scenario.json"


def test_a_finding_is_still_broken_until_the_client_is_fixed(finding: Path, breaks: tuple[str, str], run: Run) -> None:
    for option, status, verdict in ((breaks, 1, "still-broken"), (KEEPS, 0, "fixed")):
        done = run("conformance", "replay", finding, *option)
        assert (done.status, done.out.split()[:2]) == (status, [BREAKS.rule, f"{verdict}:"])


def test_a_rule_that_is_broken_in_some_runs_is_flaky(
    finding: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "working.py").write_text(BREAKS.working)
    (tmp_path / "sometimes.py").write_text(SOMETIMES)
    done = run("conformance", "replay", finding, "--python", "sometimes.py:generate", "--times", "3")
    assert (done.status, done.out.splitlines()[0].partition(" runs")[0]) == (
        1,
        f"{BREAKS.rule} flaky: broken in 1 of 3",
    )


def test_a_client_that_never_reaches_the_situation_proves_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "finding.json").write_text(json.dumps(FINDING))
    (tmp_path / "idle.py").write_text("def generate(base_url, api_key, request):\n    raise ValueError('no')\n")
    done = run("conformance", "replay", "finding.json", "--python", "idle.py:generate")
    assert (done.status, done.err) == (4, "")
    assert done.out.startswith("SUB-01 not-reached: broken in 0 of 3 runs with submit: accept_then_drop\n")
    assert "this proves nothing" in done.out


def test_a_client_that_is_stopped_before_its_end_is_not_fixed(run: Run, tmp_path: Path) -> None:
    """It reached the situation, but may break the rule later, as a command with little real time does."""
    scenario = {"moves": {"status": [{"move": "error_envelope", "times": "always"}]}}
    (tmp_path / "finding.json").write_text(json.dumps(FINDING | {"rule": "POL-09", "scenario": scenario}))
    (tmp_path / "endless.py").write_text(BREAKS.working + ENDLESS)
    done = run("conformance", "replay", "finding.json", "--python", "endless.py:wait_forever", "--times", "1")
    assert (done.status, done.err) == (4, "")
    assert done.out.startswith("POL-09 not-reached: broken in 0 of 1 runs")
    assert "the client was stopped before its end, so this proves nothing" in done.out
    assert "1 of 1 runs did not finish" in done.out


def test_a_run_that_is_stopped_names_what_gives_it_more_time(run: Run, tmp_path: Path) -> None:
    (tmp_path / "finding.json").write_text(json.dumps(FINDING | {"rule": "POL-09", "scenario": {}}))
    (tmp_path / "asleep.py").write_text(
        "import time\n\ndef generate(base_url, api_key, request):\n    time.sleep(1e6)\n"
    )
    done = run("conformance", "replay", "finding.json", "--python", "asleep.py:generate", "--times", "1")
    assert f"at the limit of its virtual time; the limit is {run_limit(HIAPI):,.0f} s, which no option" in done.out
    assert "--limit" not in done.out
    words = ("--real-time", "--limit", "0.2", "--times", "1", "--", "sleep", "60")
    done = run("conformance", "replay", "finding.json", *words)
    assert "at its limit of 0.2 s; --limit allows more, and so does --speed in real time" in done.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "SUB-99"}, "finding.json: unknown rule 'SUB-99'; `hobbyhorse rules` lists all"),
        ({"provider": "acme"}, "unknown provider 'acme'"),
        ({"model": "acme"}, "--model is 'acme'"),
        ({"scenario": 7}, "finding.json"),
    ],
)
def test_an_invalid_finding_is_one_line_and_exit_status_2(
    change: dict[str, Any], message: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "finding.json").write_text(json.dumps(FINDING | change))
    done = run("conformance", "replay", "finding.json", *KEEPS)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert message in line


def test_a_finding_is_replayed_at_least_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "finding.json").write_text(json.dumps(FINDING))
    done = run("conformance", "replay", "finding.json", "--times", "0", *KEEPS)
    assert (done.status, done.err) == (2, "hobbyhorse: --times is 0; allowed: 1 or more\n")
    done = run("conformance", "replay", "finding.json", "--times", "1", *KEEPS)
    assert done.out.startswith("SUB-01 fixed: broken in 0 of 1 runs")


def test_a_situation_that_was_not_reached_may_be_allowed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "finding.json").write_text(json.dumps(FINDING))
    (tmp_path / "idle.py").write_text("def generate(base_url, api_key, request):\n    raise ValueError('no')\n")
    words = ("finding.json", "--python", "idle.py:generate", "--times", "1", "--allow-not-observed")
    assert run("conformance", "replay", *words).status == 0


ENDLESS = """

def wait_forever(base_url, api_key, request):
    import time
    try:
        generate(base_url, api_key, request)
    finally:
        while True:
            time.sleep(60)
"""
AFTER = """
import broken, working

RUNS = []

def generate(base_url, api_key, request):
    RUNS.append(api_key)
    return (working if len(RUNS) < 3 else broken).generate(base_url, api_key, request)
"""


@pytest.mark.parametrize("times", ["1", "2"])
def test_the_runs_that_a_finding_needs_precede_each_replay(
    times: str, breaks: tuple[str, str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "working.py").write_text(BREAKS.working)
    (tmp_path / "after.py").write_text(AFTER)
    happy: dict[str, Any] = {"scenario": {}}
    scenario = {"moves": {"submit": [{"move": "rate_limited"}]}}
    needs = {**FINDING, "rule": BREAKS.rule, "scenario": scenario}
    for after, status in (([happy, happy], 1), ([happy], 0)):
        (tmp_path / "finding.json").write_text(json.dumps(needs | {"after": after}))
        done = run("conformance", "replay", "finding.json", "--python", "after.py:generate", "--times", times)
        assert done.status == status, done.out + done.err
        assert f"in {times if status else 0} of {times} runs" in done.out
        assert f"each after {len(after)} other runs" in done.out


def test_a_killed_client_is_replayed_with_the_command_that_resumes_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "finding.json").write_text(json.dumps(FINDING | {"drill": "killed", "point": 1}))
    done = run("conformance", "replay", "finding.json", *KEEPS)
    assert done.status == 2
    assert "killed and started again; give --resume-command" in done.err


def test_an_interrupted_or_failed_replay_reports_the_runs_until_then(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "finding.json").write_text(json.dumps(FINDING))
    for error, status, words in ((KeyboardInterrupt(), 130, "interrupted"), (KeyError("stage"), 3, "")):
        judged: list[object] = []

        def failing(rule: Rule, annotated: AnnotatedTrace, error: BaseException = error) -> Judgement:
            judged.append(rule)  # noqa: B023
            if len(judged) == 2:  # noqa: B023
                raise error
            return check(rule, annotated)

        monkeypatch.setattr("hobbyhorse.conformance.fallback.check", failing)
        done = run("conformance", "replay", "finding.json", *KEEPS)
        assert (done.status, "SUB-01 fixed: broken in 0 of 1 runs" in done.out) == (status, True), done.out
        assert words in done.out
        assert ("internal error: replaying submit: accept_then_drop: KeyError: 'stage'" in done.err) is (status == 3)


AS_COMMAND = """
import json, os, sys

import broken

request = json.load(open(os.environ["HOBBYHORSE_REQUEST"]))
try:
    video = broken.generate(os.environ["HOBBYHORSE_BASE_URL"], os.environ["HOBBYHORSE_API_KEY"], request)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
if not isinstance(video, bytes):
    video = open(video, "rb").read()
open(os.environ["HOBBYHORSE_OUTPUT"], "wb").write(video)
"""


def test_a_finding_of_a_callable_is_replayed_as_a_command(finding: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "as_command.py").write_text(AS_COMMAND)
    done = run("conformance", "replay", finding, "--times", "1", "--", sys.executable, "as_command.py")
    assert (done.status, done.out.split()[:2]) == (1, [BREAKS.rule, "still-broken:"]), done.out
