"""Opening a kept state: what is refused, and what is agreed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.kept.opening import open_state
from hobbyhorse.server.kept.reading import digest
from hobbyhorse.state.errors import StateError
from tests.conftest import CONTRACTS
from tests.server.kept.restarting import kept

pytestmark = pytest.mark.anyio


async def test_another_seed_is_refused_and_lets_go_of_the_folder(tmp_path: Path) -> None:
    await open_state(str(tmp_path), 3, CONTRACTS).close()
    for _ in range(2):
        with pytest.raises(StateError, match="made with the seed 3, not 4; use --seed 3"):
            open_state(str(tmp_path), 4, CONTRACTS)
    await open_state(str(tmp_path), 3, CONTRACTS).close()


async def test_options_are_checked(tmp_path: Path) -> None:
    await open_state(f"{tmp_path}?sync=full", 0, CONTRACTS).close()
    for text in (f"{tmp_path}?sync=often", f"{tmp_path}?horse", f"{tmp_path}?sync=full&a=b"):
        with pytest.raises(StateError, match=r"unknown options; allowed: \?sync=full"):
            open_state(text, 0, CONTRACTS)
    with pytest.raises(StateError, match="'redis://localhost' is not a folder"):
        open_state("redis://localhost", 0, CONTRACTS)
    with pytest.raises(StateError, match="the name of the folder is empty"):
        open_state("", 0, CONTRACTS)


async def test_a_changed_contract_is_refused_only_while_its_jobs_run(contract: Contract, tmp_path: Path) -> None:
    changed = replace(contract, polling=replace(contract.polling, longest_wait=599))
    assert digest(changed) != digest(contract) == digest(replace(contract))
    async with kept(tmp_path, contract) as server:
        await server.mock.submit(contract)
        await server.kill()
        with pytest.raises(StateError, match=f"the contract '{contract.key}' has changed while 1 of its jobs runs"):
            open_state(str(server.folder), 0, [changed])
        with pytest.raises(StateError, match=f"the contract '{contract.key}' is not served any more"):
            open_state(str(server.folder), 0, [])
        server.start()
        await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        await server.plane.ok("GET", "/ledger")
        await server.until_written()
        await server.kill()
        await open_state(str(server.folder), 0, [changed]).close()
