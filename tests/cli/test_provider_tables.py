"""The tables of contracts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.cli.provider_tables import show_provider, show_providers
from hobbyhorse.contract.values import Contract
from tests.conftest import CONTRACTS


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10000")


def test_a_provider_is_one_line_with_its_callbacks_and_idempotency(capsys: pytest.CaptureFixture[str]) -> None:
    show_providers(CONTRACTS)
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    for contract in CONTRACTS:
        assert rows[contract.key].split()[-2:] == [
            "signed" if contract.callbacks else "none",
            contract.idempotency.mode,
        ]
    unsigned = next(one for one in CONTRACTS if one.callbacks is not None)
    assert unsigned.callbacks is not None
    show_providers([replace(unsigned, callbacks=replace(unsigned.callbacks, signature=None))])
    assert "unsigned" in capsys.readouterr().out


def test_everything_about_a_provider_is_printed(contract: Contract, capsys: pytest.CaptureFixture[str]) -> None:
    show_provider(contract)
    printed = capsys.readouterr().out
    for operation in contract.operations.values():
        assert f"{operation.method} {operation.path}" in printed
        for name, situation in operation.situations.items():
            assert f"{name} {situation.status}" in printed
    if contract.idempotency.mode != "none":
        assert f"{contract.idempotency.mode} (Idempotency-Key, for " in printed
    for word in (*contract.graph.stages, *contract.hosts, *contract.documents):
        assert word in printed
    for model in contract.models:
        assert model.id in printed
        assert all(f"{rate} at {tier}" in printed for tier, rate in model.price.items())
        if model.images is not None:
            assert "/".join(model.images.formats) in printed
    for assumption in contract.assumptions:
        assert assumption.why in printed
        assert all(place in printed for place in assumption.at)
    for variant in contract.variants:
        assert f"--variant {contract.key}:{variant.name}" in printed


def test_a_model_without_images_has_an_empty_cell(capsys: pytest.CaptureFixture[str]) -> None:
    contract = next(one for one in CONTRACTS if one.models[0].images is not None)
    assert contract.models[0].images is not None
    formats = "/".join(contract.models[0].images.formats)
    show_provider(contract)
    assert formats in capsys.readouterr().out
    show_provider(replace(contract, models=tuple(replace(model, images=None) for model in contract.models)))
    assert formats not in capsys.readouterr().out
