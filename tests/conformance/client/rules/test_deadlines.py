"""The rules about deadlines and clocks, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import AHEAD, BEHIND
from hobbyhorse.conformance.client.rules import deadlines as rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import HOLDS, PASSES, STALLS
from hobbyhorse.scenarios.options import PIECES
from hobbyhorse.scenarios.registry import name_used_for
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conftest import CONTRACTS, contracts_that, documented
from tests.judging import messages
from tests.tracing import JOB, Teller

called_back = contracts_that(lambda contract: contract.callbacks is not None)


def running(contract: Contract) -> str:
    return next(stage.name for stage in contract.graph if not stage.terminal)


def done(contract: Contract) -> str:
    names = contract.operations["status"].situations
    return next(name for name, one in names.items() if any(contract.graph[s].kind == "success" for s in one.stages))


def patience(contract: Contract) -> float:
    return contract.polling.longest_wait


def waiting(contract: Contract, seconds: float) -> Teller:
    """Return a trace of a client that polls a job under way ten times in a number of seconds."""
    told = Teller(contract).submit()
    for _ in range(10):
        told.wait(seconds / 10).status(running(contract))
    return told


def test_a_client_that_gives_up_in_time_has_a_deadline(contract: Contract) -> None:
    told = waiting(contract, patience(contract)).end("timeout")
    assert messages(rules.has_deadline, told.story()) == []


def test_an_error_shows_a_deadline_only_at_the_end_of_the_longest_wait(contract: Contract) -> None:
    for share, expected in ((0.95, []), (0.85, None)):
        told = Teller(contract).submit().wait(share * patience(contract)).status(running(contract))
        assert messages(rules.has_deadline, told.end("error", told=False).story()) == expected


@pytest.mark.parametrize("how", ["failed", "error", "timeout"])
def test_a_client_that_polls_beyond_the_longest_wait_has_no_deadline(contract: Contract, how: str) -> None:
    contract = documented(contract)
    told = waiting(contract, 1.25 * patience(contract) + 120).end(how)
    assert messages(rules.has_deadline, told.story()) != []


def test_without_a_documented_wait_only_a_client_that_must_be_cut_off_has_no_deadline(contract: Contract) -> None:
    assert messages(rules.has_deadline, waiting(contract, 5 * patience(contract)).end("timeout").story()) == []
    told = waiting(contract, 1.25 * patience(contract) + 120)
    for _ in range(300):
        told.wait(1).status(running(contract))
    assert messages(rules.has_deadline, told.end("timeout").story()) == []
    assert messages(rules.has_deadline, told.end("unfinished").story()) != []


def test_a_client_that_never_finishes_has_no_deadline(contract: Contract) -> None:
    contract = documented(contract)
    told = waiting(contract, 10).wait(2 * patience(contract)).end("unfinished")
    assert messages(rules.has_deadline, told.story()) != []
    told = waiting(contract, 10).wait(patience(contract)).end("unfinished")
    assert messages(rules.has_deadline, told.story()) is None


def test_a_job_that_ends_shows_nothing_about_the_deadline(contract: Contract) -> None:
    told = waiting(contract, 10).status(done(contract)).wait(9 * patience(contract)).end("unfinished")
    assert messages(rules.has_deadline, told.story()) is None
    assert messages(rules.has_deadline, Teller(contract).nothing("submit").end("error").story()) is None


def test_a_client_that_stopped_at_a_refusal_shows_nothing_about_its_deadline(contract: Contract) -> None:
    told = waiting(contract, 10).status("unknown_job").end("error")
    assert messages(rules.has_deadline, told.story()) is None


def test_a_client_that_breaks_down_shows_nothing_about_its_deadline(contract: Contract) -> None:
    def once() -> Teller:
        return Teller(contract).submit().wait(3).status(running(contract))

    assert messages(rules.has_deadline, once().end("failed", told=False).story()) is None
    assert messages(rules.has_deadline, once().end("error").story()) is None
    assert messages(rules.has_deadline, once().nothing("status").end("timeout", told=False).story()) is None
    assert messages(rules.has_deadline, once().end("timeout").story()) == []
    assert messages(rules.has_deadline, waiting(contract, 10).end("failed", told=False).story()) == []


def test_a_date_that_a_client_may_misread_does_not_extend_its_deadline(contract: Contract) -> None:
    contract = documented(contract)
    told = waiting(contract, 10)
    told.status(None, status=503, answer_headers=(("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT"),))
    told.wait(2 * patience(contract)).status(running(contract)).end("timeout")
    assert messages(rules.has_deadline, told.story()) != []
    assert messages(rules.has_deadline, AnnotatedTrace(contract, replace(told.trace(), real_dates=True))) is None


def test_a_restarted_client_may_wait_as_long_again(contract: Contract) -> None:
    contract = documented(contract)
    told = waiting(contract, patience(contract) / 2).wait(3 * patience(contract)).restart()
    told.wait(patience(contract)).status(running(contract)).end("timeout")
    assert messages(rules.has_deadline, told.story()) == []
    told.wait(patience(contract)).status(running(contract)).end("timeout")
    assert messages(rules.has_deadline, told.story()) != []


def test_recorded_traffic_has_a_longer_limit_because_it_hides_restarts(contract: Contract) -> None:
    contract = documented(contract)
    told = waiting(contract, patience(contract)).wait(5 * patience(contract)).status(running(contract))
    told.runs = []
    assert messages(rules.has_deadline, told.story()) in ([], None)
    told = waiting(contract, 3 * patience(contract))
    told.runs = []
    assert messages(rules.has_deadline, told.story()) in ([], None)
    told = waiting(contract, 5 * patience(contract))
    told.runs = []
    assert messages(rules.has_deadline, told.story()) != []


@called_back
def test_a_callback_ends_the_wait(contract: Contract) -> None:
    assert contract.callbacks is not None
    told = waiting(contract, 10).callback(next(iter(contract.callbacks.situations))).wait(9 * patience(contract))
    assert messages(rules.has_deadline, told.end("unfinished").story()) is None


@pytest.mark.parametrize("how", ["failed", "error", "timeout"])
def test_a_client_that_gives_up_exposes_the_job_id(contract: Contract, how: str) -> None:
    assert messages(rules.id_in_error, waiting(contract, 100).end(how).story()) == []
    assert messages(rules.id_in_error, waiting(contract, 100).end(how, id_exposed=False).story()) != []


def test_an_unknown_exposure_of_the_id_is_not_judged(contract: Contract) -> None:
    assert messages(rules.id_in_error, waiting(contract, 100).end("timeout", id_exposed=None).story()) is None
    assert messages(rules.id_in_error, waiting(contract, 100).end("success", id_exposed=False).story()) is None


def test_an_id_that_the_client_never_learned_is_not_required(contract: Contract) -> None:
    told = Teller(contract).nothing("submit").end("error", id_exposed=False)
    assert messages(rules.id_in_error, told.story()) is None
    told = Teller(contract).submit(answer=b"<html>").end("error", id_exposed=False)
    assert messages(rules.id_in_error, told.story()) is None
    told = Teller(contract).submit().restart().end("error", id_exposed=False)
    assert messages(rules.id_in_error, told.story()) is None


def test_an_inferred_timeout_may_be_that_of_one_request(contract: Contract) -> None:
    told = waiting(contract, 10).nothing("status").end("timeout", told=False)
    assert messages(rules.has_deadline, told.story()) is None
    told = waiting(contract, 10).status(done(contract)).nothing("media").end("timeout", told=False, id_exposed=False)
    assert messages(rules.id_in_error, told.story()) is None
    assert messages(rules.id_in_error, told.end("timeout", id_exposed=False).story()) != []


def test_the_exposed_id_must_be_the_one_in_the_response(contract: Contract) -> None:
    told = waiting(contract, 100).end("timeout", id_exposed=False, message=f"gave up {JOB}")
    assert messages(rules.id_in_error, told.story()) == []


def test_the_id_of_an_ended_job_is_not_required(contract: Contract) -> None:
    told = waiting(contract, 10).status(done(contract)).end("failed", id_exposed=False)
    assert messages(rules.id_in_error, told.story()) is None


def test_a_timeout_reported_as_such_is_fine(contract: Contract) -> None:
    assert messages(rules.timeout_not_success, waiting(contract, 100).end("timeout").story()) == []
    told = waiting(contract, patience(contract)).end("error")
    assert messages(rules.timeout_not_success, told.story()) == []
    assert messages(rules.timeout_not_success, waiting(contract, 100).end("error").story()) is None
    told = waiting(contract, 100).nothing("status").end("timeout", told=False)
    assert messages(rules.timeout_not_success, told.story()) is None, "it may be the timeout of one request"


def test_a_timeout_reported_as_success_is_found(contract: Contract) -> None:
    assert messages(rules.timeout_not_success, waiting(contract, 100).end("success").story()) != []


def test_a_timeout_reported_as_a_failure_of_the_provider_is_found(contract: Contract) -> None:
    assert messages(rules.timeout_not_success, waiting(contract, 100).end("failed").story()) != []
    troubled = waiting(contract, 100).status(None, status=503).nothing("status").wait(3).status(running(contract))
    assert messages(rules.timeout_not_success, troubled.end("failed").story()) != []


def test_an_inferred_failure_is_not_judged(contract: Contract) -> None:
    assert messages(rules.timeout_not_success, waiting(contract, 100).end("failed", told=False).story()) is None


@pytest.mark.parametrize(
    "how",
    [
        {"situation": "unknown_job"},
        {"situation": None, "status": 401},
        {"situation": None, "status": 503},
        {"situation": None, "status": 200, "answer": b'{"code": 500, "message": "no"}'},
        {"situation": None, "status": 307},
    ],
)
def test_a_failure_after_a_refusal_or_a_fault_is_not_judged(contract: Contract, how: dict[str, Any]) -> None:
    told = waiting(contract, 100).call("status", **how).end("failed")
    assert messages(rules.timeout_not_success, told.story()) is None


def test_a_success_that_may_have_been_read_is_not_judged(contract: Contract) -> None:
    told = waiting(contract, 100).status(done(contract), whole=False).end("success")
    assert messages(rules.timeout_not_success, told.story()) is None
    if "list" in contract.operations:
        for answer in (f'{{"items": [{{"id": "{JOB}"}}]}}'.encode(), b'{"items": ['):
            told = waiting(contract, 100).call("list", "listed", answer=answer, size=100_000).end("success")
            assert messages(rules.timeout_not_success, told.story()) is None


@contracts_that(lambda contract: "list" in contract.operations)
def test_a_list_without_the_clients_job_is_not_an_end(contract: Contract) -> None:
    for told in (Teller(contract).call("list", "listed").submit(), Teller(contract).submit().call("list", "listed")):
        told.status(running(contract)).wait(100).status(running(contract))
        assert messages(rules.timeout_not_success, told.end("success").story())
        assert messages(rules.id_in_error, told.end("timeout", job=None, id_exposed=False).story())


def test_each_order_has_its_own_deadline() -> None:
    contract = CONTRACTS[0]
    told = Teller(contract, {"a": 1}).submit().status(running(contract)).end("timeout")
    told.wait(9 * patience(contract)).again({"a": 2})
    other = "tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVZ"
    told.submit(job=other, key="key-2").status(running(contract), job=other).end("timeout", id_exposed=False)
    assert messages(rules.has_deadline, told.story()) == []
    assert messages(rules.id_in_error, told.story()) != []


# TMO-04


def held(contract: Contract, seconds: float) -> Teller:
    """Begin a story in which a poll has no response and holds the client for a while."""
    told = waiting(contract, 10)
    return told.nothing("status", move=name_used_for(HOLDS)).wait(seconds)


def test_a_request_without_a_response_that_the_client_gives_up_keeps_the_rule(contract: Contract) -> None:
    assert messages(rules.request_timeout, held(contract, 60).end("timeout").story()) == []


def test_a_request_without_a_response_that_holds_the_client_breaks_the_rule(contract: Contract) -> None:
    (found,) = messages(rules.request_timeout, held(contract, 1_900).end("unfinished").story()) or []
    assert "had no response, and held the client for 19" in found


def stalled(contract: Contract, seconds: float, pieces: int, waits: float, whole: bool = True) -> AnnotatedTrace:
    """Return a trace of a poll whose body comes in pieces over some seconds, and of a client that waits for a part."""
    move = name_used_for(STALLS)
    told = Teller(contract).submit()
    told.status(None, status=200, move=move, whole=whole, answered=told.now + waits).wait(waits).end("timeout")
    scenario = {"moves": {"status": [{"move": move, "seconds": seconds, "pieces": pieces}]}}
    return AnnotatedTrace(contract, replace(told.trace(), scenario=scenario))


def test_a_body_whose_end_comes_an_hour_later_must_not_hold_the_client(contract: Contract) -> None:
    (found,) = messages(rules.request_timeout, stalled(contract, 7_200, 2, waits=3_600)) or []
    assert "had no whole response, and held the client for 36" in found
    assert messages(rules.request_timeout, stalled(contract, 7_200, 2, waits=30, whole=False)) == []


def test_a_client_that_is_killed_while_it_waits_shows_no_timeout(contract: Contract) -> None:
    told = Teller(contract).submit().nothing("status", move=name_used_for(HOLDS)).wait(30).end("unfinished")
    assert messages(rules.request_timeout, told.restart().end("success").story()) is None


def test_a_body_that_goes_on_may_take_its_time(contract: Contract) -> None:
    assert messages(rules.request_timeout, stalled(contract, 7_200, 100, waits=7_200)) is None


def test_a_run_in_which_every_request_has_a_response_shows_no_timeout(contract: Contract) -> None:
    assert messages(rules.request_timeout, waiting(contract, 10).end("timeout").story()) is None


def ready(contract: Contract) -> Teller:
    """Return a trace of a job that has succeeded, up to the response that says so."""
    return Teller(contract).submit().wait(3).status(done(contract))


def under(kind: str, told: Teller, virtual: bool = True) -> AnnotatedTrace:
    """Return a story whose wall clock was set."""
    found = told.story()
    return AnnotatedTrace(found.contract, replace(found.trace, drill=kind, virtual=virtual))


@pytest.mark.parametrize("kind", [AHEAD, BEHIND])
def test_a_run_that_ends_with_its_video_keeps_the_rule(kind: str, contract: Contract) -> None:
    assert messages(rules.steady_clock, under(kind, ready(contract).media().end("success"))) == []


def test_a_usual_run_shows_nothing_about_the_clock(contract: Contract) -> None:
    assert messages(rules.steady_clock, ready(contract).media().end("success").story()) is None


@pytest.mark.parametrize("end", ["success", "timeout"])
def test_a_command_shows_nothing_about_the_clock_because_its_clock_cannot_be_set(end: str, contract: Contract) -> None:
    assert messages(rules.steady_clock, under(AHEAD, ready(contract).media().end(end), virtual=False)) is None


def test_a_run_that_gives_up_because_the_clock_is_ahead_breaks_the_rule(contract: Contract) -> None:
    (found,) = messages(rules.steady_clock, under(AHEAD, ready(contract).end("timeout"))) or []
    assert found == (
        "the wall clock was set an hour ahead for a while, and the run ended as 'timeout' although its job succeeded"
    )


def test_a_run_that_waits_until_the_clock_has_caught_up_breaks_the_rule(contract: Contract) -> None:
    told = ready(contract).wait(3_600).media().end("success")
    (found,) = messages(rules.steady_clock, under(BEHIND, told)) or []
    assert found.startswith("the wall clock was set back by an hour, and the client then sent no request for 36")


# TMO-05


def slow_file(contract: Contract, end: str, *, seconds: float = 8, own: float | None = None) -> AnnotatedTrace:
    """Return a trace of a client that has broken a slow file off, or has it, and of its own deadline."""
    move, whole = name_used_for(STALLS), end == "success"
    told = ready(contract).media(move=move, whole=whole, answered=None).wait(5).end(end)
    scenario = {"moves": {"media": [{"move": move, "seconds": seconds, "pieces": 30, "times": "always"}]}}
    return AnnotatedTrace(contract, replace(told.trace(), scenario=scenario, patience=own))


def test_a_slow_file_that_is_broken_off_is_found(contract: Contract) -> None:
    (found,) = messages(rules.slow_download, slow_file(contract, "failed")) or []
    assert "in 30 pieces within 8 s" in found
    assert messages(rules.slow_download, slow_file(contract, "success")) == []


def test_a_slow_file_may_come_in_the_usual_number_of_pieces(contract: Contract) -> None:
    told = slow_file(contract, "failed", seconds=9)
    (move,) = told.trace.scenario["moves"]["media"]
    scenario = {"moves": {"media": [{name: move[name] for name in move if name != "pieces"}]}}
    (found,) = messages(rules.slow_download, AnnotatedTrace(contract, replace(told.trace, scenario=scenario))) or []
    assert f"in {PIECES.default} pieces within 9 s" in found


def test_a_file_that_takes_longer_or_a_client_in_a_hurry_shows_nothing(contract: Contract) -> None:
    assert messages(rules.slow_download, slow_file(contract, "failed", seconds=20)) is None
    assert messages(rules.slow_download, slow_file(contract, "failed", own=20)) is None


def test_a_file_that_may_also_have_stalled_shows_nothing(contract: Contract) -> None:
    told = slow_file(contract, "failed")
    (move,) = told.trace.scenario["moves"]["media"]
    scenario = {"moves": {"media": [{**move, "seconds": 7_200}, move]}}
    trace = AnnotatedTrace(contract, replace(told.trace, scenario=scenario))
    assert messages(rules.slow_download, trace) is None


def test_the_first_byte_of_a_file_may_take_ten_seconds(contract: Contract) -> None:
    move = {"move": name_used_for(PASSES), "seconds": 8, "times": "always"}

    def ended(end: str, **options: Any) -> list[str] | None:
        told = ready(contract).media(move=move["move"], status=0, whole=False, answered=None).wait(5).end(end)
        scenario = {"moves": {"media": [{**move, **options}]}}
        return messages(rules.slow_download, AnnotatedTrace(contract, replace(told.trace(), scenario=scenario)))

    (found,) = ended("failed") or []
    assert "first byte came after 8 s" in found
    assert ended("failed", seconds=30) is None
    assert ended("failed", times=1) is None


# TMO-06


def slow_submission(contract: Contract, end: str, *, seconds: float = 8) -> AnnotatedTrace:
    """Return a trace of a client that has not waited for the response to its submission."""
    move = name_used_for(PASSES)
    told = Teller(contract).nothing("submit", move=move).wait(5)
    scenario = {"moves": {"submit": [{"move": move, "seconds": seconds}]}}
    return AnnotatedTrace(contract, replace(told.end(end).trace(), scenario=scenario))


def test_a_submission_that_the_client_does_not_wait_for_is_found(contract: Contract) -> None:
    (found,) = messages(rules.slow_acceptance, slow_submission(contract, "failed")) or []
    assert "after 8 s, but the client ended after 5.0 s" in found
    assert messages(rules.slow_acceptance, slow_submission(contract, "failed", seconds=60)) is None
    move = {"move": name_used_for(PASSES), "seconds": 8}
    two = slow_submission(contract, "failed")
    scenario = {"moves": {"submit": [*two.trace.scenario["moves"]["submit"], {**move, "seconds": 60}]}}
    assert messages(rules.slow_acceptance, AnnotatedTrace(contract, replace(two.trace, scenario=scenario))) is None
    waited = Teller(contract).submit(move=move["move"]).end("failed").trace()
    told = AnnotatedTrace(contract, replace(waited, scenario={"moves": {"submit": [move]}}))
    assert messages(rules.slow_acceptance, told) == []
