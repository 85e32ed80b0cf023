"""Faults of the connection: each has its effect, with its options."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.scenarios.effects import Close, Delay, Drip, Hold, IdleClose, Reset, Truncate, WireEffect
from hobbyhorse.scenarios.faults import connection
from tests.deciding import decided, under
from tests.known_faults import MEDIA_FAULTS, OPERATION_FAULTS


@pytest.mark.parametrize(
    ("name", "options", "effect"),
    [
        ("latency", {}, Delay(connection.LATE_SECONDS)),
        ("latency", {"seconds": 0}, Delay(0)),
        ("timeout", {}, Hold(connection.HOLD_SECONDS)),
        ("timeout", {"seconds": 2}, Hold(2)),
        ("reset_peer", {}, Reset()),
        ("empty", {}, Close()),
        ("accept_then_drop", {}, Close()),
        ("truncate", {}, Truncate(0.5)),
        ("truncate", {"keep": 0}, Truncate(0)),
        ("slow_body", {}, Drip(connection.DRIP_SECONDS, 10)),
        ("slow_body", {"seconds": 1, "pieces": 2}, Drip(1, 2)),
        ("idle_close", {}, IdleClose(connection.IDLE_SECONDS)),
        ("idle_close", {"seconds": 0.5}, IdleClose(0.5)),
    ],
)
def test_each_fault_has_its_effect_on_the_connection(name: str, options: dict[str, Any], effect: WireEffect) -> None:
    assert under(name, decided(b"{}"), **options) == effect


def test_a_file_can_have_every_fault_of_the_connection_but_the_one_that_needs_an_effect() -> None:
    names = {name for name, fault in OPERATION_FAULTS.items() if fault.rank == connection.RANK}
    assert names - MEDIA_FAULTS.keys() == {"accept_then_drop"}
