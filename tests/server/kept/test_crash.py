"""A server that is killed at any moment loses nothing that it has responded."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import CONTRACTS
from tests.server.kept import crash

KILLS = 20 if os.environ.get("HOBBYHORSE_NIGHT") else 3


def test_no_order_is_lost_or_doubled_and_every_callback_arrives(tmp_path: Path) -> None:
    contract = next(one for one in CONTRACTS if one.idempotency.mode == "replay" and one.callbacks is not None)
    assert crash.run(contract, tmp_path / "state", KILLS, seed=1) == []
