"""Servers that others wrote from the documents: the honest ones have no finding, and the stored results recur."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.blind_servers import __main__ as driver
from tests.blind_servers.hunt import MODULES, Case, cases
from tests.conftest import NIGHT
from tests.mutation.page import stored
from tests.server_mutation.hunt import FOUND, SURVIVED

# found / all, of the defects that are visible. It may only rise.
LEAST_SCORE = 0.95
# A tenth of the drawn and added defects runs by day, of the ones that were found within some seconds.
SHARE_BY_DAY, SECONDS_BY_DAY, SEED = 0.1, 6.0, 11
hunted = pytest.mark.skipif(
    not driver.RESULTS.exists(), reason="no results are stored yet: run `python -m tests.blind_servers`"
)


def chosen(results: Mapping[str, Any], night: bool) -> list[str]:
    """Return the keys of the results to be repeated: all at night, else a few that take seconds."""
    usual = [key for key, one in sorted(results.items()) if night or one["kind"] in ("chosen", "further")]
    quick = [key for key in usual if results[key]["result"] == FOUND and results[key]["seconds"] <= SECONDS_BY_DAY]
    return usual if night else Random(SEED).sample(quick, min(len(quick), round(SHARE_BY_DAY * len(usual))))


def is_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two results agree, and name a rule in common if they name any."""
    common = not old.get("rules") or bool(set(old["rules"]) & set(new.get("rules", ())))
    return bool(old["result"] == new["result"] and common)


def test_each_server_has_many_drawn_or_added_defects_and_each_defect_a_sentence() -> None:
    for provider in MODULES:
        ones = [case for case in cases() if case.provider == provider]
        assert sum(case.kind != "other" for case in ones) >= 20
        assert all(case.sentence.endswith(".") for case in ones)
        assert len({case.key for case in ones}) == len(ones)


def test_a_few_quick_defects_run_by_day_and_always_the_same() -> None:
    found = {"kind": "chosen", "result": FOUND, "rules": ["SHA-01"], "seconds": 2.0}
    ones = (found, found | {"seconds": 60.0}, found | {"kind": "other"}, {"kind": "further", "result": SURVIVED})
    results = {f"{number:03}": ones[number % 4] for number in range(100)}
    few = chosen(results, night=False)
    assert few == chosen(results, night=False)
    assert len(few) == round(SHARE_BY_DAY * 75)
    assert all(results[key] == found for key in few)
    assert chosen(results, night=True) == sorted(results)


def test_a_result_that_differs_from_the_stored_one_is_noticed() -> None:
    old = {"result": FOUND, "rules": ["SHA-01", "LIF-01"]}
    assert is_same(old, {"result": FOUND, "rules": ["LIF-01"]})
    assert not is_same(old, {"result": FOUND, "rules": ["LIF-02"]})
    assert not is_same(old, {"result": SURVIVED})
    assert is_same({"result": SURVIVED}, {"result": SURVIVED})


def test_a_changed_server_has_no_stored_result(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Case("hiapi", "stage-order")
    before = one.key
    assert before != Case("hiapi", "stage-order", seed=1).key
    monkeypatch.setattr("tests.blind_servers.hunt.digest", lambda provider: "another")
    assert one.key != before


@hunted
def test_the_stored_results_are_of_the_present_servers() -> None:
    known = {case.key for case in (*driver.honest(1000), *cases())}
    results = stored(driver.RESULTS)
    assert set(results) <= known
    wanted = {case.key for case in (*driver.honest(), *cases()) if case.kind != "other"}
    assert wanted <= set(results), "run `python -m tests.blind_servers`"


@hunted
def test_no_honest_server_has_a_finding_and_most_visible_defects_have_one() -> None:
    results, invisible = stored(driver.RESULTS), stored(driver.INVISIBLE)
    assert not [one for one in results.values() if one["kind"] == "honest" and one["result"] == FOUND]
    number = driver.counts((one for one in results.values() if one["kind"] in ("chosen", "further")), invisible)
    assert number["found"] >= LEAST_SCORE * (number["found"] + number["missed"])


@hunted
def test_each_defect_that_is_listed_as_invisible_has_a_reason_and_is_not_found() -> None:
    names = {f"{case.provider}:{case.defect}" for case in cases()}
    found = {driver.name_of(one) for one in stored(driver.RESULTS).values() if one["result"] == FOUND}
    for name, why in stored(driver.INVISIBLE).items():
        assert name in names
        assert name not in found
        assert why.endswith(".")


@hunted
def test_the_stored_results_recur(tmp_path: Path) -> None:
    results = stored(driver.RESULTS)
    known = {case.key: case for case in (*driver.honest(1000), *cases())}
    again = chosen(results, NIGHT)
    assert again
    # The servers wait more than they compute.
    found = dict(driver.hunt([known[key] for key in again], 2 * (os.cpu_count() or 1), tmp_path))
    different = [case for case, one in found.items() if not is_same(results[case.key], one)]
    assert different == []
