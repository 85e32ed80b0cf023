"""Counters are plain numbers that can be added over processes."""

from __future__ import annotations

import json

from hobbyhorse.server.metrics.counters import NONE, REQUEST_BOUNDS, Counters, Histogram, read_counters


def counted() -> Counters:
    found = Counters()
    found.request("acme", "submit", "accepted", 0.002)
    found.request("acme", None, None, 100.0)
    found.faults["acme", "reset_peer"] += 2
    found.callbacks["acme", "refused"] += 3
    found.render("mp4", "rendered", 0.3)
    found.images[("stored",)] += 4
    found.lag.observe(0.07)
    return found


def test_a_histogram_counts_each_observation_in_the_first_bound_that_is_not_less() -> None:
    one = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        one.observe(value)
    assert (one.counts, one.count, one.total) == ([2, 2, 1], 5, 14.0)


def test_a_request_is_counted_where_observe_would_count_it() -> None:
    found, other = Counters(), Histogram(REQUEST_BOUNDS)
    for value in (0.0, 0.0005, 0.00051, 60.0, 61.0):
        found.request("acme", "submit", "accepted", value)
        other.observe(value)
    assert found.requests["acme", "submit", "accepted"].counts == other.counts


def test_a_request_without_a_role_or_a_situation_has_a_label_too() -> None:
    assert ("acme", NONE, NONE) in counted().requests


def test_counters_survive_json_and_can_be_added() -> None:
    found = read_counters(json.loads(json.dumps(counted().to_json())))
    assert found.to_json() == counted().to_json()
    found.add(counted())
    assert found.requests["acme", "submit", "accepted"].count == 2
    assert found.renders["mp4", "rendered"].total == 0.6
    assert (found.faults["acme", "reset_peer"], found.callbacks["acme", "refused"]) == (4, 6)
    assert (found.images[("stored",)], found.lag.count) == (8, 2)
    fresh = Counters()
    fresh.add(counted())
    assert fresh.to_json() == counted().to_json()
