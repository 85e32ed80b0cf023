"""`hobbyhorse conformance judge`: recordings judged without a server, and files that are not recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.traces.trace import to_json
from tests.broken_clients.mutants import load
from tests.cli.sample_clients import BREAKS, HIAPI, LOST_RESPONSE, PROVIDER
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("working_directory")


@pytest.mark.parametrize(("source", "status"), [(BREAKS.working, 0), (BREAKS.source, 1)])
def test_a_trace_is_judged_without_a_server(source: str, status: int, run: Run, tmp_path: Path) -> None:
    with FakeSession(HIAPI, HIAPI.models[0]) as session:
        trace = CallableRunner(session, load("judged", source)).run(Case(LOST_RESPONSE))
    (tmp_path / "trace.json").write_text(json.dumps(to_json(trace)))
    done = run("conformance", "judge", "trace.json", *PROVIDER)
    assert done.status == status, done.out
    assert (f"\n{BREAKS.rule} " in done.out) is bool(status)
    as_json = run("conformance", "judge", "trace.json", *PROVIDER, "--json")
    assert as_json.status == status
    broken = [one["id"] for one in json.loads(as_json.out)["rules"] if one["verdict"] == "broken"]
    assert (BREAKS.rule in broken) is bool(status)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "file: No such file"),
        ("{", ""),
        ("[]", "neither a HAR file"),
        ("{}", "neither a HAR file"),
        ('{"format": "x"}', "neither a HAR file nor a trace: $"),
        ('{"log": {}}', ""),
        ('{"log": {"version": "1.2", "entries": []}}', ""),
    ],
)
def test_a_file_that_cannot_be_judged_is_one_line_and_exit_status_2(
    content: str | None, message: str, run: Run, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "file").write_text(content)
    done = run("conformance", "judge", "file", *PROVIDER)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "file" in line
    assert message in line


def test_a_long_schema_error_is_cut(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text(
        json.dumps({"format": 1, "provider": "hiapi", "base": "", "exchanges": "x" * 100_000})
    )
    done = run("conformance", "judge", "trace.json", *PROVIDER)
    assert done.status == 2
    assert "neither a HAR file nor a trace: $.exchanges: 'xxx" in done.err
    assert len(done.err) < 1_000
