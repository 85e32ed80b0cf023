"""The state machine of the suite: it submits few jobs, makes few calls, and repeats itself for a seed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import httpx
import orjson
import pytest

from hobbyhorse.conformance.server.endpoint import OutOfTime
from hobbyhorse.conformance.server.machine import MOST_CALLS, MOST_JOBS, PROBE, interleave
from hobbyhorse.conformance.server.session import LABELS, EndpointUnreachable, Session, Skipped
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.values import Contract
from tests.conformance.server.test_suite import never_called, session_on


def accepting(contract: Contract) -> httpx.MockTransport:
    """Return an endpoint that accepts each submission as a new job, and knows nothing else."""
    submit = contract.operations["submit"]
    accepted = submit.situations["accepted"]
    place = next(place for place in submit.bindings["job"].response if place.part == "body")
    example, jobs = contract.schemas.at(accepted.example_at), iter(range(100))

    def respond(request: httpx.Request) -> httpx.Response:
        if request.method == submit.method and submit.pattern.fullmatch(request.url.path):
            return httpx.Response(accepted.status, json=replaced(example, place.pointer, f"job-{next(jobs)}"))
        return httpx.Response(404, json={})

    return httpx.MockTransport(respond)


def machine_on(contract: Contract, seed: int = 0, budget: Decimal = Decimal(50)) -> Session:
    session = session_on(contract, contract.models[0], accepting(contract), seed, budget)
    interleave(session)
    return session


def calls(session: Session) -> list[tuple[str | None, str | None]]:
    return [(one.role, one.job) for one in session.endpoint.exchanges]


def test_it_submits_few_jobs_and_makes_few_calls_all_of_one_probe(contract: Contract) -> None:
    session = machine_on(contract)
    roles = [role for role, _ in calls(session)]
    assert 1 < roles.count("submit") <= MOST_JOBS
    assert len(roles) <= MOST_CALLS
    assert {one.probe for one in session.endpoint.exchanges} == {PROBE}


def test_it_reads_several_jobs_in_a_mixed_order(contract: Contract) -> None:
    read = [job for role, job in calls(machine_on(contract)) if role != "submit" and job]
    assert len(set(read)) > 1
    assert read != sorted(read)


def test_the_same_seed_makes_the_same_calls_and_another_one_makes_others(contract: Contract) -> None:
    first, second, third = (calls(machine_on(contract, seed)) for seed in (3, 3, 4))
    assert first == second
    assert first != third


def test_it_calls_only_operations_that_the_contract_has(contract: Contract) -> None:
    assert {role for role, _ in calls(machine_on(contract))} <= set(contract.operations)


def test_the_second_order_is_equal_to_the_first_and_the_third_has_its_labels(contract: Contract) -> None:
    session = machine_on(contract)
    first, second, *others = (orjson.loads(one.body) for one in session.endpoint.exchanges if one.role == "submit")
    assert first == second
    for third in others:
        assert third != first
        assert session.labelled_like(third, first) == third
        bound = [session.submit.bindings[name] for name in LABELS if name in session.submit.bindings]
        places = [place.pointer for one in bound for place in one.request if place.part == "body"]
        assert [resolve(third, place) for place in places] == [resolve(first, place) for place in places]


def test_without_the_money_for_one_job_it_is_skipped(contract: Contract) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called), budget=Decimal("0.01"))
    with pytest.raises(Skipped, match="left in the budget"):
        interleave(session)


def test_with_the_money_for_one_job_it_reads_that_one_and_notes_the_rest(contract: Contract) -> None:
    model = contract.models[0]
    price = session_on(contract, model, httpx.MockTransport(never_called)).price
    session = machine_on(contract, budget=price)
    roles = [role for role, _ in calls(session)]
    assert roles.count("submit") == 1
    assert len(roles) > 1
    assert [(note.probe, "left in the budget" in note.why) for note in session.notes] == [(PROBE, True)]


def out_of_time(session: Session) -> None:
    session.endpoint.until = 0.0


def unreachable(session: Session) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    session.endpoint.http = httpx.Client(transport=httpx.MockTransport(respond))


@pytest.mark.parametrize(("breaks", "error"), [(out_of_time, OutOfTime), (unreachable, EndpointUnreachable)])
def test_the_end_of_the_suite_ends_the_machine(
    contract: Contract, breaks: Callable[[Session], None], error: type[Exception]
) -> None:
    session = session_on(contract, contract.models[0], httpx.MockTransport(never_called), budget=Decimal(50))
    breaks(session)
    with pytest.raises(error):
        interleave(session)
    assert len(session.endpoint.exchanges) <= 2
