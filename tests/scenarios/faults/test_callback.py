"""Faults of a callback: each has its effect, with its options."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hobbyhorse.contract.forms.expressions import MISSING, resolve
from hobbyhorse.contract.values import Callbacks
from hobbyhorse.scenarios.effects import AfterNext, CallbackEffect, Copies, FalseFirst, Postponed, Rewritten, Unsent
from hobbyhorse.scenarios.faults import callback
from hobbyhorse.scenarios.fields import payload_places
from tests.conftest import CONTRACTS
from tests.known_faults import CALLBACK_FAULTS

SIGNED = next(one.callbacks for one in CONTRACTS if one.callbacks and one.callbacks.signature)


def effect_of(name: str, callbacks: Callbacks, **options: Any) -> CallbackEffect:
    fault = CALLBACK_FAULTS[name]
    effect: CallbackEffect = fault.effect(callbacks, fault.complete(options))
    return effect


@pytest.mark.parametrize(
    ("name", "options", "effect"),
    [
        ("lost", {}, Unsent()),
        ("duplicate", {}, Copies(2)),
        ("duplicate", {"count": 5}, Copies(5)),
        ("late", {}, Postponed(callback.LATE_SECONDS)),
        ("late", {"seconds": 3}, Postponed(3)),
        ("out_of_order", {}, AfterNext(callback.OUT_OF_ORDER_SECONDS, "out of order")),
        ("forged", {}, FalseFirst(secret=callback.WRONG_SECRET)),
        ("unsigned", {}, FalseFirst(signed=False)),
        ("unknown_job", {}, FalseFirst(stranger=True)),
        ("unknown_job", {"apart": 20, "report": "failure"}, FalseFirst(stranger=True, failure=True, apart=20)),
    ],
)
def test_each_fault_has_its_effect(name: str, options: dict[str, Any], effect: CallbackEffect) -> None:
    assert effect_of(name, SIGNED, **options) == effect


def test_a_stale_signature_is_older_than_the_tolerance_of_the_contract() -> None:
    assert SIGNED.signature is not None
    tolerance = SIGNED.signature.tolerance or 0.0
    assert effect_of("stale", SIGNED) == FalseFirst(older=tolerance + callback.OLDER_SECONDS)
    for name in ("stale", "forged", "unsigned"):
        effect = effect_of(name, SIGNED, apart=5)
        assert isinstance(effect, FalseFirst)
        assert effect.apart == 5


def test_a_payload_is_null_where_it_was_present() -> None:
    for callbacks in (one.callbacks for one in CONTRACTS if one.callbacks is not None):
        situation = next(iter(callbacks.situations.values()))
        body = situation.template.write(lambda name: MISSING)
        effect = effect_of("null_payload", callbacks)
        assert isinstance(effect, Rewritten)
        before, after = json.loads(body), json.loads(effect.change(body))
        for pointer in payload_places(callbacks):
            assert resolve(after, pointer) is (MISSING if resolve(before, pointer) is MISSING else None)
