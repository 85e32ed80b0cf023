"""`hobbyhorse conformance client`: exit status, report, seed, rules and baseline."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.runners.against_fake import CallableRunner
from hobbyhorse.traces.trace import Trace
from tests.broken_clients.mutants import EXAMPLES
from tests.cli.sample_clients import BREAKS, KEEPS, PROVIDER
from tests.conftest import Run


def missing_key() -> Any:
    """Fail as a bug in a rule would."""
    raise KeyError("stage")


pytestmark = pytest.mark.usefixtures("working_directory")


def client(*words: object) -> tuple[object, ...]:
    return ("conformance", "client", *PROVIDER, *words)


def verdicts(folder: Path) -> dict[str, str]:
    return {one["id"]: one["verdict"] for one in json.loads((folder / "report.json").read_text())["rules"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*KEEPS, "--profile", "night"), "--profile is 'night'; allowed: ci, full"),
        ((*KEEPS, "--runs", "0"), "--runs is 0; allowed: 1 or more"),
        ((*KEEPS, "--rule", "SUB-99"), "--rule: unknown rule 'SUB-99'; `hobbyhorse rules` lists all"),
        ((*KEEPS, "--model", "acme"), "--model is 'acme'; allowed for hiapi: "),
        ((*KEEPS, "--baseline", "nowhere.json"), "nowhere.json"),
        (("--python", "nowhere.py:generate"), "nowhere.py"),
    ],
)
def test_a_mistake_in_the_options_is_one_line_and_exit_status_2(words: Iterable[str], message: str, run: Run) -> None:
    done = run(*client(*words))
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert message in line


def test_a_report_that_cannot_be_written_is_one_line_and_exit_status_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(*client(*KEEPS, "--runs", "1", "--report", "file"))
    assert done.status == 2
    assert "--report: 'file' cannot be written" in done.err.splitlines()[-1]


def test_a_client_that_cannot_be_tested_ends_with_status_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("def generate(base_url, api_key, request):\n    raise ValueError('no luck')\n")
    done = run(*client("--python", "fails.py:generate", "--runs", "3"))
    assert (done.status, done.out) == (2, "")
    assert "no luck" in done.err.splitlines()[-1]


def test_a_client_that_keeps_every_rule_ends_with_status_0(run: Run, tmp_path: Path) -> None:
    done = run(*client(*KEEPS, "--parallel", "1", "--runs", "30", "--report", "report"))
    assert done.status == 0, done.out
    found = verdicts(tmp_path / "report")
    assert set(found) == {rule.id for rule in rules()}
    assert "broken" not in found.values()
    assert found["SUB-01"] == "passed"
    assert list((tmp_path / "report" / "findings").glob("*")) == []
    assert "30 runs" in done.out
    assert "a second" in done.out


def test_a_broken_rule_is_named_and_reported(run: Run, breaks: tuple[str, str], tmp_path: Path) -> None:
    done = run(*client(*breaks, "--runs", "20", "--report", "report"))
    assert done.status == 1
    assert BREAKS.rule in done.out
    assert verdicts(tmp_path / "report")[BREAKS.rule] == "broken"
    assert (tmp_path / "report" / "findings" / f"{BREAKS.rule}.scenario.json").is_file()
    for name in ("index.html", "junit.xml"):
        assert BREAKS.rule in (tmp_path / "report" / name).read_text()


def test_faults_and_variations_for_which_no_run_was_left_are_listed(run: Run, tmp_path: Path) -> None:
    done = run(*client(*KEEPS, "--parallel", "1", "--runs", "12", "--report", "report"))
    faults = json.loads((tmp_path / "report" / "report.json").read_text())["summary"]["deviations"]
    untried = faults["untried"]
    assert faults["met"] + len(faults["unmet"]) + len(untried) == faults["total"] == len(set(untried)) + faults["met"]
    assert f"{len(untried)} of them were not tried, because the runs were used up" in done.out
    assert "submit: accept_then_drop" in untried
    assert "submit: framed; status: framed; media: framed" in untried
    page = (tmp_path / "report" / "index.html").read_text()
    assert f"{len(untried)} single faults without a run left for them" in page
    assert all(f"<code>{escape(name)}</code>" in page for name in untried)


def test_the_same_seed_finds_the_same_scenarios(run: Run, breaks: tuple[str, str], tmp_path: Path) -> None:
    seen = []
    for folder in ("one", "two"):
        run(*client(*breaks, "--runs", "20", "--seed", "7", "--report", folder))
        files = sorted((tmp_path / folder / "findings").glob("*.scenario.json"))
        seen.append([(path.name, json.loads(path.read_text())["scenario"]) for path in files])
    assert seen[0] == seen[1]
    assert seen[0]


def test_only_the_named_rules_are_checked(run: Run, breaks: tuple[str, str], tmp_path: Path) -> None:
    done = run(*client(*breaks, "--runs", "12", "--rule", "POL-01", "--report", "report"))
    assert done.status == 0, done.out
    assert verdicts(tmp_path / "report").keys() == {"POL-01"}


def test_a_finding_in_the_baseline_is_accepted_and_is_stale_when_it_is_gone(
    run: Run, breaks: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "known.json").write_text(json.dumps({BREAKS.rule: "fixed in the next version"}))
    words = ("--runs", "12", "--rule", BREAKS.rule, "--baseline", "known.json")
    known = run(*client(*breaks, *words))
    assert known.status == 0, known.out
    assert f"{BREAKS.rule} is accepted: fixed in the next version" in known.out
    assert "no finding, 1 accepted" in known.out
    stale = run(*client(*KEEPS, *words))
    assert stale.status == 1
    assert "stale" in stale.out


def test_a_rule_that_was_asked_for_but_not_observed_has_a_status_of_its_own(run: Run) -> None:
    words = (*KEEPS, "--runs", "3", "--rule", "PER-01")
    done = run(*client(*words))
    assert done.status == 4, done.out
    assert "not observed: PER-01: no run was killed: give --resume-command" in done.out
    assert run(*client(*words, "--allow-not-observed")).status == 0


def test_an_own_option_after_the_dashes_is_warned_of(run: Run) -> None:
    done = run(*client("--runs", "1", "--limit", "20", "--", "true", "--report", "dir", "--seed=3", "--other"))
    warned = [line for line in done.err.splitlines() if "after --" in line]
    assert [line.split()[1] for line in warned] == ["--report", "--seed"]
    assert "write it before --" in warned[0]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (RuntimeError("boom"), 3)])
def test_a_search_that_is_stopped_writes_the_report_of_what_was_judged(
    error: BaseException, status: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    run_case = CallableRunner.run

    def stopping(runner: CallableRunner, case: Case) -> Trace:
        judged.append(case.key)
        if len(judged) == 4:
            raise error
        return run_case(runner, case)

    monkeypatch.setattr(CallableRunner, "fit", lambda runner: runner.session.fit)
    monkeypatch.setattr(CallableRunner, "run", stopping)
    done = run(*client(*KEEPS, "--parallel", "1", "--runs", "30", "--report", "report"))
    assert done.status == status, done.out
    assert "Traceback" not in done.out + done.err
    assert "3 runs" in done.out
    summary = json.loads((tmp_path / "report" / "report.json").read_text())["summary"]
    assert (summary["runs"], summary["interrupted"], summary["clean"]) == (3, status == 130, False)
    assert ("boom" in " ".join(summary["errors"])) is (status == 3)
    assert (tmp_path / "report" / "internal-error.txt").is_file() is (status == 3)
    assert "<error" in (tmp_path / "report" / "junit.xml").read_text()


def test_an_error_before_the_first_run_is_one_line_and_status_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CallableRunner, "run", lambda runner, case: missing_key())
    done = run(*client(*KEEPS, "--parallel", "1", "--runs", "3"))
    assert (done.status, done.out) == (3, "")
    assert done.err.splitlines()[-1].startswith("hobbyhorse: internal error: KeyError: 'stage' (in ")


def test_a_page_that_cannot_be_written_is_an_internal_error_beside_the_other_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.cli.client_verdicts.write_page", lambda *given: missing_key())
    done = run(*client(*KEEPS, "--runs", "2", "--report", "report"))
    assert done.status == 3
    errors = json.loads((tmp_path / "report" / "report.json").read_text())["summary"]["errors"]
    assert errors == ["writing index.html: KeyError: 'stage'"]


def test_a_client_whose_own_request_is_refused_gets_a_finding(run: Run, tmp_path: Path) -> None:
    good = (EXAMPLES / "hiapi.py").read_text()
    (tmp_path / "good.py").write_text(good)
    (tmp_path / "wrong.py").write_text(
        "import good\n\n\ndef generate(base_url, api_key, request):\n"
        "    request = {**request, 'input': {**request['input'], 'duration': 'long'}}\n"
        "    return good.generate(base_url, api_key, request)\n"
    )
    done = run(*client("--python", "wrong.py:generate", "--runs", "9", "--report", "report"))
    assert done.status == 1, done.out + done.err
    assert verdicts(tmp_path / "report")["SCH-01"] == "broken"
    assert "the client could not be tested further: the client got no video" in done.out
    assert "1 runs" in done.out


def test_the_baseline_accepts_a_finding_of_one_operation(run: Run, breaks: tuple[str, str], tmp_path: Path) -> None:
    words = ("--runs", "12", "--rule", BREAKS.rule, "--baseline", "known.json")
    for operation, status in (("submit", 0), ("download", 1)):
        (tmp_path / "known.json").write_text(json.dumps({f"{BREAKS.rule}/{operation}": "known"}))
        done = run(*client(*breaks, *words))
        assert done.status == status, done.out
    assert f"{BREAKS.rule}/download is stale" in done.out
    (tmp_path / "known.json").write_text(json.dumps({f"{BREAKS.rule}/dancing": "known"}))
    assert run(*client(*breaks, *words)).status == 2
