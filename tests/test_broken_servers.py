"""The server suite finds each broken server by its rule, and has no findings for servers that keep the rules."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from hobbyhorse.conformance.judge import PASSED
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract
from tests.broken_servers import films, independent
from tests.broken_servers.bending import KEY, OTHER, Bend, Time, run_suite
from tests.broken_servers.hunt import hunted, judged
from tests.broken_servers.independent import Fake, HiAPI, Vtrix
from tests.broken_servers.mutants import CANCEL, MEDIA, MUTANTS, Mutant, contract_of, short_links, waiting
from tests.broken_servers.page import PAGE, caught, page

FAKES = {"hiapi": HiAPI, "vtrix": Vtrix}
# The share of the rules that an independent fake must pass; the rest need features that it lacks.
LEAST_PASSED = 0.6


def unbent(provider: str, *probes: str, **more: object) -> Mutant:
    return Mutant("", provider, "nothing", lambda contract: Bend(), probes or ("*",), **more)  # type: ignore[arg-type]


GOOD = {
    "hiapi": unbent("hiapi"),
    "runcomfy": unbent("runcomfy"),
    "runcomfy with references": unbent("runcomfy", model=1),
    "runflow": unbent("runflow"),
    "vtrix": unbent("vtrix"),
    "hiapi with links that end": unbent("hiapi", "job", "retention:before", contract=short_links),
    "runcomfy with a queue": unbent("runcomfy", *CANCEL, contract=waiting, pace="realistic"),
    "vtrix with a picture": unbent("vtrix", *MEDIA, picture=films.picture),
}


def findings(result: ServerResult) -> list[str]:
    assert result.unjudged is None
    broken = [f"{one.rule.id}: {breach.message}" for one in result.verdicts for breach in one.breaches]
    return broken + [f"{lesson.rule}: {lesson.message}" for lesson in result.lessons]


def passed(result: ServerResult) -> set[str]:
    return {one.rule.id for one in result.verdicts if one.verdict == PASSED}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_server_is_caught(mutant: Mutant) -> None:
    found = hunted(mutant)
    assert found.caught, f"{mutant.bug}: {found.word}, {found.finding}"


@pytest.mark.parametrize("name", GOOD)
def test_the_unchanged_server_has_no_findings(name: str) -> None:
    assert findings(judged(GOOD[name])) == []


def test_each_way_to_make_a_broken_server_works_without_the_bug() -> None:
    assert "RET-02" in passed(judged(GOOD["hiapi with links that end"]))
    assert {"CNL-01", "CNL-02", "CNL-03"} <= passed(judged(GOOD["runcomfy with a queue"]))
    assert {"MED-05", "MED-06"} <= passed(judged(GOOD["vtrix with a picture"]))


@pytest.mark.parametrize("provider", FAKES)
def test_a_fake_that_shares_no_code_with_ours_has_no_findings(provider: str) -> None:
    time, contract = Time(), contract_of(unbent(provider))
    kind: type[Fake] = FAKES[provider]
    fake = kind(frozenset({KEY, OTHER}), films.good(), DEFAULT_SECRET, time.now, time.sleep)
    fake.films, fake.shaped = films.good, films.plain if provider == "vtrix" else None
    with independent.serving(fake) as url:
        result = run_suite(contract, contract.models[0], url, time)
    assert findings(result) == []
    assert len(passed(result)) > LEAST_PASSED * sum(rule.applies(contract) for rule in server_rules())


def test_the_independent_fakes_import_nothing_of_ours() -> None:
    tree = ast.parse(Path(independent.__file__).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." * node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert not [name for name in names if name.startswith(("hobbyhorse", "tests", "."))]


def test_every_rule_has_a_broken_server() -> None:
    assert {mutant.rule for mutant in MUTANTS} == {rule.id for rule in server_rules()}


def test_the_names_of_the_broken_servers_are_all_different() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.lesson], ids=lambda mutant: mutant.name)
def test_a_lesson_is_a_finding_where_nothing_is_assumed(mutant: Mutant) -> None:
    def certain(contract: Contract) -> Contract:
        return replace(mutant.contract(contract), assumptions=())

    assert hunted(replace(mutant, lesson=False, contract=certain)).caught


def test_the_page_of_the_rules_shows_the_results_of_the_last_run() -> None:
    assert PAGE.read_text() == page(caught())
    assert all(one["caught"] for one in caught().values())
    assert set(caught()) == {mutant.name for mutant in MUTANTS}
