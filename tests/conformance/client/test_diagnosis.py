"""Why a client gets no video from a faultless server."""

from __future__ import annotations

import pytest

from hobbyhorse.conformance.client.diagnosis import own_deadline, refused, without_video
from hobbyhorse.contract.values import Contract
from tests.conftest import CONTRACTS
from tests.tracing import Teller

# The contracts whose status itself reports a success; the others report it in the result.
ONE_STEP = [one for one in CONTRACTS if "result" not in one.operations]


def stages(contract: Contract) -> tuple[str, str]:
    """Return a stage of a running job, and the stage of a job that has its video."""
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    return running, next(stage.name for stage in contract.graph if stage.kind == "success")


def words(told: Teller) -> str:
    return without_video(told.story()) or ""


def test_a_client_with_its_video_needs_no_diagnosis(contract: Contract) -> None:
    assert without_video(Teller(contract).submit().end("success").story()) is None
    assert without_video(Teller(contract).submit().story()) is None


def test_a_client_that_submits_nothing_is_told_its_requests(contract: Contract) -> None:
    told = Teller(contract)
    for _ in range(7):
        told.call(None, None, status=404)
    assert "GET http://127.0.0.1:8000/elsewhere (404), and 2 more" in words(told)
    assert "its requests: none" in words(Teller(contract))


@pytest.mark.parametrize("contract", ONE_STEP, ids=lambda contract: contract.key)
def test_a_client_that_polls_on_after_the_end_is_told_the_words_of_the_contract(contract: Contract) -> None:
    running, success = stages(contract)
    told = Teller(contract).submit().wait(5).status(running).wait(5).status(success).wait(5).status(success)
    found = words(told.wait(600).end("timeout"))
    assert f"request 3 returned stage {success!r}, but the client polled on: does it expect another word?" in found
    assert repr(success) in found.partition("The contract's last stages")[2]


def test_a_client_whose_polls_do_not_arrive_is_told_about_caches(contract: Contract) -> None:
    running, _ = stages(contract)
    told = Teller(contract).submit().wait(1).status(running)
    assert "only 1 poll reached the server" in words(told.wait(599).end("timeout"))
    for _ in range(4):
        told.wait(5).status(running)
    assert "cache" not in words(told.end("timeout"))


def test_a_client_that_fails_early_is_not_told_about_caches(contract: Contract) -> None:
    found = words(Teller(contract).submit().wait(1).end("failed", message="KeyError: 'id'"))
    assert "cache" not in found
    assert found.endswith("the run ended as 'failed': KeyError: 'id'")


@pytest.mark.parametrize(("status", "is_content"), [(400, True), (422, True), (401, False), (403, False)])
def test_only_a_refusal_of_the_content_is_the_fault_of_the_request(
    contract: Contract, status: int, is_content: bool
) -> None:
    told = Teller(contract).submit(None, status=status, answer=b"{}", made=None).end("failed")
    assert refused(told.story()) is is_content


@pytest.mark.parametrize("contract", ONE_STEP, ids=lambda contract: contract.key)
def test_the_own_deadline_is_how_long_a_client_waited_for_a_job_that_never_ends(contract: Contract) -> None:
    running, success = stages(contract)
    waited = Teller(contract).submit().wait(30).status(running)
    gave_up, cut_off = (waited.end(kind).story() for kind in ("timeout", "unfinished"))
    assert own_deadline(gave_up) == pytest.approx(gave_up.waited)
    assert gave_up.waited >= 30
    assert own_deadline(cut_off) is None
    assert own_deadline(Teller(contract).submit().wait(30).status(success).end("failed").story()) is None


def test_an_accepted_or_missing_submission_is_not_refused(contract: Contract) -> None:
    assert not refused(Teller(contract).submit().end("failed").story())
    assert not refused(Teller(contract).end("failed").story())
