"""Mutants of correct clients: the plan, the hunt and the page; and the stored results keep their bound and recur."""

from __future__ import annotations

import os
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.client_mutation import __main__ as driver
from tests.client_mutation import plan
from tests.client_mutation.hunt import EQUIVALENT, FOUND, SURVIVED, UNTESTABLE, in_child, judged, mutant_recurs, recurs
from tests.client_mutation.page import BY_HAND, LEAST_SCORE, MOST_BY_HAND, PAGE, RESULTS, counts, page, score
from tests.client_mutation.plan import (
    BY_PATH,
    CLIENTS,
    LEFT_OUT,
    CorrectClient,
    client_mutants,
    left_out,
    other_numbers,
)
from tests.conftest import NIGHT, ROOT
from tests.mutation.page import change, stored
from tests.mutation.plan import Mutant

# Fewer stored results would say little about ten clients.
LEAST_MUTANTS = 150
# By day, a tenth of the stored results is compared with new ones: half a minute on two cores.
SHARE_BY_DAY, SEED = 0.1, 7
# Runs of the small client: without faults, and with a job that never ends. It has many bugs in further ones.
FEW = 2

# Small, but right in the first runs of the suite.
TINY = """
import time
import uuid
import httpx

def generate(base_url, api_key, request):
    headers = {"Authorization": f"Bearer {api_key}"}
    deadline = time.monotonic() + 700
    with httpx.Client(headers=headers, timeout=20, trust_env=False) as http:
        told = http.post(f"{base_url}/v1/tasks", json=request, headers={"Idempotency-Key": uuid.uuid4().hex}).json()
        job = told["data"]["taskId"]
        while time.monotonic() < deadline:
            time.sleep(5)
            task = http.get(f"{base_url}/v1/tasks/{job}").json()["data"]
            if task["status"] == "success":
                return httpx.get(task["output"][0]["url"], trust_env=False).content
    raise TimeoutError(f"job {job} is still running")
"""


# With this change it sends its key along when it downloads the video.
DOWNLOAD, WITH_KEY = 'httpx.get(task["output"][0]["url"], trust_env=False)', 'http.get(task["output"][0]["url"])'
BROKEN_TINY = TINY.replace(DOWNLOAD, WITH_KEY)


@dataclass(frozen=True, slots=True)
class Written(Mutant):
    """A mutant with a source that is written by hand."""

    text: str

    def source(self) -> str:
        return self.text


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Mutant]:
    """Return a function that makes a mutant of the small client, for which few runs are enough."""
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    monkeypatch.setitem(BY_PATH, str(path), CorrectClient(str(path), "generate", "hiapi"))
    monkeypatch.setattr(driver, "judged", partial(judged, runs=FEW))

    def mutant(old: str, new: str) -> Mutant:
        assert TINY.count(old) == 1
        return Written(str(path), 1, "ByHand", 0, "key", TINY.replace(old, new))

    return mutant


# ---- the plan


def keys_in(path: Path, source: str) -> dict[str, str]:
    """Return the keys of the statements and keywords of a source that are left out, by the mutated source."""
    path.write_text(textwrap.dedent(source))
    return {one.source(): one.key for one in left_out(CorrectClient(str(path), "f", "hiapi"))}


def test_each_operator_makes_sources_that_compile_and_keys_that_identify() -> None:
    client = min(CLIENTS, key=lambda one: len((ROOT / one.path).read_text()))
    found = client_mutants(client)
    assert max(Counter(one.key for one in found).values()) == 1
    by_operator = {one.operator: one for one in found}
    assert {"LeaveOutStatement", "LeaveOutKeyword", "ReplaceNumber"} <= set(by_operator)
    assert not [name for name in by_operator if any(word in name for word in LEFT_OUT)]
    original = (ROOT / client.path).read_text()
    for one in by_operator.values():
        compile(one.source(), one.path, "exec")
        assert one.source() != original
        assert " → " in change(one) or one.operator == "LeaveOutStatement"


def test_a_statement_becomes_pass_and_a_keyword_goes_with_its_comma(tmp_path: Path) -> None:
    found = keys_in(
        tmp_path / "client.py",
        '''\
        import os

        def f(one):
            """Do it."""
            text = "é" + str(one)
            os.getenv(
                key=text,
                default="x",
            )
            return dict(a=one, b=text)
        ''',
    )
    texts = list(found)
    assert any("    pass\n    os.getenv" in text for text in texts)
    assert any('    text = "é" + str(one)\n    pass\n    return' in text for text in texts)
    assert any(text.endswith(")\n    pass\n") for text in texts)
    assert any("dict( b=text)" in text for text in texts)
    assert any("dict(a=one, )" in text for text in texts)
    assert any('        \n        default="x",\n' in text for text in texts)
    # Neither the docstring nor the import is left out.
    assert all('"""Do it."""' in text and "import os" in text for text in texts)
    assert len(texts) == 7


def test_a_large_number_or_a_fraction_is_scaled_and_a_small_one_moves_by_one(tmp_path: Path) -> None:
    assert [other_numbers(one) for one in (0, 9, 10, 404)] == [(1, -1), (10, 8), (1000, 0), (40400, 4)]
    assert other_numbers(2.5) == (250.0, 0.025)
    texts = keys_in(tmp_path / "client.py", "WAIT = 10.0\nFLAG = True\nprint(f'{1 + 2}')\n")
    assert {text.partition("\n")[0] for text in texts} == {"WAIT = 1000.0", "WAIT = 0.1", "WAIT = 10.0", "pass"}
    assert all(text.splitlines()[1] in ("FLAG = True", "pass") for text in texts), "a truth value is no number"


def test_a_small_number_that_scales_changes_by_a_factor(tmp_path: Path) -> None:
    assert [other_numbers(one, scales=True) for one in (0, 2, 10)] == [(100, -100), (200, 0), (1000, 0)]
    lines = ("TRIES = 5", "wait = 2**n", "wait = n * 3", "wait = uniform(1, n)", "size = n + 8", "kinds[:4]")
    for line in lines:
        texts = [text.strip() for text in keys_in(tmp_path / "client.py", line + "\n")]
        number = next(one for one in re.findall(r"\d", line))
        scaled = {line.replace(number, str(other)) for other in other_numbers(int(number), line in lines[:4])}
        assert scaled <= set(texts)


def test_a_number_that_scales_changes_no_key_of_another(tmp_path: Path) -> None:
    plain, scaling = (keys_in(tmp_path / "client.py", f"x = 1 + 2\ny = 3 {sign} 4\n") for sign in "+*")
    kept = {key for text, key in plain.items() if "3 + 4" in text}
    assert kept <= set(scaling.values())
    assert len(set(plain.values()) & set(scaling.values())) == len(kept)


def test_keys_change_only_with_their_definition(tmp_path: Path) -> None:
    first = "def f():\n    print(a)\n    print(a)\n\n"
    second = "def g():\n    return b\n"
    before = list(keys_in(tmp_path / "client.py", first + second).values())
    assert len(set(before)) == 3
    after = list(
        keys_in(tmp_path / "client.py", "x = 1\n" + first.replace("print(a)\n\n", "print(c)\n\n") + second).values()
    )
    assert set(before) & set(after) == {before[2]}
    moved = list(keys_in(tmp_path / "client.py", second + "\n\n" + first).values())
    assert set(moved) == set(before)


def test_every_replaced_exception_can_be_replaced() -> None:
    client = next(one for one in CLIENTS if "http.client.HTTPException)" in (ROOT / one.path).read_text())
    found = [one for one in client_mutants(client) if "ExceptionReplacer" in one.operator]
    assert found
    for one in found:
        assert one.source() != (ROOT / one.path).read_text()


def test_the_main_part_of_a_client_is_not_changed() -> None:
    client = next(one for one in CLIENTS if "def main" in (ROOT / one.path).read_text())
    lines = (ROOT / client.path).read_text().splitlines()
    start = next(number for number, line in enumerate(lines, 1) if line.startswith("def main"))
    end = next(
        number for number, line in enumerate(lines[start:], start + 1) if line and not line.startswith((" ", ")"))
    )
    assert not [one for one in client_mutants(client) if start <= one.line < end]


# ---- the hunt


def test_a_mutant_that_breaks_a_rule_is_found(tiny: Callable[[str, str], Mutant]) -> None:
    found = driver.result(tiny(DOWNLOAD, WITH_KEY))
    assert found["result"] == FOUND
    assert found["rules"] == ["SEC-01"]
    assert found["runs"] <= FEW


def test_a_mutant_that_does_the_same_is_equivalent_and_one_that_does_not_survives(
    tiny: Callable[[str, str], Mutant],
) -> None:
    assert driver.result(tiny("import httpx\n", "import httpx\nUNUSED = 1\n")) == {"result": EQUIVALENT}
    survived = driver.result(tiny("time.sleep(5)", "time.sleep(6)"))
    assert survived["result"] == SURVIVED


def test_a_mutant_that_gets_no_video_cannot_be_tested(tiny: Callable[[str, str], Mutant]) -> None:
    found = driver.result(tiny("deadline = time.monotonic() + 700", "raise ValueError"))
    assert (found["result"], found["why"][:30]) == (UNTESTABLE, "the client submitted no job; i")
    assert driver.result(tiny("import time\n", "import nothing_of_this_name\n"))["result"] == UNTESTABLE


def test_an_unchanged_client_that_is_accused_stops_the_hunt(
    tiny: Callable[[str, str], Mutant], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = tiny("time.sleep(5)", "time.sleep(6)")
    Path(mutant.path).write_text(BROKEN_TINY)
    with pytest.raises(RuntimeError, match="SEC-01"):
        driver.original(mutant.path)


def test_rules_that_are_listed_for_a_client_are_not_counted_in_its_mutants(
    tiny: Callable[[str, str], Mutant], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = tiny(DOWNLOAD, WITH_KEY)
    monkeypatch.setattr(plan, "_listed", lambda: {Path(mutant.path).name: {"SEC-01": "It sends its key."}})
    assert driver.result(mutant)["result"] == SURVIVED


def test_a_known_rule_is_ignored_and_a_child_may_go_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "client.py"
    path.write_text(BROKEN_TINY)
    assert in_child(f"{path}:generate", "hiapi", FEW, ["SEC-01"])["result"] == SURVIVED
    whole = in_child(f"{path}:generate", "hiapi", FEW, None)
    assert (whole["result"], whole["runs"] >= FEW) == (FOUND, True)
    # What is stored is enough to show the finding again, and the correct client does not show it.
    assert whole["finding"]["rule"] == "SEC-01"
    assert recurs(f"{path}:generate", whole["finding"])
    path.write_text(TINY)
    assert not recurs(f"{path}:generate", whole["finding"])


# ---- the page


RESULT: Mapping[str, Any] = {"path": "a/b.py", "line": 3, "operator": "x", "change": "a | b → c"}
TABLE = {
    "1": {**RESULT, "result": FOUND, "rules": ["SUB-01"]},
    "2": {**RESULT, "result": FOUND, "rules": ["SUB-01"]},
    "3": {**RESULT, "result": SURVIVED},
    "4": {**RESULT, "result": SURVIVED},
    "5": {**RESULT, "result": EQUIVALENT},
    "6": {**RESULT, "result": UNTESTABLE, "why": "no end"},
}


def test_survivors_lower_the_score_and_also_those_that_are_listed_by_hand() -> None:
    assert score(TABLE, {}) == 2 / 4
    assert score(TABLE, {"3": "a message"}) == 2 / 4
    assert score({key: one for key, one in TABLE.items() if one["result"] != SURVIVED}, {}) == 1
    assert score({}, {}) == 0
    assert counts(TABLE, {"3": "a message"}) == {FOUND: 2, SURVIVED: 1, "listed": 1, EQUIVALENT: 1, UNTESTABLE: 1}


def test_the_page_shows_the_counts_and_each_survivor() -> None:
    text = page(TABLE, {"3": "it changes a message"})
    for row in (
        "| found by a rule | 2 |",
        "| survived |",
        "| survived, but listed with a reason | 1 |",
        "Score: 0.500",
    ):
        assert row in text
    assert "| b.py:3 | `a ∣ b → c` | it changes a message |" in text
    assert "| b.py:3 | `a ∣ b → c` | not found yet |" in text


def test_an_entry_keeps_what_the_page_and_a_repetition_need() -> None:
    mutant = client_mutants(min(CLIENTS, key=lambda one: len((ROOT / one.path).read_text())))[0]
    found = driver.entry(
        mutant, {"result": FOUND, "rules": ["SUB-01"], "runs": 3, "said": {"SUB-01": "it did"}, "finding": {}}
    )
    assert found == {
        "path": mutant.path,
        "line": mutant.line,
        "operator": mutant.operator,
        "change": change(mutant),
        "result": FOUND,
        "rules": ["SUB-01"],
        "runs": 3,
        "finding": {},
    }


# ---- the stored results

hunted = pytest.mark.skipif(not RESULTS.exists(), reason="no hunt is stored yet: run `make mutation-clients`")


@hunted
def test_the_stored_score_keeps_its_bound() -> None:
    results = stored(RESULTS)
    assert len(results) >= LEAST_MUTANTS
    assert score(results, stored(BY_HAND)) >= LEAST_SCORE


@hunted
def test_few_survivors_are_listed_by_hand_each_with_a_reason() -> None:
    results, by_hand = stored(RESULTS), stored(BY_HAND)
    assert len(by_hand) <= MOST_BY_HAND * len(results)
    assert [key for key in by_hand if results.get(key, {}).get("result") != SURVIVED] == []
    assert all(str(why).strip() for why in by_hand.values())


@hunted
def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(stored(RESULTS), stored(BY_HAND)), "run `make mutation-clients`"


def chosen(results: Mapping[str, Any], night: bool) -> dict[str, Any]:
    """Return the stored results to compare with new ones: all at night, else a tenth, of those that were found."""
    if night:
        return dict(results)
    keys = [key for key, one in sorted(results.items()) if "finding" in one]
    return {key: results[key] for key in Random(SEED).sample(keys, min(len(keys), round(SHARE_BY_DAY * len(results))))}


def differences(results: Mapping[str, Any], mutants: Iterable[Mutant], jobs: int, night: bool) -> list[str]:
    """Run mutants again; return a line for each with another result than the stored one.

    By day, the suite tries the test case of the stored finding first: a search for it takes several times as long.
    """

    def result(mutant: Mutant) -> dict[str, Any]:
        old: dict[str, Any] = results[mutant.key]
        known = not night and mutant_recurs(BY_PATH[mutant.path], mutant.source(), old["finding"])
        return old if known else driver.result(mutant)

    wanted = [one for one in mutants if one.key in results]
    with ThreadPoolExecutor(jobs) as pool:
        again = list(pool.map(result, wanted))
    found = []
    for mutant, new in zip(wanted, again, strict=True):
        old = results[mutant.key]
        if new["result"] != old["result"] or not same_rules(old, new):
            found.append(f"{mutant.path}:{mutant.line} {old['change']}: stored {old}, now {new}")
    return found


def same_rules(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two results name a rule in common, if they name any."""
    return not old.get("rules") or bool(set(old["rules"]) & set(new.get("rules", ())))


def test_a_tenth_of_the_mutants_is_chosen_by_day_and_always_the_same() -> None:
    found, lost = {**RESULT, "result": FOUND, "finding": {}}, {**RESULT, "result": SURVIVED}
    many = {str(number): found if number % 2 else lost for number in range(200)}
    few = chosen(many, night=False)
    assert few == chosen(many, night=False)
    assert len(few) == 20
    assert all(one["result"] == FOUND for one in few.values())
    assert chosen(many, night=True) == many


@pytest.mark.parametrize("night", [True, False])
def test_a_result_that_differs_from_the_stored_one_is_noticed(night: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = Written(CLIENTS[0].path, 1, "ByHand", 0, "1", "")
    table = {mutant.key: {**RESULT, "result": FOUND, "rules": ["SUB-01"], "finding": {}}}
    monkeypatch.setattr("tests.test_client_mutation.mutant_recurs", lambda *_: False)
    for new, is_same in (
        ({"result": FOUND, "rules": ["SUB-01", "SUB-02"]}, True),
        ({"result": FOUND, "rules": ["SUB-02"]}, False),
        ({"result": SURVIVED}, False),
    ):
        monkeypatch.setattr(driver, "result", lambda mutant, new=new: new)
        assert (differences(table, [mutant], 1, night) == []) is is_same


def test_a_mutant_that_shows_its_finding_again_needs_no_search_by_day(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = Written(CLIENTS[0].path, 1, "ByHand", 0, "1", "")
    table = {mutant.key: {**RESULT, "result": FOUND, "rules": ["SUB-01"], "finding": {}}}
    monkeypatch.setattr("tests.test_client_mutation.mutant_recurs", lambda *_: True)
    monkeypatch.setattr(driver, "result", lambda mutant: {"result": SURVIVED})
    assert differences(table, [mutant], 1, night=False) == []
    assert len(differences(table, [mutant], 1, night=True)) == 1


@hunted
def test_the_stored_results_recur() -> None:
    results = chosen(stored(RESULTS), NIGHT)
    clients = [client for client in CLIENTS if any(one["path"] == client.path for one in results.values())]
    mutants = [mutant for client in clients for mutant in client_mutants(client)]
    # A client that has changed since the hunt has other mutants: the table is too old.
    assert set(results) <= {mutant.key for mutant in mutants}, "run `make mutation-clients`"
    assert differences(results, mutants, os.cpu_count() or 1, NIGHT) == []
