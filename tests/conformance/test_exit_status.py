"""The exit statuses of the conformance commands, and their precedence."""

from __future__ import annotations

import itertools

from hobbyhorse.conformance.exit_status import exit_status

STATUSES = {"unjudged": 2, "interrupted": 130, "internal_error": 3, "finding": 1, "not_observed": 4}


def test_a_clean_result_is_0() -> None:
    assert exit_status() == 0


def test_each_condition_has_a_status_and_the_first_one_that_holds_counts() -> None:
    for size in range(1, len(STATUSES) + 1):
        for names in itertools.combinations(STATUSES, size):
            assert exit_status(**dict.fromkeys(names, True)) == STATUSES[names[0]]
