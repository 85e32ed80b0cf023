"""Clients that others wrote from the documents: correct ones, and broken ones with the bugs of public issues.

The correct ones break only the rules for which findings.json has a reason. The stored results of the broken ones recur.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import rules
from tests.blind_clients import __main__ as driver
from tests.client_mutation.hunt import FOUND, RUNS, SURVIVED
from tests.conftest import NIGHT, ROOT, many
from tests.mutation.page import stored

CORRECT = ROOT / "tests" / "blind_clients" / "correct"
FINDINGS: dict[str, dict[str, str]] = json.loads((CORRECT / "findings.json").read_text())
CLIENTS = sorted(path.name for path in CORRECT.iterdir() if path.suffix in (".py", ".mjs"))
assert CLIENTS
# By day only a few clients, of another provider and library each.
BY_DAY = ("hiapi_urllib.py", "runflow_requests.py", "vtrix_httpx.py")
# Real seconds of a suite, on a busy machine.
LONGEST = 1_800


@pytest.mark.parametrize("name", CLIENTS if NIGHT else BY_DAY)
def test_a_correct_client_breaks_no_other_rule_than_its_listed_ones(name: str, tmp_path: Path) -> None:
    path = CORRECT / name
    if path.suffix == ".mjs" and shutil.which("node") is None:
        pytest.skip("needs node, which is not installed")
    runs = many(60 if path.suffix == ".mjs" else 500, 40)
    suite = [str(Path(sys.executable).with_name("hobbyhorse")), "conformance", "client"]
    suite += ["--provider", name.partition("_")[0], "--runs", str(runs), "--report", str(tmp_path)]
    # The listed rules are left out: smaller scenarios for what is known to be broken would take most of the time.
    suite += [word for rule in rules() if rule.id not in FINDINGS.get(name, {}) for word in ("--rule", rule.id)]
    suite += ["--", "node", str(path)] if path.suffix == ".mjs" else ["--parallel", "1", "--python", f"{path}:generate"]
    # The client's processes share this environment: a run is the same in each time zone.
    done = subprocess.run(suite, capture_output=True, text=True, timeout=LONGEST, check=False, env=dict(os.environ))
    # 4: not each rule was observed, which --rule promises.
    assert done.returncode in (0, 1, 4), done.stdout + done.stderr
    report: list[dict[str, Any]] = json.loads((tmp_path / "report.json").read_text())["rules"]
    found = {one["id"]: [finding["message"] for finding in one["findings"]] for one in report if one["findings"]}
    assert found == {}


def test_the_listed_findings_are_of_existing_clients_and_rules() -> None:
    known = {rule.id: rule for rule in rules()}
    assert set(FINDINGS) <= set(CLIENTS)
    for name, found in FINDINGS.items():
        assert set(found) <= set(known), name
        for rule, why in found.items():
            assert why.endswith("."), (name, rule)
            # A MUST needs words of a document or a standard, which the client's author would accept.
            assert known[rule].level == "SHOULD" or why.count('"') >= 2, (name, rule)


# ---- broken clients

# By day a tenth of the broken clients runs again, of those that were found.
SHARE_BY_DAY, SEED = 0.1, 7
hunted = pytest.mark.skipif(
    not driver.RESULTS.exists(), reason="no results are stored yet: run `python -m tests.blind_clients`"
)
KEPT = {"clean": {"result": SURVIVED, "runs": 500}, "broken": {"result": FOUND, "rules": ["SUB-01"], "finding": {}}}


def chosen(results: Mapping[str, Any], night: bool) -> list[str]:
    """Return the names of the clients to run again: all at night, else a tenth, of those that were found."""
    if night:
        return sorted(results)
    found = [name for name, one in sorted(results.items()) if "finding" in one["broken"]]
    return Random(SEED).sample(found, min(len(found), round(SHARE_BY_DAY * len(results))))


def differences(results: Mapping[str, Any], names: list[str], night: bool) -> list[str]:
    """Run clients again; return a line for each with another result than the stored one.

    By day the stored result of the clean twin is taken, for which all runs are needed. A broken client faces the test
    case of its stored finding first: a search for it takes several times as long.
    """
    paths = {path.stem: path for path in driver.cases()}

    def again(name: str) -> dict[str, Any]:
        old: dict[str, Any] = results[name]
        if not night and driver.recurs_in(paths[name], old["broken"]["finding"]):
            return old
        return driver.judged(paths[name], RUNS, None if night else old)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(names, pool.map(again, names), strict=True))
    return [
        f"{name}, {twin}: stored {results[name][twin]}, now {new[twin]}"
        for name, new in found.items()
        for twin in driver.TWINS
        if not is_same(results[name][twin], new[twin])
    ]


def is_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two results agree, and name a rule in common if they name any."""
    common = not old.get("rules") or bool(set(old["rules"]) & set(new.get("rules", ())))
    return bool(old["result"] == new["result"] and common)


def test_each_broken_client_names_its_source_and_its_provider() -> None:
    for path in driver.cases():
        first = path.read_text().splitlines()[0]
        assert first.startswith('"""Source: '), path
        assert driver.provider_of(path) in ("hiapi", "runcomfy", "runflow", "vtrix"), path


def test_a_broken_client_is_found_by_a_rule_that_its_twin_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    def in_child(name: str, provider: str, runs: int, ignored: Any, **environment: str) -> dict[str, Any]:
        calls.append((name.rpartition(":")[2], ignored))
        return {"result": FOUND, "rules": ["POL-01"], "runs": 3, "digest": "x"}

    monkeypatch.setattr(driver, "in_child", in_child)
    path = driver.cases()[0]
    found = driver.judged(path, 3)
    assert calls == [("clean", None), ("broken", ["POL-01"])]
    assert "digest" not in found["broken"]
    calls.clear()
    assert driver.judged(path, 3, KEPT)["clean"] == KEPT["clean"]
    assert calls == [("broken", ())]


def test_a_tenth_of_the_broken_clients_is_chosen_by_day_and_always_the_same() -> None:
    lost = {"clean": KEPT["clean"], "broken": KEPT["clean"]}
    many_results = {str(number): (KEPT, lost)[number % 2] for number in range(100)}
    few = chosen(many_results, night=False)
    assert few == chosen(many_results, night=False)
    assert len(few) == 10
    assert all(many_results[name] == KEPT for name in few)
    assert chosen(many_results, night=True) == sorted(many_results)


@pytest.mark.parametrize("night", [True, False])
def test_a_result_that_differs_from_the_stored_one_is_noticed(night: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = driver.cases()[0].stem
    monkeypatch.setattr(driver, "recurs_in", lambda path, finding: False)
    for broken, is_right in (
        ({"result": FOUND, "rules": ["SUB-02", "SUB-01"], "runs": 8}, True),
        ({"result": FOUND, "rules": ["SUB-02"], "runs": 8}, False),
        ({"result": SURVIVED, "runs": 500}, False),
    ):
        new = {**KEPT, "broken": broken}
        monkeypatch.setattr(driver, "judged", lambda path, runs, known, new=new: new)
        assert (differences({name: KEPT}, [name], night) == []) is is_right


def test_a_client_that_shows_its_finding_again_needs_no_search_by_day(monkeypatch: pytest.MonkeyPatch) -> None:
    name = driver.cases()[0].stem
    monkeypatch.setattr(driver, "recurs_in", lambda path, finding: True)
    monkeypatch.setattr(driver, "judged", lambda path, runs, known: {**KEPT, "broken": KEPT["clean"]})
    assert differences({name: KEPT}, [name], night=False) == []
    assert len(differences({name: KEPT}, [name], night=True)) == 1


@hunted
def test_each_broken_client_has_a_stored_result() -> None:
    assert sorted(stored(driver.RESULTS)) == sorted(path.stem for path in driver.cases())


@hunted
def test_the_stored_results_recur() -> None:
    results = stored(driver.RESULTS)
    names = chosen(results, NIGHT)
    assert names
    assert differences(results, names, NIGHT) == []
