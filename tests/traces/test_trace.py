"""The format of traces: they are read back equal, match their schema, and anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.traces.trace import (
    OUTCOMES,
    Delivery,
    Exchange,
    Outcome,
    Run,
    Trace,
    TracedJob,
    TraceError,
    Video,
    read_trace,
    to_json,
    written_fields,
)

SCHEMA = json.loads((data_directory("fixtures") / "trace.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

moments = st.floats(0, 2e9)
maybe = st.none() | moments
words = st.text(max_size=8)
headers = st.lists(st.tuples(words, words), max_size=3).map(tuple)
kinds = {"genuine", "forged", "stale", "unsigned", "unknown_job"}
stages = st.sampled_from(["pending", "running", "success", "failure", "cancelled", "expired"])
plain = st.dictionaries(words, st.integers() | words | st.booleans(), max_size=3)
exchanges = st.builds(
    Exchange,
    arrived=moments,
    role=st.none() | words,
    method=words,
    url=words,
    headers=headers,
    body=st.binary(max_size=9),
    status=st.integers(0, 599),
    answer_headers=headers,
    answer=st.binary(max_size=9),
    answered=maybe,
    whole=st.booleans(),
    size=st.integers(0, 9),
    **dict.fromkeys(("job", "made", "situation", "move", "probe", "expected"), st.none() | words),
)
deliveries = st.builds(
    Delivery,
    moments,
    st.none() | words,
    st.integers(0, 9),
    st.binary(max_size=9),
    headers,
    maybe,
    st.none() | st.integers(100, 599),
    st.none() | words,
    st.sampled_from(sorted(kinds)),
    words,
)
outcomes = st.builds(
    Outcome,
    st.sampled_from(OUTCOMES),
    moments,
    st.booleans(),
    st.none() | words,
    stuck=st.booleans(),
    reasons=st.none() | st.lists(words, max_size=3).map(tuple),
)
runs = st.builds(Run, moments, words, st.none() | plain, st.none() | outcomes, st.booleans())
jobs = st.builds(TracedJob, words, moments, stages, st.booleans(), st.none() | words)
videos = st.builds(Video, st.none() | words, words, plain, st.none() | words)


def some(one: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(one, max_size=3).map(tuple)


traces = st.builds(
    Trace,
    words,
    words,
    some(exchanges),
    some(deliveries),
    some(runs),
    st.none() | some(jobs),
    moments,
    st.none() | words,
    st.dictionaries(words, words, max_size=2),
    words,
    st.integers(0, 9),
    plain,
    some(words),
    some(videos),
    st.none() | words,
)


@given(traces)
def test_a_trace_is_read_back_equal_and_matches_its_schema(trace: Trace) -> None:
    written = json.loads(json.dumps(to_json(trace)))
    VALIDATOR.validate(written)
    assert read_trace(written) == trace


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Trace, None), (Exchange, "exchange"), (Delivery, "delivery"), (Run, "run"), (Outcome, "outcome")],
)
def test_the_schema_names_every_field(kind: Any, name: str | None) -> None:
    properties = set((SCHEMA["$defs"][name] if name else SCHEMA)["properties"])
    assert properties - {"format"} == {field.name for field in written_fields(kind)}


def test_what_only_a_journal_knows_is_neither_written_nor_read() -> None:
    known = Exchange(
        arrived=1.0, role=None, method="GET", url="u", number=7, raw_headers=((b"cookie", b"hush"),), notes=("why",)
    )
    written = to_json(Trace("p", "b", (known,)))
    assert written["exchanges"] == [{"arrived": 1.0, "role": None, "method": "GET", "url": "u"}]
    with pytest.raises(TraceError, match="/exchanges/0/number: unknown"):
        read_trace({**written, "exchanges": [{**written["exchanges"][0], "number": 7}]})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "'format' is 'list'; allowed: 1"),
        ({"format": 2}, "'format' is 2; allowed: 1"),
        ({"format": 1, "provider": "p"}, "base"),
        ({"format": 1, "provider": "p", "base": "b", "more": 1}, "/more: unknown"),
        ({"format": 1, "provider": "p", "base": "b", "exchanges": {}}, "/exchanges: {} is not a list"),
        ({"format": 1, "provider": "p", "base": "b", "exchanges": [1]}, "/exchanges/0: 1 is not an object"),
        ({"format": 1, "provider": "p", "base": "b", "exchanges": [{"arrived": 1}]}, "/exchanges/0"),
        ({"format": 1, "provider": "p", "base": "b", "runs": [{"started": 1, "base": "b", "outcome": 5}]}, "outcome"),
        (
            {
                "format": 1,
                "provider": "p",
                "base": "b",
                "runs": [{"started": 1, "base": "b", "outcome": {"kind": "?"}}],
            },
            "/runs/0/outcome",
        ),
        (
            {
                "format": 1,
                "provider": "p",
                "base": "b",
                "exchanges": [{"arrived": 1, "role": None, "method": "GET", "url": "u", "body": {"base64": "%"}}],
            },
            "/exchanges/0/body",
        ),
    ],
)
def test_an_error_in_a_trace_has_its_place(value: Any, reason: str) -> None:
    with pytest.raises(TraceError) as raised:
        read_trace(value)
    assert reason in str(raised.value)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(value)


def test_an_outcome_has_a_known_kind() -> None:
    with pytest.raises(TraceError, match="the outcome is 'fine'; allowed: success, failed"):
        Outcome("fine", 1.0)
