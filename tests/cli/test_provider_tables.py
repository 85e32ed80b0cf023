"""The tables of contracts."""

from __future__ import annotations

from hobbyhorse.contract.values import Contract
from tests.conftest import Run


def test_a_providers_name_shows_everything_of_it(contract: Contract, run: Run) -> None:
    done = run("providers", contract.key)
    assert (done.status, done.err) == (0, "")
    for operation in contract.operations.values():
        assert f"{operation.method} {operation.path}" in done.out
        for name, situation in operation.situations.items():
            assert f"{name} {situation.status}" in done.out
    if contract.idempotency.mode != "none":
        assert f"{contract.idempotency.mode} (Idempotency-Key, for " in done.out
    for word in (*contract.graph.stages, *contract.hosts, *contract.documents):
        assert word in done.out
    for model in contract.models:
        assert model.id in done.out
        assert all(f"{rate} at {tier}" in done.out for tier, rate in model.price.items())
    for assumption in contract.assumptions:
        assert assumption.why in done.out
        assert all(place in done.out for place in assumption.at)
    for variant in contract.variants:
        assert variant.name in done.out
