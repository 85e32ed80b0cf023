"""The reasons of a provider: found in responses and callbacks, and recognised in the words of a client."""

from __future__ import annotations

import pytest

from hobbyhorse.conformance.client.reasons import beginning_of, mentioned, reasons_in, reasons_of
from hobbyhorse.contract.values import Contract
from tests.conformance.client.rules.test_results import bought, called_back, carrier, ready
from tests.conformance.client.rules.test_submitting import failed
from tests.tracing import JOB, Teller

LONG = "The picture shows a person who did not agree to be shown, as our terms of use require"


def test_a_failed_job_has_reasons_and_a_video_has_none(contract: Contract) -> None:
    told = bought(contract).call(carrier(contract), failed(contract))
    step = told.story().steps[-1]
    assert reasons_of(step)
    assert beginning_of(step)[0] in step.exchange.answer.decode()
    assert set(reasons_of(step)) <= set(reasons_in(told.story()))
    assert not [reason for one in ready(contract).story().steps for reason in beginning_of(one)]


def explained_callback(told: Teller, status: int = 200) -> Teller:
    """Add a callback that reports a failure and its reason."""
    assert told.contract.callbacks is not None
    name, found = next(
        (name, one)
        for name, one in told.contract.callbacks.situations.items()
        if one.stages and all(told.contract.graph[stage].kind == "failure" for stage in one.stages)
    )
    body = found.template.write({"job": JOB, "error_code": "E_42", "error_message": LONG}.get)
    return told.callback(name, status, body=body)


@called_back
def test_a_callback_about_a_failed_job_has_reasons(contract: Contract) -> None:
    assert reasons_in(explained_callback(Teller(contract)).story())


def test_the_beginning_of_a_page_is_not_a_reason_and_a_refusal_is(contract: Contract) -> None:
    long = b'{"detail": "The request has a picture that is not allowed here"}'
    assert beginning_of(Teller(contract).status(None, status=422, answer=long).story().steps[-1])
    assert not beginning_of(Teller(contract).status(None, status=200, answer=long).story().steps[-1])
    assert not beginning_of(Teller(contract).status(None, status=422, answer=b"no").story().steps[-1])


def test_only_the_first_200_bytes_of_a_response_count_as_its_beginning(contract: Contract) -> None:
    """A reason needs 40 letters there: the fortieth is the last byte that counts, or the first that does not."""
    for gap, expected in ((160, 200), (161, None)):
        answer = b"a" * 39 + b" " * gap + b"b" * 200
        found = beginning_of(Teller(contract).status(None, status=422, answer=answer).story().steps[-1])
        assert [len(one) for one in found] == ([expected] if expected else [])


def test_reasons_are_those_of_refusals_from_400_on(contract: Contract) -> None:
    long = b'{"detail": "The request has a picture that is not allowed here"}'
    for status, expected in ((399, 0), (400, 1)):
        step = Teller(contract).status(None, status=status, answer=long).story().steps[-1]
        assert len(beginning_of(step)) == expected


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        f"Error: b'{LONG}'",
        LONG[:60] + "...",
        LONG.upper(),
        LONG.replace(" ", "\n"),
        "THE_PICTURE_SHOWS_A_PERSON_WHO_DID_NOT_AGREE_TO_BE_SHOWN",
    ],
)
def test_a_reason_is_recognised_in_other_spelling_and_shortened(text: str) -> None:
    assert mentioned([LONG], text) == (LONG,)


def test_a_part_that_is_too_short_is_not_the_reason() -> None:
    assert mentioned([LONG], LONG[:40]) == ()
    assert mentioned(["E_42"], "e42") == ("E_42",)
    assert mentioned(["E_42"], "e 4") == ()
