"""The stored results of the hunt for mutants of the contracts keep their bound, and some mutants run again."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx
import pytest

from hobbyhorse.contract.forms.signatures import Signature
from hobbyhorse.contract.picture_limits import PictureLimits
from tests.conftest import many
from tests.mutation.page import stored
from tests.server_mutation.__main__ import entry, hunt
from tests.server_mutation.behaviour import signature_changes
from tests.server_mutation.constraints import LOOSER, TIGHTER, keyword_changes, picture_changes
from tests.server_mutation.hunt import CRASHED, FOUND, LESSON, SURVIVED, judged
from tests.server_mutation.in_process import BLOCKING_SECONDS, URL, InProcess, OwnLoop
from tests.server_mutation.messages import each_place, other_type, other_value
from tests.server_mutation.mutant import Mutant
from tests.server_mutation.page import (
    INVISIBLE,
    LEAST_SCORE,
    MOST_LISTED,
    PAGE,
    RESULTS,
    counts,
    page,
    score,
    share_listed,
)
from tests.server_mutation.plan import all_mutants, mutants_of, providers, sample, source
from tests.server_mutation.serving import ManualTime, Served, on_server, run_suite

# A tenth of the usual sample, which takes less than a minute; at night, all of them run.
AGAIN = many(10**6, 25)
# Fewer would say nothing about one of the operators.
LEAST_MUTANTS = 200
# Overlapping requests reach a server in either order, so that a few results differ from run to run.
MOST_DIFFERENT = 0.01


def test_the_stored_score_keeps_its_bound() -> None:
    results, invisible = stored(RESULTS), stored(INVISIBLE)
    assert len(results) >= LEAST_MUTANTS
    assert score(results, invisible) >= LEAST_SCORE
    assert share_listed(results, invisible) <= MOST_LISTED


def test_each_result_is_that_of_a_mutant() -> None:
    assert set(stored(RESULTS)) <= {one.key for one in all_mutants()}, "run `make mutation-servers`"


def test_each_listed_mutant_is_one_that_is_not_found() -> None:
    results = stored(RESULTS)
    assert not [key for key in stored(INVISIBLE) if results[key]["result"] == FOUND]


def test_no_mutant_crashes() -> None:
    assert not [one for one in stored(RESULTS).values() if one["result"] == CRASHED]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(stored(RESULTS), stored(INVISIBLE)), "run `make mutation-servers`"


def test_some_mutants_that_were_found_are_found_again() -> None:
    results = stored(RESULTS)
    known = [one for one in all_mutants() if results.get(one.key, {}).get("result") == FOUND]
    # A mutant that hangs takes several times as long as another one.
    again = sample([one for one in known if one.operator != "hang"], AGAIN, seed=1)[:AGAIN]
    different = [one for one, found in hunt(again, minutes=600, jobs=2) if found["result"] != FOUND]
    assert len(different) <= MOST_DIFFERENT * len(again), different


@pytest.mark.parametrize(
    ("provider", "model"), [(name, n) for name in providers() for n in range(len(source(name).contract.models))]
)
def test_the_unchanged_contract_has_no_findings(provider: str, model: int) -> None:
    contract = source(provider).contract
    result = run_suite(contract, Served(contract, model=model), whole=True)
    said = [f"{one.rule.id}: {breach.message}" for one in result.verdicts for breach in one.breaches]
    assert said + [f"{one.rule}: {one.message}" for one in result.lessons] == []


def test_the_suite_is_stopped_at_the_first_finding() -> None:
    contract = source("vtrix").contract
    submit = contract.operations["submit"]
    refused = replace(submit.situations["unauthenticated"], status=409)
    changed = replace(submit, situations={**submit.situations, "unauthenticated": refused})
    served = Served(replace(contract, operations={**contract.operations, "submit": changed}))
    few, whole = (len(run_suite(contract, served, whole=whole).trace.exchanges) for whole in (False, True))
    assert few < whole / 2


def an_entry(result: str, operator: str = "status", **more: str) -> dict[str, object]:
    where = {"provider": "acme", "operator": operator, "place": "lifecycle.json#/stages/done", "change": "1 → 2"}
    return {**where, "result": result, **more}


def test_a_lesson_counts_only_if_the_fact_is_assumed() -> None:
    results = {"a": an_entry(FOUND), "b": an_entry(LESSON), "c": an_entry(LESSON, assumed="why")}
    assert score(results, {}) == 1 / 2
    assert counts(results, {}, assumed=True) == Counter({LESSON: 1})


def test_a_listed_mutant_lowers_the_score_like_a_survivor() -> None:
    results = {"a": an_entry(FOUND), "b": an_entry(SURVIVED), "c": an_entry(SURVIVED)}
    assert score(results, {"b": "nobody can see it"}) == score(results, {}) == 1 / 3
    assert share_listed(results, {"b": "nobody can see it"}) == 1 / 3


def test_the_page_has_a_row_for_each_mutant_of_a_documented_fact_that_was_not_found() -> None:
    results = {
        "a": an_entry(FOUND, change="found"),
        "b": an_entry(SURVIVED, change="survived"),
        "c": an_entry(LESSON, change="learnt"),
        "d": an_entry(SURVIVED, change="assumed", assumed="why"),
    }
    text = page(results, {"b": "nobody can see it"})
    assert "`stages/done: survived` | survived | nobody can see it |" in text
    assert "`stages/done: learnt` | lesson | not found yet |" in text
    assert "stages/done: found" not in text
    assert "stages/done: assumed" not in text


def test_the_plan_is_the_same_in_each_process_and_has_no_mutant_twice() -> None:
    keys = [one.key for one in all_mutants()]
    assert len(keys) == len(set(keys))
    mutants_of.cache_clear()
    source.cache_clear()
    assert [one.key for one in all_mutants()] == keys


def test_each_mutant_of_a_sample_can_be_served() -> None:
    for mutant in sample(all_mutants(), many(10**6, 300), seed=2):
        assert mutant.make().contract.key == mutant.provider


def test_a_sample_has_each_stratum_and_stays_the_same() -> None:
    few = sample(all_mutants(), 200, seed=1)
    assert few == sample(all_mutants(), 200, seed=1) != sample(all_mutants(), 200, seed=2)
    assert {one.stratum for one in few} == {one.stratum for one in all_mutants()}


def test_a_fact_that_is_assumed_is_marked_with_its_reason() -> None:
    by_change = {one.change: one for one in mutants_of("vtrix").values()}
    assumption = source("vtrix").contract.assumption("lifecycle.json#/job_id")
    assert assumption is not None
    assert by_change['"task_" → ""'].assumed == assumption.why
    assert by_change["duration is ignored"].assumed is None


def test_the_key_of_a_mutant_depends_on_the_fact_alone() -> None:
    one = next(iter(mutants_of("vtrix").values()))
    assert one.key == replace(one, assumed="another reason").key
    assert one.key != replace(one, change="another change").key
    assert entry(one, {"result": FOUND, "rules": ["SHA-01"], "said": "with an id"}) == {
        "provider": one.provider,
        "operator": one.operator,
        "place": one.place,
        "change": one.change,
        **({"assumed": one.assumed} if one.assumed else {}),
        "result": FOUND,
        "rules": ["SHA-01"],
    }


def test_a_server_that_crashes_is_neither_found_nor_a_survivor() -> None:
    def broken() -> Served:
        raise ValueError("no such contract")

    mutant = Mutant("vtrix", "id", "lifecycle.json#", "", None, broken)
    assert judged(mutant) == {"result": CRASHED, "said": "ValueError: no such contract"}


def test_each_keyword_becomes_looser_and_tighter() -> None:
    schema = {"type": "integer", "minimum": 3, "maximum": 15}
    assert set(keyword_changes(schema)) >= {
        (LOOSER, "minimum", 2),
        (TIGHTER, "minimum", 4),
        (TIGHTER, "maximum", 14),
        (LOOSER, "maximum", 16),
    }
    assert [(operator, value) for operator, _, value in keyword_changes({"enum": ["a", "b"]})] == [
        (LOOSER, ["a", "b", "other"]),
        (TIGHTER, ["b"]),
        (TIGHTER, ["a"]),
    ]
    fields = {"type": "object", "required": ["a"], "properties": {"a": {}, "b": {}}}
    assert (LOOSER, "required", []) in list(keyword_changes(fields))
    assert (TIGHTER, "required", ["a", "b"]) in list(keyword_changes(fields))


def test_a_longer_prompt_that_is_cut_is_no_looser_constraint() -> None:
    assert [one[0] for one in keyword_changes({"maxLength": 5}, is_cut=True)] == [TIGHTER]


def test_each_limit_of_a_picture_becomes_looser_and_tighter() -> None:
    changes = list(picture_changes(PictureLimits(("jpeg",), 300, (0.4, 2.5), 1_000)))
    assert {(operator, name) for operator, name, _ in changes} == {
        (operator, name) for operator in (LOOSER, TIGHTER) for name in ("formats", "least_side", "aspect", "most_bytes")
    }
    assert list(picture_changes(PictureLimits(()))) == [(LOOSER, "formats", PictureLimits(("gif",)))]


def test_every_part_of_a_signature_is_changed() -> None:
    how = Signature("hex", "text", "{timestamp}.{body}", {"X-Time": "{timestamp}", "X-Seal": "{signature}"}, 300.0)
    changes = list(signature_changes(how))
    assert {name for name, _, _ in changes} == {
        "headers",
        "content",
        "encoding",
        "secret",
        "headers/X-Time",
        "headers/X-Seal",
    }
    assert how not in [changed for _, _, changed in changes]
    assert len({words for _, words, _ in changes}) == len(changes)


@pytest.mark.parametrize("value", [True, "text", 3, 0.5, {"a": 1}, [1]])
def test_another_type_is_another_type_and_another_value_is_another_value(value: object) -> None:
    assert json.dumps(other_type(value))[0] != json.dumps(value)[0]
    assert other_value(value) != value


def test_each_place_of_a_value_is_found_but_only_the_first_of_a_list() -> None:
    places = each_place({"a": [{"b": 1}, {"c": 2}], "d": None})
    assert list(places) == [("a",), ("a", "0"), ("a", "0", "b"), ("d",)]


def test_the_results_are_written_without_what_changes_from_run_to_run() -> None:
    assert "said" not in {name for one in stored(RESULTS).values() for name in one}


def asked(app: Any, seconds: float = 5.0, moments: ManualTime | None = None) -> httpx.Response:
    """Send one request to an ASGI application in this thread."""
    loop, moments = OwnLoop(), moments or ManualTime()
    try:
        with httpx.Client(transport=InProcess(app, loop, moments.advance), timeout=seconds) as http:
            return http.post(f"{URL}/a%20b?c=d", content=b"body", headers={"X-Name": "value"})
    finally:
        loop.close()


def test_a_request_reaches_an_application_in_the_same_thread() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-made", b"yes")]})
        await send({"type": "http.response.body", "body": b"{}", "more_body": True})
        await send({"type": "http.response.body", "body": b"\n"})

    response = asked(app)
    assert (response.status_code, response.headers["x-made"], response.content) == (201, "yes", b"{}\n")
    assert (seen["method"], seen["path"], seen["query_string"], seen["body"]) == ("POST", "/a b", b"c=d", b"body")
    assert (b"x-name", b"value") in seen["headers"]


def test_an_application_that_hangs_or_crashes_ends_the_request() -> None:
    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def crashes(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("broken")

    with pytest.raises(httpx.ReadTimeout):
        asked(hangs, 0.01)
    with pytest.raises(httpx.ReadError, match="broken"):
        asked(crashes)


def test_time_passes_while_a_request_waits_for_the_end_of_a_job() -> None:
    moments = ManualTime()
    clock = moments.clock()

    async def blocks(scope: Any, receive: Any, send: Any) -> None:
        await clock.sleep_until(clock.now() + 3)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    before = clock.now()
    assert asked(blocks, BLOCKING_SECONDS, moments).status_code == 200
    assert clock.now() - before == pytest.approx(3, abs=0.6)

    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(httpx.ReadTimeout):
        asked(hangs, BLOCKING_SECONDS, moments)


def test_time_stands_still_between_two_pauses_but_no_two_moments_are_equal() -> None:
    moments = ManualTime()
    clocks = [moments.clock(), moments.clock()]
    first, second = moments.now(), moments.now()
    assert first < second < first + 0.001
    moments.sleep(60)
    assert [one.now() for one in clocks] == [clocks[0].now()] * 2
    assert moments.now() - first == pytest.approx(60, abs=0.001)


def test_a_server_with_changed_callbacks_is_served_on_a_socket_and_the_others_are_not() -> None:
    contract = source("hiapi").contract
    with on_server(contract, Served(contract)) as (_, session):
        assert session.endpoint.base_url.startswith(URL)
    bend = next(one for one in mutants_of("hiapi").values() if one.operator == "callback").make().bend
    with on_server(contract, Served(contract, bend)) as (_, session):
        assert not session.endpoint.base_url.startswith(f"{URL}/")
