"""The conformance suite for clients as a pytest class, with one test a rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import (
    CROWD,
    EQUAL,
    LONG,
    ONCE,
    PICTURES,
    PROMPTS,
    RECOVERY,
    TOGETHER,
    TWICE,
)
from hobbyhorse.conformance.client.report import case_of
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.client.rules import rules as all_rules
from hobbyhorse.conformance.client.search import CannotRun, Plan, Search
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, Verdict
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import Client

# As many as `--profile ci` runs of a callable: more find more bugs, these fit into a test run.
SUITE_RUNS = 500
# The kinds that need no second process: a callable cannot be killed and started again.
SUITE_KINDS = (ONCE, TWICE, EQUAL, PROMPTS, PICTURES, LONG, TOGETHER, CROWD, RECOVERY)


def examine(
    client: Client,
    contract: Contract,
    model: Model,
    *,
    runs: int = SUITE_RUNS,
    seed: int = 0,
    rules: Sequence[str] = (),
    kinds: Sequence[str] = SUITE_KINDS,
) -> Result:
    """Run the suite on a Python callable. Raises CannotRun if the client gets no video from a server without faults."""
    name = getattr(client, "__qualname__", type(client).__name__)
    with FakeSession(contract, model, seed) as session:
        search = Search(contract, CallableRunner(session, client), Plan(runs, seed, tuple(rules), tuple(kinds)))
        return search.run(f"{getattr(client, '__module__', '')}.{name}".lstrip("."), model.id)


def client_suite(
    client: Client,
    *,
    provider: str,
    model: str | None = None,
    runs: int = SUITE_RUNS,
    seed: int = 0,
    rules: Sequence[str] = (),
    accepted: Mapping[str, str] | None = None,
    contracts: Path | None = None,
) -> type:
    """Return a pytest class that checks a client against the rules of a provider, with one test a rule.

    `client` is a callable `(base_url, api_key, request)`, async or not, that returns a path, bytes, or the video's
    URL. It is run `runs` times, in virtual time, when the first test starts. `accepted` maps rules that are known to be
    broken to the reason; the test of such a rule fails once the rule is not broken any more. Tests of rules that were
    not observed are skipped. Raises LookupError if there is no such provider, model or rule.
    """
    contract, chosen = _chosen(provider, model, contracts)
    wanted = [rule for rule in all_rules() if rule.applies(contract) and (not rules or rule.id in rules)]
    if unknown := sorted({*rules, *(accepted or {})} - {rule.id for rule in all_rules()}):
        raise LookupError(f"there is no rule {unknown[0]!r}; `hobbyhorse rules` lists them")

    # Once for the class, by its first test: importing the test module must not run 500 cases.
    @cache
    def verdicts() -> Mapping[str, Verdict] | str:
        try:
            result = examine(client, contract, chosen, runs=runs, seed=seed, rules=rules)
        except CannotRun as error:
            return str(error)
        return {one.rule.id: one for one in result.verdicts}

    members: dict[str, Any] = {"__doc__": f"The rules for clients of {contract.name}."}
    for rule in wanted:
        name = f"test_{rule.id}_{rule.name}".replace("-", "_")  # SUB-01 is not an identifier
        members[name] = _test(rule, verdicts, (accepted or {}).get(rule.id))
    return type("TestClient", (), members)


def _chosen(provider: str, model: str | None, contracts: Path | None) -> tuple[Contract, Model]:
    loaded = {contract.key: contract for contract in load_all(contracts)}
    if provider not in loaded:
        raise LookupError(f"there is no provider {provider!r}; allowed: {', '.join(loaded)}")
    contract = loaded[provider]
    found = contract.models[0] if model is None else contract.model(model)
    if found is None:
        raise LookupError(f"{provider} has no model {model!r}; allowed: {', '.join(one.id for one in contract.models)}")
    return contract, found


def _test(rule: Rule, verdicts: Callable[[], Mapping[str, Verdict] | str], accepted: str | None) -> Callable[..., None]:
    def test(self: object) -> None:
        found = verdicts()
        if isinstance(found, str):
            pytest.fail(found, pytrace=False)
        one = found[rule.id]
        if accepted is not None:
            # A stale entry would hide the next regression.
            if one.verdict != BROKEN:
                pytest.fail(
                    f"{rule.id} is accepted ({accepted}) but not broken: remove it from `accepted`", pytrace=False
                )
            pytest.xfail(accepted)
        if one.verdict == NOT_OBSERVED:
            pytest.skip("not observed: the client never got into a situation that the rule covers")
        if one.verdict == BROKEN:
            pytest.fail(_report(one), pytrace=False)

    test.__doc__ = rule.says
    return test


def _report(one: Verdict) -> str:
    """Return the findings that break a rule, and the code that reproduces them."""
    lines = [f"{one.rule.id} {one.rule.name}: {one.rule.says}", ""]
    for finding in one.findings:
        case = case_of(finding.trace)
        lines += [f"server: {case}", *(f"client: {message}" for message in finding.messages)]
        if case.scenario:
            lines += ["", f"reproduce: hobbyhorse.arm({json.dumps(case.scenario)})"]
    return "\n".join([*lines, "", f"why: {one.rule.because}"])
