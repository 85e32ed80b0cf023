"""The values that shared options name: contracts, variants, models, scenarios."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hobbyhorse.cli.options import (
    keep_hypothesis_files_in_cache,
    load_contracts,
    load_scenarios,
    model_of,
    one_of,
)
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.scenarios.scenario import load_catalogue
from tests.cli.contract_copies import copy, edit
from tests.conftest import CONTRACTS, Run

CONTRACT = CONTRACTS[0]


def test_a_provider_is_found_in_any_case() -> None:
    assert one_of(CONTRACTS, CONTRACT.key.upper()) is CONTRACT


def test_a_misspelt_provider_is_an_error_with_a_guess() -> None:
    keys = ", ".join(contract.key for contract in CONTRACTS)
    with pytest.raises(UsageError) as error:
        one_of(CONTRACTS, CONTRACT.key[:-1])
    assert str(error.value) == f"unknown provider {CONTRACT.key[:-1]!r}; known: {keys}. Did you mean {CONTRACT.key}?"
    with pytest.raises(UsageError) as error:
        one_of(CONTRACTS, "nobody")
    assert str(error.value) == f"unknown provider 'nobody'; known: {keys}"


@pytest.mark.parametrize("command", ["providers", "env", "demo", "scenarios --provider"])
def test_an_unknown_provider_is_one_line_and_exit_status_2(command: str, run: Run) -> None:
    done = run(*command.split(), "nobody")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("hobbyhorse: unknown provider 'nobody'; known: ")


def test_the_model_is_the_first_one_by_default() -> None:
    contract = next(contract for contract in CONTRACTS if len(contract.models) > 1)
    assert model_of(contract, None) is contract.models[0]
    assert model_of(contract, contract.models[1].id) is contract.models[1]
    with pytest.raises(UsageError) as error:
        model_of(contract, "acme")
    allowed = ", ".join(model.id for model in contract.models)
    assert str(error.value) == f"--model is 'acme'; allowed for {contract.key}: {allowed}"


def test_contracts_are_the_projects_or_those_of_a_directory(tmp_path: Path) -> None:
    assert [one.key for one in load_contracts(None)] == [one.key for one in load_contracts(data_directory("contracts"))]
    copy(CONTRACT, tmp_path, "one")
    assert [one.key for one in load_contracts(tmp_path)] == ["one"]


def test_a_variant_changes_only_its_provider() -> None:
    contract, variant = next((one, one.variants[0]) for one in CONTRACTS if one.variants)
    for before, after in zip(
        load_contracts(None), load_contracts(None, [f"{contract.key}:{variant.name}"]), strict=True
    ):
        assert (before != after) is (before.key == contract.key)
    with pytest.raises(UsageError) as error:
        load_contracts(None, ["flat"])
    assert str(error.value).startswith("--variant is 'flat'; allowed: PROVIDER:NAME; ")


def test_an_invalid_contract_is_an_error_that_counts_the_other_problems(tmp_path: Path) -> None:
    for name in ("one", "two"):
        edit(copy(CONTRACT, tmp_path, name) / "lifecycle.json", lambda found: found.update(initial="nowhere"))
    with pytest.raises(UsageError) as error:
        load_contracts(tmp_path)
    assert "'nowhere'" in str(error.value)
    assert f"more: hobbyhorse contracts lint {tmp_path})" in str(error.value)


def test_scenarios_are_the_projects_and_those_of_directories(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"moves": {"submit": [{"move": "rate_limited"}]}}')
    assert load_scenarios([tmp_path]).keys() == {"mine", *load_catalogue()}
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(UsageError, match=r"mine\.json"):
        load_scenarios([tmp_path])


def test_hypothesis_stores_its_files_where_the_user_wants_or_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", "mine")
    keep_hypothesis_files_in_cache()
    assert os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] == "mine"
    monkeypatch.delenv("HYPOTHESIS_STORAGE_DIRECTORY")
    keep_hypothesis_files_in_cache()
    assert Path(os.environ["HYPOTHESIS_STORAGE_DIRECTORY"]).is_relative_to(tmp_path)
