"""A client runs west and east of Greenwich, and its wall clock is wrong for a while."""

from __future__ import annotations

import datetime
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from hobbyhorse.conformance.client.cases import AHEAD, BEHIND, HAPPY, Case
from hobbyhorse.conformance.client.rules.deadlines import steady_clock
from hobbyhorse.conformance.judge import check
from hobbyhorse.contract.folder import load_all
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.surroundings import (
    HIGHEST_PORT,
    LOWEST_PORT,
    OUTGOING,
    STEP,
    ZONES,
    DateWatch,
    free_port,
    in_zone,
    listening_ports,
    steps_of,
    zone_of,
)
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.broken_clients.mutants import EXAMPLES, load

# The function itself: in virtual time, the class would be replaced in this module too.
real_now = datetime.datetime.now
VTRIX = next(contract for contract in load_all() if contract.key == "vtrix")
CLIENT = (EXAMPLES / "vtrix.py").read_text()


def test_a_zone_is_set_and_restored() -> None:
    before = os.environ.get("TZ"), time.timezone
    for zone, west in zip(ZONES, (True, False), strict=True):
        with in_zone(zone):
            assert (time.timezone > 0) is west
    assert (os.environ.get("TZ"), time.timezone) == before


def test_the_cases_of_a_suite_have_both_zones_and_a_case_always_has_the_same() -> None:
    cases = [Case({}, "killed", number) for number in range(20)]
    assert {zone_of(case) for case in cases} == set(ZONES)
    assert [zone_of(case) for case in cases] == [zone_of(case) for case in cases]


def test_only_the_kinds_about_clocks_have_steps_and_a_clock_ahead_is_right_again_at_the_end() -> None:
    assert steps_of(HAPPY, 1.0) == ()
    (first, one), (second, other) = steps_of(Case({}, AHEAD), 0.5)
    assert (one, other, first < second) == (STEP, -STEP, True)
    assert [by for _, by in steps_of(Case({}, BEHIND), 1.0)] == [-STEP]


DEADLINE = CLIENT.replace("time.monotonic", "time.time")
# A pause until a moment of the wall clock is an hour too long if the clock is set back.
PAUSE = CLIENT.replace(
    "    time.sleep((wait if wait < left - LEAST_INTERVAL else left) / SPEED)",
    "    until = time.time() + 3\n    while time.time() < until:\n        time.sleep(0.5)\n   ",
)


@pytest.mark.parametrize(
    ("kind", "source", "broken"),
    [
        (AHEAD, CLIENT, False),
        (AHEAD, DEADLINE, True),
        (BEHIND, CLIENT, False),
        (BEHIND, PAUSE, True),
        ("once", DEADLINE, None),
    ],
)
def test_a_client_that_measures_its_waits_with_the_wall_clock_is_found(
    kind: str, source: str, broken: bool | None
) -> None:
    assert source is CLIENT or source != CLIENT
    with FakeSession(VTRIX, VTRIX.models[0]) as session:
        trace = CallableRunner(session, load("client", source)).run(Case({}, kind))
    found = check(steady_clock, AnnotatedTrace(VTRIX, trace))
    assert found.observed is (broken is not None)
    assert bool(found.breaches) is bool(broken), found


def test_a_client_is_seen_to_read_the_date_of_the_machine_in_any_of_its_threads() -> None:
    for read, real in ((time.time, False), (datetime.datetime.now, True), (datetime.date.today, True)):
        for threaded in (False, True):
            watch = DateWatch()
            watch.begin()
            try:
                if threaded:
                    thread = threading.Thread(target=read)
                    thread.start()
                    thread.join()
                else:
                    read()
            finally:
                watch.end()
            assert (watch.watches, watch.read) == (True, real), (read, threaded)
    watch = DateWatch()
    watch.begin()
    watch.end()
    datetime.datetime.now()
    assert not watch.read, "it watches no longer"


# As a package, whose modules have the real `datetime`.
PACKAGED = CLIENT.replace("date.timestamp() - time.time()", "date.timestamp() - read_date()")


@pytest.mark.parametrize(
    ("options", "source", "real"),
    [
        ({"retry_after": 5}, CLIENT, True),
        ({"retry_after_date": 5}, CLIENT, False),
        ({"retry_after": 5, "retry_after_form": "rfc850"}, CLIENT, False),
        ({"retry_after_date": 5}, PACKAGED, True),
    ],
)
def test_a_date_may_be_misread_unless_the_client_was_watched_while_it_read_it(
    options: dict[str, object], source: str, real: bool
) -> None:
    client = load("client", source)
    vars(sys.modules[client.__module__])["read_date"] = lambda: real_now().timestamp()
    scenario = {"moves": {"submit": [{"move": "rate_limited", **options}]}}
    with FakeSession(VTRIX, VTRIX.models[0]) as session:
        trace = CallableRunner(session, client).run(Case(scenario))
    assert trace.real_dates is real
    assert trace.runs[0].outcome is not None


def test_no_outgoing_connection_takes_a_port_at_which_a_client_will_listen(tmp_path: Path) -> None:
    said = tmp_path / "range"
    said.write_text("20000\t65000\n")
    assert listening_ports(said) == [*range(LOWEST_PORT, 20_000), *range(65_001, HIGHEST_PORT + 1)]
    assert listening_ports(tmp_path / "none") == list(range(LOWEST_PORT, OUTGOING[0]))
    said.write_text(f"{LOWEST_PORT} {HIGHEST_PORT}")
    assert listening_ports(said) == []
    found = [free_port() for _ in range(20)]
    assert len(set(found)) == 20
    assert set(found) <= set(listening_ports())


def test_a_port_that_is_in_use_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        taken = used.getsockname()[1]
        monkeypatch.setattr("hobbyhorse.runners.surroundings._PORTS", iter([taken] * 3))
        assert free_port() != taken
