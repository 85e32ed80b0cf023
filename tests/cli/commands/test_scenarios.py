"""`hobbyhorse scenarios`: the catalogue as a list, as JSON, and one scenario with its misfits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx

from hobbyhorse import MockServer
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.reference import listing
from hobbyhorse.scenarios.scenario import load_catalogue, misfits
from tests.conftest import CONTRACTS, Run


def test_each_scenario_is_one_line_with_the_providers_that_it_fits_and_its_reason(run: Run) -> None:
    done = run("scenarios")
    assert (done.status, done.err) == (0, "")
    rows = {line.split()[0]: line for line in done.out.splitlines() if line.strip()}
    catalogue = load_catalogue()
    assert len(catalogue) >= 60
    for name, scenario in catalogue.items():
        fits = [contract.key for contract in CONTRACTS if not misfits(scenario, contract)]
        assert fits
        assert rows[name].split() == [name, *", ".join(fits).split(), *scenario.why.split()]


def test_the_json_is_that_of_the_control_plane(run: Run) -> None:
    with MockServer() as server:
        headers = {"authorization": "Bearer k"}
        listed = httpx.get(f"{server.url}/_mock/scenarios", headers=headers, trust_env=False).json()
    done = run("scenarios", "--json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out) == listed


def test_with_a_provider_only_fitting_scenarios_are_listed(contract: Contract, run: Run) -> None:
    done = run("scenarios", "--provider", contract.key, "--json")
    listed = json.loads(done.out)["scenarios"]
    fitting = [name for name, scenario in load_catalogue().items() if not misfits(scenario, contract)]
    assert [one["name"] for one in listed] == fitting
    assert all(one["providers"] == [contract.key] for one in listed)


def test_a_name_shows_the_scenario_and_its_misfits(run: Run) -> None:
    catalogue = load_catalogue()
    name = next(name for name, found in catalogue.items() if {bool(misfits(found, one)) for one in CONTRACTS} == {0, 1})
    scenario = catalogue[name]
    done = run("scenarios", name)
    assert (done.status, done.err) == (0, "")
    assert scenario.why in done.out
    before, _, after = done.out.partition("{")
    shown, end = json.JSONDecoder().raw_decode("{" + after)
    assert {"why": scenario.why, **shown} == scenario.to_json()
    for contract in CONTRACTS:
        reasons = misfits(scenario, contract)
        assert f"  {contract.key}: {'; '.join(reasons) or 'fits'}" in done.out.splitlines()
    one = next(contract for contract in CONTRACTS if misfits(scenario, contract))
    found = json.loads(run("scenarios", name, "--json", "--provider", one.key).out)
    assert (found["name"], found["scenario"], found["providers"]) == (name, scenario.to_json(), [])
    assert found["misfits"] == {one.key: misfits(scenario, one)}


def test_an_unknown_scenario_is_one_line_with_the_three_nearest(run: Run) -> None:
    done = run("scenarios", "submit_rate_limted")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "'submit_rate_limted'" in line
    assert "submit_rate_limited" in line
    assert len(set(re.findall(r"\w+", line)) & set(load_catalogue())) == 3


def test_scenarios_of_other_directories_are_listed_and_an_invalid_one_is_one_line(tmp_path: Path, run: Run) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, name in ((first, "mine"), (second, "yours")):
        directory.mkdir()
        (directory / f"{name}.json").write_text('{"why": "It happened.", "moves": {"submit": [{"move": "empty"}]}}')
    done = run("scenarios", "--json", "--scenarios", first, "--scenarios", second)
    names = [one["name"] for one in json.loads(done.out)["scenarios"]]
    assert {"mine", "yours", *load_catalogue()} == set(names)
    (second / "broken.json").write_text('{"moves": {"submit": [{"move": 7}]}}')
    for command in ("scenarios", "serve"):
        done = run(command, "--scenarios", second)
        assert (done.status, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert str(second / "broken.json") in line
        assert "/moves/submit/0/move" in line
        assert run(command, "--scenarios", tmp_path / "nowhere").status == 2


def test_the_faults_are_listed_with_their_options_and_defaults(run: Run) -> None:
    done = run("scenarios", "--faults")
    assert (done.status, done.err) == (0, "")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert ["media", "truncate", "keep (0.5)"] in [row[:3] for row in rows]
    assert [row[:2] for row in rows] == [[one["place"], one["name"]] for one in listing()]
    assert [row[3] for row in rows if row[1] == "reordered"] == [
        "reverses the order of the fields in every object (variation)"
    ]
    assert json.loads(run("scenarios", "--faults", "--json").out) == {"faults": listing()}


def test_the_faults_are_those_of_all_scenarios(run: Run) -> None:
    for more in (["job_slow"], ["--provider", CONTRACTS[0].key]):
        done = run("scenarios", "--faults", *more)
        assert (done.status, done.out) == (2, "")
        assert "give neither NAME nor --provider" in done.err
