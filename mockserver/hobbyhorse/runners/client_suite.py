"""The conformance suite for clients as a pytest class, with one test a rule."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import CALLABLE_KINDS, case_of
from hobbyhorse.conformance.client.during import OPERATIONS
from hobbyhorse.conformance.client.report import preconditions
from hobbyhorse.conformance.client.results import Result, is_accepted, with_baseline
from hobbyhorse.conformance.client.rules import rules as all_rules
from hobbyhorse.conformance.client.search import CannotRun, Plan, Search
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, Finding, Verdict
from hobbyhorse.conformance.report import unknown_names
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import Client
from hobbyhorse.runners.process_pool import WorkerSetup, fresh_runner

# Half of what `--profile ci` runs: more find more bugs, these fit into a test run.
SUITE_RUNS = 500


def examine(
    client: Client,
    contract: Contract,
    model: Model,
    *,
    runs: int = SUITE_RUNS,
    seed: int = 0,
    rules: Sequence[str] = (),
    kinds: Sequence[str] = CALLABLE_KINDS,
    contracts: Path | None = None,
) -> Result:
    """Run the suite on a Python callable. Raises CannotRun if the client gets no video from a server without faults.

    Findings are confirmed in a fresh process if it can import the client: a function at the top level of a file.
    """
    name = getattr(client, "__qualname__", type(client).__name__)
    with FakeSession(contract, model, seed) as session:
        runner = CallableRunner(session, client)
        fit = runner.fit()
        search = Search(contract, runner, Plan(runs, seed, tuple(rules), tuple(kinds)))
        search.fit = fit
        if (source := importable(client)) is not None:
            search.fresh = fresh_runner(WorkerSetup(source, contract.key, model.id, seed, contracts, fit))
        return search.run(f"{getattr(client, '__module__', '')}.{name}".lstrip("."), model.id)


def importable(client: Client) -> str | None:
    """Return the `module:function` under which another process finds a client, or None.

    A lambda, a method, a local function or a callable object exists in this process only.
    """
    module, name = getattr(client, "__module__", None), getattr(client, "__qualname__", "")
    if not isinstance(module, str) or module == "__main__" or not name.isidentifier():
        return None
    return f"{module}:{name}" if getattr(sys.modules.get(module), name, None) is client else None


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
    broken to the reason, or such a rule with the operation in which it is broken, as in `RES-08/download`. The test of
    such a rule fails once the rule is not broken any more. Tests of rules that were not observed are skipped. Raises
    LookupError if there is no such provider, model or rule.
    """
    contract, chosen = _chosen(provider, model, contracts)
    wanted = [rule for rule in all_rules() if rule.applies(contract) and (not rules or rule.id in rules)]
    ids = [rule.id for rule in all_rules()]
    if unknown := unknown_names(rules, ids) or unknown_names(accepted or {}, ids, OPERATIONS):
        raise LookupError(f"there is no rule {unknown[0]!r}; `hobbyhorse rules` lists them")

    # Once for the class, by its first test: importing the test module must not run 500 cases.
    @cache
    def examined() -> Result | str:
        try:
            result = examine(client, contract, chosen, runs=runs, seed=seed, rules=rules, contracts=contracts)
        except CannotRun as error:
            return str(error)
        return with_baseline(result, accepted or {})

    members: dict[str, Any] = {"__doc__": f"The rules for clients of {contract.name}."}
    for rule in wanted:
        name = f"test_{rule.id}_{rule.name}".replace("-", "_")  # SUB-01 is not an identifier
        members[name] = _test(rule, examined, _about(rule, accepted or {}))
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


def _about(rule: Rule, accepted: Mapping[str, str]) -> dict[str, str]:
    """Return the accepted findings of a rule."""
    return {name: why for name, why in accepted.items() if name.partition("/")[0] == rule.id}


def _test(rule: Rule, examined: Callable[[], Result | str], accepted: Mapping[str, str]) -> Callable[..., None]:
    def test(self: object) -> None:
        result = examined()
        if isinstance(result, str):
            pytest.fail(result, pytrace=False)
        one = next(verdict for verdict in result.verdicts if verdict.rule is rule)
        if result.errors or result.interrupted:
            pytest.fail("; ".join(map(str, result.errors)) or "the suite was interrupted", pytrace=False)
        # A stale entry would hide the next regression. A rule that was not observed is no evidence, but its entry is
        # noticed here, because nobody reads the skipped tests.
        stale = [name for name in accepted if name in result.stale or one.verdict == NOT_OBSERVED]
        if stale:
            reason = accepted[stale[0]]
            pytest.fail(f"{stale[0]} is accepted ({reason}) but not broken: remove it from `accepted`", pytrace=False)
        left = [finding for finding in one.findings if not is_accepted(finding, accepted)]
        if left:
            pytest.fail(_report(one, left), pytrace=False)
        if one.verdict == BROKEN:
            pytest.xfail("; ".join(accepted.values()))
        if one.verdict == NOT_OBSERVED:
            pytest.skip(f"not observed: {one.why}")

    test.__doc__ = rule.says
    return test


def _report(one: Verdict, findings: Sequence[Finding]) -> str:
    """Return the findings that break a rule, and the code that reproduces them."""
    lines = [f"{one.rule.id} {one.rule.name}: {one.rule.says}"]
    for finding in findings:
        case = case_of(finding.trace)
        lines += ["", f"server: {case} (during {finding.during})", *preconditions(finding)]
        lines += [f"client: {message}" for message in finding.messages]
        if case.scenario:
            lines += ["", f"reproduce: hobbyhorse.arm({json.dumps(case.scenario)})"]
    return "\n".join([*lines, "", f"fix: {one.rule.fix}", f"why: {one.rule.because}"])
