"""The rules about the ends of runs, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import endings as rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import PROCESS_LOST
from tests.conformance.client.rules.test_deadlines import patience, running, waiting
from tests.conformance.client.rules.test_results import bought, carrier, ready
from tests.conformance.client.rules.test_submitting import failed
from tests.judging import messages
from tests.tracing import Teller


def again(told: Teller, kind: str, **how: Any) -> Teller:
    """Add a run that makes no request, a minute later."""
    return told.wait(60).again({"n": len(told.runs)}).wait(1).end(kind, **how)


# END-03


def test_a_run_that_ends_with_an_accident_is_found(contract: Contract) -> None:
    for name in ("UnboundLocalError", "AttributeError", "NameError"):
        told = bought(contract).end("failed", message=f"{name}: answer")
        (found,) = messages(rules.no_accident, told.story()) or []
        assert found == f"the run ended with an accident: {name}: answer"
    for message in ("my_client.Lost: job 1", "ValueError: 502", "KeyError: 'status'"):
        assert messages(rules.no_accident, bought(contract).end("failed", message=message).story()) == []


def test_a_run_without_an_exception_shows_no_accident(contract: Contract) -> None:
    for message in ("exit status 1; TypeError: x", ""):
        assert messages(rules.no_accident, bought(contract).end("failed", message=message).story()) is None
    assert messages(rules.no_accident, ready(contract).media().end("success").story()) is None


# END-01


@pytest.mark.parametrize("kind", ["success", "failed", "error", "timeout"])
def test_a_run_that_ends_keeps_the_rule(kind: str, contract: Contract) -> None:
    assert messages(rules.a_run_ends, ready(contract).media().end(kind).story()) == []


def test_a_run_without_an_outcome_is_not_judged(contract: Contract) -> None:
    assert messages(rules.a_run_ends, ready(contract).media().story()) is None


@pytest.mark.parametrize("words", PROCESS_LOST)
def test_a_run_that_ends_its_process_is_found(words: str, contract: Contract) -> None:
    (found,) = messages(rules.a_run_ends, bought(contract).end("unfinished", message=f"{words} (how)").story()) or []
    assert found == f"the run ended with its process: {words} (how)"


def test_a_run_whose_threads_all_wait_is_found_at_once(contract: Contract) -> None:
    told = bought(contract).end("unfinished", stuck=True)
    (found,) = messages(rules.a_run_ends, told.story()) or []
    assert found == ("the run hangs: all its threads wait for each other; its last request was 2 (status, 200)")
    told = again(bought(contract).end("failed"), "unfinished", stuck=True)
    (found,) = messages(rules.a_run_ends, told.story()) or []
    assert found == "run 2 of 2 hangs: all its threads wait for each other; it made no request"


def test_the_last_request_is_named(contract: Contract) -> None:
    told = bought(contract).status(running(contract)).status(running(contract)).end("unfinished", stuck=True)
    (found,) = messages(rules.a_run_ends, told.story()) or []
    assert found.endswith("its last request was 4 (status, 200)")


def test_a_run_is_accused_if_it_is_silent_for_longer_than_any_wait(contract: Contract) -> None:
    most = 1.25 * patience(contract) + 60
    told = bought(contract).wait(most - 10).end("unfinished")
    assert messages(rules.a_run_ends, told.story()) is None
    assert messages(rules.a_run_ends, told.wait(10).end("unfinished").story())
    assert messages(rules.a_run_ends, bought(contract).wait(most + 0.5).end("unfinished").story())


def test_the_bound_on_a_silence_is_a_quarter_and_a_minute_beyond_the_longest_wait(contract: Contract) -> None:
    most = 1.25 * patience(contract) + 60
    for more, found in ((-0.5, False), (0.5, True)):
        told = bought(contract)
        silent_since = told.story().steps[-1].done
        told.wait(silent_since + most + more - told.now).end("unfinished")
        assert bool(messages(rules.a_run_ends, told.story())) is found, more


def test_a_client_that_still_polls_is_patient_and_does_not_hang(contract: Contract) -> None:
    told = waiting(contract, 3 * patience(contract)).end("unfinished")
    assert messages(rules.a_run_ends, told.story()) is None


def test_a_client_that_waits_as_requested_does_not_hang(contract: Contract) -> None:
    told = bought(contract).status(None, status=503, answer_headers=(("retry-after", "86400"),))
    assert messages(rules.a_run_ends, told.wait(20_000).end("unfinished").story()) is None


def test_a_client_whose_response_is_withheld_does_not_hang(contract: Contract) -> None:
    told = bought(contract).nothing("status").wait(20_000).end("unfinished")
    assert messages(rules.a_run_ends, told.story()) is None


def test_a_callback_interrupts_a_silence(contract: Contract) -> None:
    if contract.callbacks is None:
        return
    most = 1.25 * patience(contract) + 60
    told = bought(contract).wait(most - 10).callback(next(iter(contract.callbacks.situations))).wait(most - 10)
    assert messages(rules.a_run_ends, told.end("unfinished").story()) is None


def test_a_run_that_has_its_video_or_its_failure_and_does_nothing_more_is_found(contract: Contract) -> None:
    def fetched() -> Teller:
        return ready(contract).media()

    def refused() -> Teller:
        return bought(contract).call(carrier(contract), failed(contract))

    # The longest pause of these runs is three seconds.
    for told in (fetched(), refused()):
        assert messages(rules.a_run_ends, told.wait(20).end("unfinished").story()) is None
        assert messages(rules.a_run_ends, told.wait(20).end("unfinished").story())
    # Something else to wait for: the job, or another attempt.
    assert messages(rules.a_run_ends, bought(contract).wait(40).end("unfinished").story()) is None
    told = ready(contract).media(503).wait(40)
    assert messages(rules.a_run_ends, told.end("unfinished").story()) is None
    told = ready(contract).media(move="not_video").wait(40)
    assert messages(rules.a_run_ends, told.end("unfinished").story()) is None
    told = fetched().wait(40)
    told.drill = "together"
    assert messages(rules.a_run_ends, told.end("unfinished").story()) is None


def test_a_run_of_one_request_has_no_pause_that_excuses_a_silence(contract: Contract) -> None:
    told = bought(contract).end("unfinished").restart().call(carrier(contract), failed(contract))
    (found,) = messages(rules.a_run_ends, told.wait(5).end("unfinished").story()) or []
    assert "although nothing was left to wait for" in found


def test_a_long_pause_before_excuses_a_long_pause_at_the_end(contract: Contract) -> None:
    told = Teller(contract).submit().wait(5).status(running(contract)).wait(1)
    told.call(carrier(contract), failed(contract))
    assert messages(rules.a_run_ends, told.wait(49).end("unfinished").story()) is None
    assert messages(rules.a_run_ends, told.wait(2).end("unfinished").story())


# END-02


def test_a_later_run_that_submits_recovers(contract: Contract) -> None:
    told = bought(contract).end("failed").wait(60).again({"n": 2}).submit(job="other").end("failed")
    assert messages(rules.recovers, told.story()) == []


@pytest.mark.parametrize("kind", ["failed", "error", "timeout", "unfinished"])
def test_a_later_run_without_a_request_is_found(kind: str, contract: Contract) -> None:
    told = again(bought(contract).end("failed"), kind)
    (found,) = messages(rules.recovers, told.story()) or []
    assert found == f"after 1 earlier run, the client made no request, and its run ended as {kind!r}"


def test_only_the_first_run_without_a_request_is_reported(contract: Contract) -> None:
    told = bought(contract).end("failed")
    assert len(messages(rules.recovers, again(again(told, "failed"), "failed").story()) or []) == 1


def test_a_first_run_a_resumed_one_and_a_stored_success_may_make_no_request(contract: Contract) -> None:
    assert messages(rules.recovers, Teller(contract).end("failed").story()) is None
    assert messages(rules.recovers, bought(contract).end("failed").restart().end("failed").story()) is None
    assert messages(rules.recovers, again(bought(contract).end("success"), "success").story()) == []


@pytest.mark.parametrize("drill", ["together", "crowd", "long"])
def test_a_client_may_refuse_a_second_order_at_the_same_time_and_one_that_is_too_long(
    drill: str, contract: Contract
) -> None:
    told = again(bought(contract).end("failed"), "failed")
    told.drill = drill
    assert messages(rules.recovers, told.story()) is None
