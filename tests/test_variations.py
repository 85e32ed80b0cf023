"""Variations: correct clients over real libraries survive each, and each is valid against the contracts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import HAPPY, Case
from hobbyhorse.conformance.client.planning import varied
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import CaseRunner
from hobbyhorse.conformance.client.variations import plain, variations
from hobbyhorse.conformance.judge import check
from hobbyhorse.contract.values import Contract
from hobbyhorse.runners.against_fake import CallableRunner, CommandRunner, FakeSession
from hobbyhorse.runners.callable import find_client
from hobbyhorse.scenarios.fault import CODING, FAULT, FRAMING, HEADERS, LINKS, MUST, VARIATION, Fault, Option
from hobbyhorse.scenarios.registry import all_faults, faults_of
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.broken_clients.mutants import load
from tests.conftest import CONTRACTS, NIGHT, ROOT
from tests.library_clients import SENDERS, client_over

BY_KEY = {contract.key: contract for contract in CONTRACTS}
RULES = [rule for rule in rules() if rule.family == "VAR" and rule.level == MUST]
ROLES = ("submit", "status", "result", "media", "callback")
# The fetch of Node is that of the example; it runs as a command, in real time.
NODE = "node"
# A process for each request or run takes too long for every variation by day.
PROCESSES = ("curl", NODE)
# The factor by which the clock of the server runs faster.
SPEED = 60.0


def cases_for(name: str, contract: Contract) -> list[Case]:
    """Return the variations that a library is tried with: all by night, by day one of each fault.

    In a process for each request, by day only those that concern the library and not the example.
    """
    found = [case for case in varied(contract, ROLES) if any(one.level == MUST for one in variations(case.scenario))]
    if NIGHT:
        return found
    first: dict[str, Case] = {}
    for case in found:
        ((role, (*_, move)), *_) = case.scenario["moves"].items()
        fault = faults_of(role).get(move["move"])
        if name not in PROCESSES or (fault is not None and fault.layer in (HEADERS, CODING, FRAMING, LINKS)):
            first.setdefault(move["move"], case)
    return list(first.values())


@contextmanager
def runner_for(name: str, contract: Contract) -> Iterator[CaseRunner]:
    """Yield the function that runs cases with the client over a library."""
    model = contract.models[0]
    if name == NODE:
        with FakeSession(contract, model, 0, "real", SPEED, "fast") as session:
            yield CommandRunner(session, [NODE, str(ROOT / "examples" / "javascript" / "hiapi.mjs")], parallel=2)
        return
    with FakeSession(contract, model) as session:
        yield CallableRunner(session, client_over(name))


@pytest.mark.parametrize("name", [*SENDERS, NODE])
def test_a_correct_client_over_a_library_survives_each_variation(name: str) -> None:
    if name in PROCESSES and shutil.which(name) is None:
        pytest.skip(f"needs {name}, which is not installed")
    contract = BY_KEY["hiapi" if name == NODE else "vtrix"]
    with runner_for(name, contract) as run:
        assert breaches(contract, run, cases_for(name, contract)) == []


def breaches(contract: Contract, run: CaseRunner, cases: list[Case]) -> list[str]:
    """Return what a client breaks in cases with variations."""
    usual = [Case(scenario) for scenario in unique([plain(case.scenario) for case in cases])]
    outcomes = {case.key: trace.runs[-1].outcome for case, trace in zip(usual, run(usual), strict=True)}
    happy = outcomes[HAPPY.key]
    assert happy is not None
    assert happy.kind == "success", happy.message
    traces = zip(cases, run(cases), strict=True)
    told = [(case, replace(trace, plain=outcomes[Case(plain(case.scenario)).key])) for case, trace in traces]
    return [
        f"{rule.id} {case}: {breach.message}"
        for case, trace in told
        for rule in RULES
        for breach in check(rule, AnnotatedTrace(contract, trace)).breaches
    ]


# No document of these providers has an output that accompanies the video.
TAKES_THE_FIRST_OUTPUT = {
    "runflow": ('outputs[0] if outputs else 0, "url"', '0, "url"'),
    "vtrix": ('*(videos or places)[0], "url"', '*places[0], "url"'),
}


@pytest.mark.parametrize("provider", TAKES_THE_FIRST_OUTPUT)
def test_a_client_may_take_the_first_output_where_only_a_video_is_documented(provider: str) -> None:
    contract, (old, new) = BY_KEY[provider], TAKES_THE_FIRST_OUTPUT[provider]
    text = (ROOT / "examples" / "python" / f"{provider}.py").read_text()
    assert text.count(old) == 1
    client = load(f"first output of {provider}", text.replace(old, new))
    # Each case, also by day: one of each fault would leave out the other places of an output.
    cases = [
        case for case in varied(contract, ("status",)) if any(one.level == MUST for one in variations(case.scenario))
    ]
    assert len(cases) > len(RULES)
    with FakeSession(contract, contract.models[0]) as session:
        assert breaches(contract, CallableRunner(session, client), cases) == []


def unique(scenarios: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for at, one in enumerate(scenarios) if one not in scenarios[:at]]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda one: one.key)
def test_every_response_of_a_variation_is_valid_against_the_contract(contract: Contract) -> None:
    """Without that it would be a fault, and accuse a client that reads the contract."""
    client = find_client(str(ROOT / "examples" / "python" / f"{contract.key}.py:generate"))
    seen = 0
    with FakeSession(contract, contract.models[0]) as session:
        run = CallableRunner(session, client).run
        for case in varied(contract, ROLES):
            found = variations(case.scenario)
            if any(one.level != MUST for one in found) or plain(case.scenario):
                continue
            trace = AnnotatedTrace(contract, run(case))
            for step in trace.steps:
                if step.role in contract.operations and step.ok:
                    seen += step.exchange.move is not None
                    assert step.valid, f"{case}: {step.exchange.answer!r}"
    assert seen


@pytest.mark.parametrize("fault", all_faults(), ids=lambda one: f"{one.stands[0]}-{one.name}")
def test_a_judged_variation_has_a_source_a_level_and_a_layer(fault: Fault) -> None:
    sentences: list[Fault | Option] = [fault, *fault.options]
    for one in sentences:
        form = one.form
        assert bool(form) == bool(one.source) == bool(one.level)
    if fault.form:
        assert fault.kind == VARIATION
        # A variation of the timeline changes no response, and so has no layer of one.
        assert bool(fault.layer) == (fault.stands != ("timeline",))
    if fault.kind == FAULT:
        assert not fault.layer


def test_every_form_has_exactly_one_rule() -> None:
    forms = {fault.form for fault in all_faults()} | {one.form for fault in all_faults() for one in fault.options}
    # The shape and the type of an error share a rule.
    assert len(forms - {"", "type of the error"}) + 1 == sum(rule.family == "VAR" for rule in rules()), (
        "the last rule is for several forms"
    )
