"""`hobbyhorse conformance client`: exit status, report, seed, rules and baseline."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from hobbyhorse.conformance.client.rules import rules
from tests.cli.sample_clients import BREAKS, KEEPS, PROVIDER
from tests.conftest import Run

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
    done = run(*client(*KEEPS, "--runs", "30", "--report", "report"))
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
