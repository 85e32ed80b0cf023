"""`hobbyhorse conformance client --shard` and `conformance merge`: one search on several machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.sample_clients import BREAKS, PROVIDER
from tests.conftest import Done, Run

pytestmark = pytest.mark.usefixtures("working_directory")


def client(run: Run, *words: object) -> Done:
    return run("conformance", "client", *PROVIDER, "--runs", "60", "--parallel", "1", *words)


def read(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "report.json").read_text())
    return found


def test_the_joined_report_of_the_shards_finds_what_one_search_finds(run: Run, breaks: tuple[str, str]) -> None:
    words = (*breaks, "--rule", BREAKS.rule, "--rule", "PER-01")
    (Path("known.json")).write_text(json.dumps({BREAKS.rule: "known", "POL-01": "gone"}))
    parts = []
    for number in (1, 2):
        parts.append(f"part-{number}")
        done = client(run, *words, "--shard", f"{number}/2", "--report", parts[-1], "--baseline", "known.json")
        assert done.status == 0, "accepted, and neither stale nor required in one shard alone"
    done = run("conformance", "merge", *parts, "--report", "whole")
    assert done.status == 4, "PER-01 was not observed"
    assert run("conformance", "merge", *parts, "--report", "whole", "--allow-not-observed").status == 0
    counts = [read(folder)["summary"]["runs"] for folder in (*parts, "whole")]
    assert counts[2] == counts[0] + counts[1]
    merged = read("whole")
    assert [one["verdict"] for one in merged["rules"]] == ["broken", "not-observed"]
    assert "shard" not in merged["summary"]
    names = {path.name for path in Path("whole", "findings").glob("*.scenario.json")}
    assert f"{BREAKS.rule}.scenario.json" in names
    replay = run("conformance", "replay", f"whole/findings/{BREAKS.rule}.scenario.json", *breaks, "--times", "1")
    assert replay.status == 1, replay.out
    for name in ("index.html", "junit.xml", "report.sarif", "summary.md"):
        assert BREAKS.rule in Path("whole", name).read_text()
    (Path("other.json")).write_text(json.dumps({"SUB-01": "not judged", "PER-01": "not observed"}))
    judged = run("conformance", "merge", *parts, "--report", "whole", "--baseline", "other.json")
    assert judged.status == 1, "the baseline of the command replaces that of the shards"


@pytest.mark.parametrize("shard", ["0/2", "3/2", "two"])
def test_a_shard_that_does_not_exist_is_one_line_and_status_2(shard: str, run: Run, breaks: tuple[str, str]) -> None:
    done = client(run, *breaks, "--shard", shard)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert f"--shard is '{shard}'; allowed: K/N with K from 1 to N, such as 1/4" in line


def test_a_report_that_cannot_be_joined_is_one_line_and_status_2(run: Run) -> None:
    done = run("conformance", "merge", "nowhere", "--report", "whole")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "nowhere/report.json cannot be read: No such file" in line
    assert not Path("whole").exists()


def test_an_endpoint_has_no_shards(run: Run) -> None:
    words = ("--provider", "hiapi", "--base-url", "http://127.0.0.1:1", "--api-key", "k", "--shard", "1/2")
    done = run("conformance", "server", *words)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "--shard is for `conformance client`" in line
