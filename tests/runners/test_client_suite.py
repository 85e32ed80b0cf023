"""The conformance suite for clients as a pytest class: one test a rule, failing for the rules that a client breaks."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import Plan, Search
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.client_suite import client_suite, examine, importable
from tests.conftest import ROOT
from tests.runners.conftest import CONTRACT as HIAPI
from tests.runners.test_against_fake import naive

# Enough for SUB-01 and SUB-02.
RUNS = 20


def test_the_suite_finds_the_bugs_of_a_naive_client() -> None:
    result = examine(naive, HIAPI, HIAPI.models[0], runs=RUNS)
    found = {one.rule.id for one in result.broken}
    assert {"SUB-01", "SUB-02"} <= found
    assert "SCH-01" not in found


def test_the_same_seed_finds_the_same_bugs_with_the_same_smallest_scenarios() -> None:
    def found(seed: int) -> list[tuple[str, str, tuple[str, ...]]]:
        with FakeSession(HIAPI, HIAPI.models[0], seed) as session:
            search = Search(HIAPI, CallableRunner(session, naive), Plan(12, seed))
            verdicts = search.run("naive", "m").verdicts
        return [
            (one.rule.id, one.verdict, tuple(str(finding.trace.scenario) for finding in one.findings))
            for one in verdicts
        ]

    assert found(3) == found(3)


def test_the_class_has_a_test_for_each_rule_that_applies() -> None:
    suite = client_suite(naive, provider="hiapi", runs=5)
    names = [name for name in vars(suite) if name.startswith("test_")]
    assert "test_SUB_01_no_ambiguous_resend" in names
    assert len(names) == len([rule for rule in rules() if rule.applies(HIAPI)])


@pytest.mark.parametrize(
    "arguments", [{"provider": "nobody"}, {"provider": "hiapi", "model": "x"}, {"provider": "hiapi", "rules": ["X-1"]}]
)
def test_a_class_for_an_unknown_provider_model_or_rule_is_an_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(LookupError):
        client_suite(naive, **arguments)


def test_the_class_fails_for_broken_rules_and_stale_acceptances(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from hobbyhorse import client_suite
        import sys

        sys.path.insert(0, ROOT)

        from tests.runners.test_against_fake import naive

        TestNaive = client_suite(naive, provider="hiapi", runs=20, accepted={"SUB-02": "known", "SCH-01": "stale"})
        """.replace("ROOT", repr(str(ROOT)))
    )
    found = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA")
    found.stdout.fnmatch_lines(["*FAILED*test_SUB_01_no_ambiguous_resend*"])
    found.stdout.fnmatch_lines(["*XFAIL*test_SUB_02_stable_key*known*"])
    found.stdout.fnmatch_lines(["*SCH-01 is accepted (stale) but not broken: remove it from `accepted`*"])
    found.stdout.fnmatch_lines(["*server: submit: *"])


def outcomes(suite: type) -> dict[str, BaseException | None]:
    """Run each test of a class; return its exception by its name, None if it passes."""
    found: dict[str, BaseException | None] = {}
    for name, test in vars(suite).items():
        if name.startswith("test_"):
            try:
                found[name] = test(suite())
            except (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception) as raised:
                found[name] = raised
    return found


def test_an_unobserved_rule_is_skipped_and_a_broken_one_fails_with_code_that_reproduces_it() -> None:
    # PER-01 is about a client that is killed and started again, which a callable cannot be.
    found = outcomes(client_suite(naive, provider="hiapi", runs=RUNS, rules=("SUB-01", "PER-01", "TMO-01")))
    assert len(found) == 3
    assert found["test_TMO_01_has_deadline"] is None
    assert isinstance(found["test_PER_01_resume_not_resubmit"], pytest.skip.Exception)
    failed = found["test_SUB_01_no_ambiguous_resend"]
    assert isinstance(failed, pytest.fail.Exception)
    assert str(failed).startswith("SUB-01 no-ambiguous-resend: ")
    assert "reproduce: hobbyhorse.arm({" in str(failed)
    assert "\nwhy: " in str(failed)


def test_each_test_fails_with_the_reason_if_the_client_gets_no_video_from_a_server_without_faults() -> None:
    def gives_up(base_url: str, api_key: str, request: Any) -> str:
        raise ValueError("no idea")

    found = outcomes(client_suite(gives_up, provider="hiapi", runs=5, rules=("SUB-01", "TMO-01")))
    assert len(found) == 2
    assert all(isinstance(one, pytest.fail.Exception) and "no idea" in str(one) for one in found.values())


def test_a_function_of_a_module_is_importable_and_other_callables_are_not() -> None:
    class Client:
        def generate(self, base_url: str, api_key: str, request: Any) -> bytes:
            return b""

    assert importable(naive) == "tests.runners.test_against_fake:naive"
    assert importable(lambda base_url, api_key, request: b"") is None
    assert importable(Client().generate) is None


def test_an_accepted_operation_of_a_rule_is_expected_to_fail_and_another_one_is_stale() -> None:
    for operation, kind in (("submit", pytest.xfail.Exception), ("download", pytest.fail.Exception)):
        accepted = {f"SUB-01/{operation}": "known"}
        (found,) = outcomes(
            client_suite(naive, provider="hiapi", runs=RUNS, rules=("SUB-01",), accepted=accepted)
        ).values()
        assert isinstance(found, kind), found
        assert "known" in str(found)
    with pytest.raises(LookupError):
        client_suite(naive, provider="hiapi", accepted={"SUB-01/dancing": "known"})
