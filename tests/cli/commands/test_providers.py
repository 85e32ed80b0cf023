"""`hobbyhorse providers`: one line for each provider, or everything about one."""

from __future__ import annotations

from tests.conftest import CONTRACTS, Run


def test_each_provider_is_one_line(run: Run) -> None:
    done = run("providers")
    assert (done.status, done.err) == (0, "")
    for contract in CONTRACTS:
        (line,) = [line for line in done.out.splitlines() if line.split()[:1] == [contract.key]]
        for word in (contract.name, contract.idempotency.mode, "signed" if contract.callbacks else "none"):
            assert word in line
        assert all(model.id in done.out for model in contract.models)


def test_a_name_shows_one_provider_and_no_other(run: Run) -> None:
    done = run("providers", CONTRACTS[0].key)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{CONTRACTS[0].name} ({CONTRACTS[0].key})")
    assert not [one.key for one in CONTRACTS[1:] if one.hosts[0] in done.out]
