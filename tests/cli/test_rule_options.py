"""The options that choose rules."""

from __future__ import annotations

import pytest

from hobbyhorse.cli.rule_options import chosen_rules
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.rules import rules


def test_the_named_rules_are_chosen_in_their_own_order_and_all_by_default() -> None:
    second, first = rules()[1].id, rules()[0].id
    assert [one.id for one in chosen_rules(rules(), [second, first])] == [first, second]
    assert chosen_rules(rules(), None) == list(rules())
    assert chosen_rules(rules(), []) == list(rules())


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(UsageError, match="--rule: unknown rule 'SUB-99'"):
        chosen_rules(rules(), ["SUB-01", "SUB-99"])
