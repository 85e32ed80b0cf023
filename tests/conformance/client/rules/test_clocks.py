"""The rule about the wall clock, on traces written by hand: kept, broken and not observed."""

from __future__ import annotations

import dataclasses

import pytest

from hobbyhorse.conformance.client.cases import AHEAD, BEHIND
from hobbyhorse.conformance.client.rules.clocks import steady_clock
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conformance.client.rules.test_results import ready
from tests.judging import messages
from tests.tracing import Teller


def under(kind: str, told: Teller, virtual: bool = True) -> AnnotatedTrace:
    """Return a story whose wall clock was set."""
    found = told.story()
    return AnnotatedTrace(found.contract, dataclasses.replace(found.trace, drill=kind, virtual=virtual))


@pytest.mark.parametrize("kind", [AHEAD, BEHIND])
def test_a_run_that_ends_with_its_video_keeps_the_rule(kind: str, contract: Contract) -> None:
    assert messages(steady_clock, under(kind, ready(contract).media().end("success"))) == []


def test_a_usual_run_shows_nothing_about_the_clock(contract: Contract) -> None:
    assert messages(steady_clock, ready(contract).media().end("success").story()) is None


@pytest.mark.parametrize("end", ["success", "timeout"])
def test_a_command_shows_nothing_about_the_clock_because_its_clock_cannot_be_set(end: str, contract: Contract) -> None:
    assert messages(steady_clock, under(AHEAD, ready(contract).media().end(end), virtual=False)) is None


def test_a_run_that_gives_up_because_the_clock_is_ahead_breaks_the_rule(contract: Contract) -> None:
    (found,) = messages(steady_clock, under(AHEAD, ready(contract).end("timeout"))) or []
    assert found == (
        "the wall clock was set an hour ahead for a while, and the run ended as 'timeout' although its job succeeded"
    )


def test_a_run_that_waits_until_the_clock_has_caught_up_breaks_the_rule(contract: Contract) -> None:
    told = ready(contract).wait(3_600).media().end("success")
    (found,) = messages(steady_clock, under(BEHIND, told)) or []
    assert found.startswith("the wall clock was set back by an hour, and the client then sent no request for 36")
