"""The commands that test clients, from their words to their exit status."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.traces.trace import to_json
from tests.broken_clients.mutants import EXAMPLES, MUTANTS, load
from tests.conftest import CONTRACTS, Run

HIAPI = next(contract for contract in CONTRACTS if contract.key == "hiapi")
PROVIDER = ("--provider", "hiapi")
KEEPS = ("--python", f"{EXAMPLES / 'hiapi.py'}:generate")
BREAKS = next(one for one in MUTANTS if (one.rule, one.client, one.kind) == ("SUB-02", "hiapi", "python"))
LOST = {"moves": {"submit": [{"move": "accept_then_drop"}]}}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def breaks(tmp_path: Path) -> tuple[str, str]:
    """The option that names a client which breaks a rule."""
    (tmp_path / "broken.py").write_text(BREAKS.source)
    return "--python", "broken.py:generate"


def verdicts(folder: Path) -> dict[str, str]:
    return {one["id"]: one["verdict"] for one in json.loads((folder / "report.json").read_text())["rules"]}


def client(*words: object) -> tuple[object, ...]:
    return ("conformance", "client", *PROVIDER, *words)


# ---- what is wrong with the words is one line and exit status 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name one client"),
        ((*KEEPS, "--", "true"), "name one client"),
        ((*KEEPS, "--profile", "night"), "--profile 'night'; allowed are ci, full"),
        ((*KEEPS, "--runs", "0"), "--runs 0; it is a number from 1"),
        ((*KEEPS, "--parallel", "0"), "--parallel 0; it is a number from 1"),
        ((*KEEPS, "--rule", "SUB-99"), "--rule 'SUB-99': there is no such rule; `hobbyhorse rules`"),
        ((*KEEPS, "--model", "acme"), "acme"),
        ((*KEEPS, "--baseline", "nowhere.json"), "nowhere.json"),
        ((*KEEPS, "--resume-command", "true"), "--resume-command is for commands"),
        (("--python", "nowhere.py:generate"), "nowhere.py"),
        (("--", "no-such-command-here"), "the client: there is no command 'no-such-command-here'"),
        (("--resume-command", "no-such-command-here", "--", "true"), "--resume-command: there is no command"),
        (("--resume-command", "", "--", "true"), "--resume-command: there is no command ''"),
        (("--", "client.py:generate"), "a Python callable is named with --python client.py:generate"),
        (("--", "./plain.txt"), "'./plain.txt' is a file that cannot be executed; name what runs it before it"),
        (("--speed", "0", "--", "true"), "--speed and --limit are greater than 0"),
        (("--limit", "0", "--", "true"), "--speed and --limit are greater than 0"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(words: Iterable[str], told: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("plain")
    done = run(*client(*words))
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert told in line


def test_a_report_that_cannot_be_written_is_told_in_a_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(*client(*KEEPS, "--runs", "1", "--report", "file"))
    assert done.status == 2
    assert "--report 'file' cannot be written" in done.err.splitlines()[-1]


# ---- client, its report, its baseline


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


def test_a_broken_rule_is_named_reported_and_replayed_until_it_is_mended(
    run: Run, breaks: tuple[str, str], tmp_path: Path
) -> None:
    done = run(*client(*breaks, "--runs", "20", "--report", "report"))
    assert done.status == 1
    assert BREAKS.rule in done.out
    assert verdicts(tmp_path / "report")[BREAKS.rule] == "broken"
    finding = tmp_path / "report" / "findings" / f"{BREAKS.rule}.scenario.json"
    for name in ("index.html", "junit.xml"):
        assert BREAKS.rule in (tmp_path / "report" / name).read_text()
    for option, status, verdict in ((breaks, 1, "still-broken"), (KEEPS, 0, "fixed")):
        again = run("conformance", "replay", finding, *option)
        assert (again.status, again.out.split()[:2]) == (status, [BREAKS.rule, f"{verdict}:"])


def test_the_same_seed_finds_the_same(run: Run, breaks: tuple[str, str], tmp_path: Path) -> None:
    seen = []
    for folder in ("one", "two"):
        run(*client(*breaks, "--runs", "20", "--seed", "7", "--report", folder))
        files = sorted((tmp_path / folder / "findings").glob("*.scenario.json"))
        seen.append([(path.name, json.loads(path.read_text())["scenario"]) for path in files])
    assert seen[0] == seen[1]
    assert seen[0]


def test_only_the_rules_that_are_named_are_looked_for(run: Run, breaks: tuple[str, str], tmp_path: Path) -> None:
    done = run(*client(*breaks, "--runs", "12", "--rule", "POL-01", "--report", "report"))
    assert done.status == 0, done.out
    assert verdicts(tmp_path / "report").keys() == {"POL-01"}


def test_what_is_known_is_accepted_until_it_is_no_more(run: Run, breaks: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "known.json").write_text(json.dumps({BREAKS.rule: "the next version mends it"}))
    words = ("--runs", "12", "--rule", BREAKS.rule, "--baseline", "known.json")
    known = run(*client(*breaks, *words))
    assert known.status == 0, known.out
    assert f"{BREAKS.rule} is accepted: the next version mends it" in known.out
    assert "no finding, 1 accepted" in known.out
    stale = run(*client(*KEEPS, *words))
    assert stale.status == 1
    assert "stale" in stale.out


# ---- replay


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rule": "SUB-99"}, "there is no rule 'SUB-99'"),
        ({"provider": "acme"}, "acme"),
        ({"model": "acme"}, "acme"),
        ({"scenario": 7}, "finding"),
    ],
)
def test_a_finding_that_is_none_is_told_in_a_line(change: dict[str, Any], told: str, run: Run, tmp_path: Path) -> None:
    said = {"rule": "SUB-01", "provider": "hiapi", "model": HIAPI.models[0].id, "scenario": LOST}
    (tmp_path / "finding.json").write_text(json.dumps(said | change))
    done = run("conformance", "replay", "finding.json", *KEEPS)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert told in line


def test_a_finding_is_replayed_at_least_once(run: Run, tmp_path: Path) -> None:
    said = {"rule": "SUB-01", "provider": "hiapi", "model": HIAPI.models[0].id, "scenario": LOST}
    (tmp_path / "finding.json").write_text(json.dumps(said))
    assert run("conformance", "replay", "finding.json", "--times", "0", *KEEPS).status == 2
    assert run("conformance", "replay", "finding.json", "--times", "1", *KEEPS).out.startswith("SUB-01 fixed: ")


# ---- judge


@pytest.mark.parametrize(("source", "status"), [(BREAKS.working, 0), (BREAKS.source, 1)])
def test_a_trace_is_judged_without_a_server(source: str, status: int, run: Run, tmp_path: Path) -> None:
    with FakeSession(HIAPI, HIAPI.models[0]) as arena:
        trace = CallableRunner(arena, load("judged", source)).run(Case(LOST))
    (tmp_path / "trace.json").write_text(json.dumps(to_json(trace)))
    done = run("conformance", "judge", "trace.json", *PROVIDER)
    assert done.status == status, done.out
    assert (f"\n{BREAKS.rule} " in done.out) is bool(status)
    said = run("conformance", "judge", "trace.json", *PROVIDER, "--json")
    assert said.status == status
    broken = [one["id"] for one in json.loads(said.out)["rules"] if one["verdict"] == "broken"]
    assert (BREAKS.rule in broken) is bool(status)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, "No such file"),
        ("{", ""),
        ("[]", "neither a HAR file"),
        ("{}", "neither a HAR file"),
        ('{"format": "x"}', "neither a HAR file nor a trace"),
        ('{"log": {}}', ""),
        ('{"log": {"version": "1.2", "entries": []}}', ""),
    ],
)
def test_a_file_that_cannot_be_judged_is_told_in_a_line(said: str | None, told: str, run: Run, tmp_path: Path) -> None:
    if said is not None:
        (tmp_path / "file").write_text(said)
    done = run("conformance", "judge", "file", *PROVIDER)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "file" in line
    assert told in line


# ---- rules


def test_the_rules_are_listed_explained_and_told_as_json(run: Run) -> None:
    listed = run("rules")
    assert listed.status == 0
    for rule in rules():
        assert rule.id in listed.out
        assert rule.name in listed.out
    for word in ("SUB-01", "sub-01"):
        one = run("rules", word)
        assert one.status == 0
        assert next(rule.why for rule in rules() if rule.id == "SUB-01").split(".")[0] in one.out
    family = json.loads(run("rules", "sub", "--json").out)
    assert [one["id"] for one in family] == [rule.id for rule in rules() if rule.family == "SUB"]
    assert run("rules", "SUB-99").status == 2
