"""The suite for clients as a test class: one test a rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import CROWD, LONG, ONCE, TWICE
from hobbyhorse.conformance.client.judge import BROKEN, NOT_OBSERVED, Verdict
from hobbyhorse.conformance.client.report import case_of
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.conformance.client.rules import rules as all_rules
from hobbyhorse.conformance.client.search import CannotRun, Plan, Search
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import Client

SUITE_RUNS = 500
SUITE_KINDS = (ONCE, TWICE, LONG, CROWD)


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
    """Run the suite on a Python callable. Raises CannotRun if it gets no video from a happy server."""
    name = getattr(client, "__qualname__", type(client).__name__)
    with FakeSession(contract, model, seed) as arena:
        search = Search(contract, CallableRunner(arena, client), Plan(runs, seed, tuple(rules), tuple(kinds)))
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
    """Return a test class for pytest that holds a client against every rule of a provider: one test a rule.

    `client` is a callable `(base_url, api_key, request)`, async or not, that returns a path, bytes, or the video's
    address. It is run `runs` times, in virtual time, when the first test begins. `accepted` gives rules that are known
    to be broken, with the reason; one that is not broken any more fails. Rules that were not observed are skipped.
    Raises LookupError if there is no such provider, model or rule.
    """
    contract, chosen = _chosen(provider, model, contracts)
    wanted = [rule for rule in all_rules() if rule.applies(contract) and (not rules or rule.id in rules)]
    if unknown := sorted({*rules, *(accepted or {})} - {rule.id for rule in all_rules()}):
        raise LookupError(f"there is no rule {unknown[0]!r}; `hobbyhorse rules` lists them")

    @cache
    def verdicts() -> Mapping[str, Verdict] | str:
        try:
            result = examine(client, contract, chosen, runs=runs, seed=seed, rules=rules)
        except CannotRun as error:
            return str(error)
        return {one.rule.id: one for one in result.verdicts}

    members: dict[str, Any] = {"__doc__": f"The rules for clients of {contract.name}."}
    for rule in wanted:
        name = f"test_{rule.id}_{rule.name}".replace("-", "_")
        members[name] = _test(rule, verdicts, (accepted or {}).get(rule.id))
    return type("TestClient", (), members)


def _chosen(provider: str, model: str | None, contracts: Path | None) -> tuple[Contract, Model]:
    loaded = {contract.key: contract for contract in load_all(contracts)}
    if provider not in loaded:
        raise LookupError(f"no provider {provider!r}; there are {', '.join(loaded)}")
    contract = loaded[provider]
    found = contract.models[0] if model is None else contract.model(model)
    if found is None:
        raise LookupError(f"no model {model!r}; {provider} has {', '.join(one.id for one in contract.models)}")
    return contract, found


def _test(rule: Rule, verdicts: Callable[[], Mapping[str, Verdict] | str], accepted: str | None) -> Callable[..., None]:
    def test(self: object) -> None:
        found = verdicts()
        if isinstance(found, str):
            pytest.fail(found, pytrace=False)
        one = found[rule.id]
        if accepted is not None:
            if one.verdict != BROKEN:
                pytest.fail(f"{rule.id} is accepted ({accepted}), and not broken: take it out", pytrace=False)
            pytest.xfail(accepted)
        if one.verdict == NOT_OBSERVED:
            pytest.skip("not observed: the client did not come to what the rule is about")
        if one.verdict == BROKEN:
            pytest.fail(_words(one), pytrace=False)

    test.__doc__ = rule.statement
    return test


def _words(one: Verdict) -> str:
    """Return what breaks a rule, and how to see it again."""
    lines = [f"{one.rule.id} {one.rule.name}: {one.rule.statement}", ""]
    for finding in one.findings:
        drill = case_of(finding.trace)
        lines += [f"server: {drill}", *(f"client: {message}" for message in finding.messages)]
        if drill.scenario:
            lines += ["", f"see it again: hobbyhorse.arm({json.dumps(drill.scenario)})"]
    return "\n".join([*lines, "", f"why: {one.rule.why}"])
