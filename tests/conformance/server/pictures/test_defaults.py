"""Orders with a documented default, with another value, and with neither, and what their videos show."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest

from hobbyhorse.conformance.server.pictures import defaults
from hobbyhorse.conformance.server.pictures.defaults import (
    MARK,
    PROBE,
    has_visible_default,
    order_defaults,
    orders_of_default,
)
from hobbyhorse.conformance.server.session import Skipped
from hobbyhorse.conformance.server.video_check import DEFAULT
from hobbyhorse.contract.forms.expressions import MISSING, resolve
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.server_mutation.mutant import Source
from tests.server_mutation.serving import Served, on_server

marking = contracts_that(lambda contract: has_visible_default(contract.models[0]))


def test_only_a_documented_default_that_shows_is_compared(contract: Contract) -> None:
    model = contract.models[0]
    assert has_visible_default(model) == isinstance(model.defaults.get(MARK), bool)
    assert not has_visible_default(replace(model, defaults={}))
    assert not has_visible_default(replace(model, parameters={}))


@marking
def test_the_orders_differ_in_the_parameter_only_and_one_is_that_of_the_paid_job(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        usual, other, left_out = orders_of_default(session)
        at = (*session.submit.model_parameters.pointer, *session.model.parameters[MARK][0])
        assert [resolve(body, at) for body in (usual, other, left_out)] == [
            session.model.defaults[MARK],
            not session.model.defaults[MARK],
            MISSING,
        ]
        assert session.order in (usual, left_out)
        order_defaults(session)
        sent = [one.probe for one in session.endpoint.exchanges if one.role == "submit"]
        jobs = [step.job for step in session.videos]
    assert sent.count(PROBE) == 2
    assert len(set(jobs)) == 3
    # The server of these tests makes the same video of each order.
    assert [video.facts.get(DEFAULT) for video in session.videos] == [None, None, [MARK, 0.0, 0.0, 0.0]]


@marking
def test_videos_that_cannot_be_compared_are_noted(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with (
        on_server(adapted, Served(adapted)) as (_, session),
        patch.object(defaults, "frames_differ", lambda data, other: None),
        pytest.raises(Skipped, match="cannot be compared"),
    ):
        order_defaults(session)
    assert not [video for video in session.videos if DEFAULT in video.facts]
