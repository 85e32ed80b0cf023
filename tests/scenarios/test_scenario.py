"""Scenarios as values: read back as written, refused with reasons, checked against contracts; the catalogue."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hobbyhorse.conformance.client.scenario_space import deviations, scenarios
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import CALLBACK, MEDIA
from hobbyhorse.scenarios.fields import Urls, payload_places
from hobbyhorse.scenarios.scenario import (
    Move,
    Scenario,
    ScenarioError,
    Trouble,
    find,
    load_catalogue,
    misfits,
    read_scenario,
)
from tests.conftest import CONTRACTS, ROOT, many
from tests.known_faults import CALLBACK_FAULTS, MEDIA_FAULTS, OPERATION_FAULTS, TIMELINE_FAULTS, unjudged

FILES = sorted((ROOT / "fixtures" / "scenarios").glob("*.json"))
SCHEMA = orjson.loads((ROOT / "fixtures" / "scenario.schema.json").read_bytes())
PAGE = (ROOT / "docs" / "scenarios.md").read_text()
LEAST = 60
URLS = {name: fault.needs.bound for name, fault in OPERATION_FAULTS.items() if isinstance(fault.needs, Urls)}
WORDS = ["why", "moves", "timeline", "move", "submit", "media", "callback", "times", "accepted"]
WORDS += [*OPERATION_FAULTS, *TIMELINE_FAULTS]

words = st.one_of(st.sampled_from(WORDS), st.text(max_size=5))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)),
    max_leaves=12,
)
mappings = st.dictionaries(words, json_values, max_size=3)
near_moves = st.lists(st.builds(lambda name, more: {**more, "move": name}, words, mappings), max_size=2)
near_scenarios = st.fixed_dictionaries(
    {},
    optional={
        "why": json_values,
        "moves": st.dictionaries(st.sampled_from(["submit", "status", MEDIA, CALLBACK]), near_moves, max_size=2),
        "timeline": st.builds(lambda name, more: {**more, "move": name}, st.sampled_from([*TIMELINE_FAULTS]), mappings),
    },
)
"""Values with the outline of a scenario, so that they pass the first checks."""


def refused(written: Any, **how: Any) -> ScenarioError:
    """Return the error that refuses a scenario."""
    with pytest.raises(ScenarioError) as error:
        read_scenario(written, **how)
    return error.value


@settings(max_examples=many(200, 50), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_scenario_is_read_back_as_it_was_written(contract: Contract, data: st.DataObject) -> None:
    read = read_scenario(data.draw(scenarios(contract)))
    assert read_scenario(read.to_json()) == read
    assert read_scenario(orjson.loads(orjson.dumps(read.to_json()))) == read


@settings(max_examples=many(1000, 200))
@given(written=st.one_of(json_values, near_scenarios))
def test_any_value_is_a_scenario_or_refused_with_a_reason(written: Any) -> None:
    try:
        read = read_scenario(written)
    except ScenarioError:
        error = refused(written)
        assert error.code == "invalid_scenario"
        assert error.message
        assert error.hint
        return
    assert read_scenario(read.to_json()) == read
    for contract in CONTRACTS:
        misfits(read, contract)


def test_the_empty_scenario_is_the_happy_server() -> None:
    assert read_scenario({}) == Scenario("inline")
    for contract in CONTRACTS:
        assert misfits(Scenario("inline"), contract) == []


def test_a_scenario_is_read_as_its_file_says() -> None:
    written = {
        "why": "For a test.",
        "moves": {"submit": [{"move": "rate_limited", "times": "always", "retry_after": 3}, {"move": "empty"}]},
        "timeline": {"move": "fail", "code": "X"},
    }
    read = read_scenario(written, "mine")
    assert read.moves == {"submit": (Move("rate_limited", None, False, {"retry_after": 3}), Move("empty"))}
    assert (read.name, read.why, read.timeline) == ("mine", "For a test.", Trouble("fail", {"code": "X"}))
    assert read.to_json() == written
    assert str(read.moves["submit"][0]) == "rate_limited (times always, retry_after 3)"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ([], ["the scenario", "object"]),
        ({"moves": {"sumbit": []}}, ["/moves", "sumbit"]),
        ({"moves": {"submit": [{"move": "latency", "seconds": -1}]}}, ["/moves/submit/0/seconds", "-1"]),
        ({"moves": {"submit": [{}]}}, ["/moves/submit/0/move", "is missing"]),
        ({"moves": {"submit": [{"move": "empty"}, {"move": "latency", "keep": 0.5}]}}, ["/moves/submit/1/keep"]),
        (
            {"moves": {"submit": [{"move": "empty", "keep": 0.5}]}},
            ["'empty' has no option 'keep'", "allowed: accepted, times"],
        ),
        (
            {"moves": {"status": [{"move": "rate_limited", "word": "x"}]}},
            ["retry_after, retry_after_date, retry"],
        ),
        ({"moves": {MEDIA: [{"move": "rate_limited"}]}}, [f"/moves/{MEDIA}/0/move", "'rate_limited'", "zero_bytes"]),
        ({"moves": {CALLBACK: [{"move": "empty"}]}}, [f"/moves/{CALLBACK}/0/move", "'empty'", "lost"]),
        ({"timeline": {"move": "explode"}}, ["/timeline/move", "explode", "stuck"]),
        ({"timeline": {"move": "stuck", "seconds": 3}}, ["/timeline/seconds", "allowed: stage, last"]),
    ],
)
def test_a_refusal_names_the_place_and_the_allowed_values(written: Any, words: list[str]) -> None:
    error = refused(written, where="mine.json")
    assert error.message.startswith("mine.json: ")
    assert [word for word in words if word not in str(error)] == [], str(error)
    assert not refused(written).message.startswith("mine.json")


def test_an_unknown_name_is_refused_with_the_three_nearest() -> None:
    with pytest.raises(ScenarioError, match=r"there is no scenario 'submit_rate_limted'") as error:
        find(load_catalogue(), "submit_rate_limted")
    nearest = error.value.hint.removeprefix("the nearest are ").split(", ")
    assert len(nearest) == 3
    assert nearest[0] == "submit_rate_limited"
    assert error.value.code == "unknown_scenario"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"moves": {"status": [{"move": "rate_limted"}]}}, ["no situation 'rate_limted'", "rate_limited"]),
        ({"moves": {"status": [{"move": "missing_field", "value": "moon"}]}}, ["no response has the value 'moon'"]),
        ({"moves": {"list": [{"move": "null_field"}]}}, []),
        ({"moves": {"submit": [{"move": "error_envelope", "situation": "x"}]}}, ["no situation 'x'; it has"]),
        ({"moves": {"submit": [{"move": "regress"}]}}, ["never shows a job in its first stage again"]),
        ({"moves": {"submit": [{"move": "private_links"}]}}, ["no response has a URL", "such as 'video_url'"]),
        ({"timeline": {"move": "stuck", "stage": "moon"}}, ["no stage 'moon' to stuck in; allowed: "]),
        ({"timeline": {"move": "fail", "stage": "moon"}}, ["no stage 'moon' to fail in; allowed: "]),
    ],
)
def test_the_reason_why_a_scenario_does_not_apply_is_returned(
    contract: Contract, written: Any, words: list[str]
) -> None:
    found = misfits(read_scenario(written), contract)
    assert found
    assert all(line.startswith(contract.key) and "\n" not in line for line in found)
    assert [word for word in words if word not in found[0]] == [], found


def test_a_scenario_applies_only_to_contracts_with_its_roles_fields_and_stages(contract: Contract) -> None:
    for role in ("run", "result", "cancel", "list", "models", "health"):
        fits = misfits(read_scenario({"moves": {role: [{"move": "empty"}]}}), contract) == []
        assert fits == (role in contract.operations)
    callbacks = contract.callbacks
    for kind in CALLBACK_FAULTS:
        fits = misfits(read_scenario({"moves": {CALLBACK: [{"move": kind}]}}), contract) == []
        signature = callbacks.signature if callbacks else None
        needs: dict[str, object] = {"forged": signature, "unsigned": signature}
        needs["stale"] = needs["signature_time"] = signature and signature.tolerance
        needs["null_payload"] = callbacks and payload_places(callbacks)
        assert fits == bool(needs.get(kind, callbacks)), kind
    for role, operation in contract.operations.items():
        for kind, names in URLS.items():
            fits = misfits(read_scenario({"moves": {role: [{"move": kind}]}}), contract) == []
            assert fits == any(operation.bindings[name].response for name in names if name in operation.bindings)
    for kind, ending in {"fail": "failure", "cancel": "cancelled", "expire": "expired"}.items():
        fits = misfits(read_scenario({"timeline": {"move": kind}}), contract) == []
        assert fits == any(stage.kind == ending for stage in contract.graph)
    assert misfits(read_scenario({"moves": {"status": [{"move": "null_field"}]}}), contract) == []
    shows = next(name for name, found in contract.operations["status"].situations.items() if found.status < 300)
    (why,) = misfits(read_scenario({"moves": {"status": [{"move": shows}]}}), contract)
    assert "shows a job" in why


def test_a_directory_adds_and_replaces_scenarios(tmp_path: Path) -> None:
    ours = load_catalogue()
    name = next(iter(ours))
    (tmp_path / f"{name}.json").write_text('{"timeline": {"move": "slow"}}')
    (tmp_path / "aaa.json").write_text("{}")
    both = load_catalogue([tmp_path])
    assert both.keys() == {*ours, "aaa"}
    assert both[name] == Scenario(name, timeline=Trouble("slow"))
    assert both["aaa"] == Scenario("aaa")
    assert list(both) == sorted(both)
    assert {key for key in ours if both[key] != ours[key]} == {name}


@pytest.mark.parametrize(
    ("text", "words"), [("{", "cannot be read as JSON"), ('{"moves": 1}', "/moves"), ("\xff", "cannot be read")]
)
def test_a_broken_file_in_a_directory_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ScenarioError) as error:
        load_catalogue([tmp_path])
    assert error.value.code == "invalid_scenario"
    assert error.value.message.startswith(f"{path}: ")
    assert words in error.value.message


def test_a_path_that_is_not_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="nowhere' is not a directory; give a directory of NAME"):
        load_catalogue([tmp_path / "nowhere"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_of_the_catalogue_is_well_formed_has_a_reason_and_applies(path: Path) -> None:
    written = orjson.loads(path.read_bytes())
    jsonschema.Draft202012Validator(SCHEMA).validate(written)
    scenario = load_catalogue()[path.stem]
    assert re.fullmatch(r"[A-Z0-9][^.!?]*\.", scenario.why), scenario.why
    assert scenario.to_json() == written
    assert [contract.key for contract in CONTRACTS if not misfits(scenario, contract)]
    assert re.fullmatch(r"[a-z0-9_]+", path.stem)


def test_the_catalogue_is_the_folder_and_large_enough() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert list(load_catalogue()) == [path.stem for path in FILES]
    assert len(FILES) >= LEAST
    differing = {orjson.dumps(scenario.to_json() | {"why": ""}) for scenario in load_catalogue().values()}
    assert len(differing) == len(FILES)


def test_the_catalogue_has_every_kind_of_move() -> None:
    met = {role: set[str]() for role in (MEDIA, CALLBACK, "")}
    for scenario in load_catalogue().values():
        for role, moves in scenario.moves.items():
            met[role if role in met else ""] |= {move.kind for move in moves}
    assert unjudged(MEDIA_FAULTS) <= met[MEDIA]
    assert unjudged(CALLBACK_FAULTS) <= met[CALLBACK]
    assert unjudged(OPERATION_FAULTS) <= met[""]
    some = {scenario.timeline.kind for scenario in load_catalogue().values() if scenario.timeline}
    possible = {
        written["timeline"]["move"] for found in CONTRACTS for written in deviations(found) if "timeline" in written
    }
    assert some == possible


def test_the_page_has_every_role_and_code_and_its_example_is_a_scenario() -> None:
    for role in SCHEMA["properties"]["moves"]["propertyNames"]["enum"]:
        assert f"`{role}`" in PAGE
    for code in ("unknown_scenario", "invalid_scenario", "not_applicable", "too_many"):
        assert f"| `{code}` |" in PAGE
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    scenario = read_scenario(orjson.loads(example))
    assert [contract for contract in CONTRACTS if not misfits(scenario, contract)]


def test_the_allowed_values_are_named_in_full() -> None:
    with pytest.raises(ScenarioError, match=r'"sumbit" is not one of "submit", .*"media", "callback"'):
        read_scenario({"moves": {"sumbit": []}})
    with pytest.raises(ScenarioError, match='0 is less than the minimum of 1 and "always" was expected'):
        read_scenario({"moves": {"submit": [{"move": "latency", "times": 0}]}})


@pytest.mark.parametrize("role", ["status", "media"])
def test_a_page_cannot_have_a_status_that_has_no_body(role: str) -> None:
    for status in (204, 205, 304):
        with pytest.raises(ScenarioError, match=rf"/moves/{role}/0/status: .*{status} has no body") as refused:
            read_scenario({"moves": {role: [{"move": "html_page", "status": status}]}})
        assert refused.value.code == "invalid_scenario"
    assert read_scenario({"moves": {role: [{"move": "html_page", "status": 502}]}}).moves[role]


def test_a_scenario_that_does_not_fit_names_all_its_reasons() -> None:
    contract = next(one for one in CONTRACTS if one.callbacks is None and "cancel" not in one.operations)
    moves = {"callback": [{"move": next(iter(CALLBACK_FAULTS))}], "cancel": [{"move": "empty"}]}
    found = misfits(read_scenario({"moves": moves}), contract)
    assert len(found) == 2
    assert "sends no callbacks" in found[0]
    assert "has no operation 'cancel'" in found[1]


def test_a_byte_order_mark_before_a_scenario_is_no_part_of_it(tmp_path: Path) -> None:
    text = b'{"moves": {"submit": [{"move": "rate_limited"}]}}'
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + text)
    assert load_catalogue([tmp_path])["marked"].moves
