"""`hobbyhorse demo`: each documented job, its video, and the failures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import av
import pytest

from hobbyhorse.clock.clock import Clock
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.values import Contract
from hobbyhorse.media.probe import probe
from hobbyhorse.media.video import VideoError, VideoSpec, film
from tests.cli.contract_copies import copy, edit
from tests.conftest import CONTRACTS, Run


def test_every_documented_job_is_run_and_its_video_is_saved(contract: Contract, tmp_path: Path, run: Run) -> None:
    done = run("demo", contract.key, "--out", tmp_path / "new" / "videos")
    assert (done.status, done.err) == (0, "")
    videos = sorted((tmp_path / "new" / "videos").iterdir())
    assert len(videos) == len(list(documented_jobs(contract)))
    for path in videos:
        assert str(path) in done.out
        assert not probe(path).disagreements
        with av.open(str(path)) as video:
            assert sum(1 for _ in video.decode(video=0)) == probe(path).frames
            assert video.streams.video[0].average_rate == 24
    for stage in contract.graph.path(contract.graph.initial):
        if "stage" in contract.operations["status"].bindings:
            assert "stages" in done.out
            assert stage in done.out


def test_every_stage_is_shown_on_a_busy_machine(
    contract: Contract, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real clock runs 1,000 times as fast, as it seems to do for a process that does not get the processor."""
    original = Clock.__init__

    def fast(clock: Clock, start: float, speed: float = 0.0, tick: Any = None) -> None:
        original(clock, start, speed, tick=lambda: time.monotonic() * 1_000)

    monkeypatch.setattr("hobbyhorse.clock.clock.Clock.__init__", fast)
    done = run("demo", contract.key, "--out", tmp_path)
    assert (done.status, done.err) == (0, "")
    if "stage" in contract.operations["status"].bindings:
        for stage in contract.graph.path(contract.graph.initial):
            assert stage in done.out


def test_without_a_name_every_provider_is_run(tmp_path: Path, run: Run) -> None:
    """With a directory of two contracts, to keep the test short."""
    for name, contract in zip(("one", "two"), CONTRACTS, strict=False):
        copy(contract, tmp_path / "contracts", name)
    done = run("demo", "--contracts", tmp_path / "contracts", "--out", tmp_path / "videos")
    assert done.status == 0
    jobs = sum(len(list(documented_jobs(contract))) for contract in CONTRACTS[:2])
    assert {path.name.split("-")[0] for path in (tmp_path / "videos").iterdir()} == {"one", "two"}
    assert len(list((tmp_path / "videos").iterdir())) == jobs


def test_a_video_that_cannot_be_rendered_is_exit_status_1(
    contract: Contract, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def film(shot: VideoSpec, path: Path) -> None:
        raise VideoError("the disk is full")

    monkeypatch.setattr("hobbyhorse.server.files.renderer.film", film)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("demo", contract.key, "--out", tmp_path / "videos")
    assert done.status == 1
    assert "failed in" in done.out
    assert done.out.count(" returned ") == len(list(documented_jobs(contract)))
    assert list((tmp_path / "videos").iterdir()) == []


def test_a_job_that_never_ends_is_exit_status_1(
    contract: Contract, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands still, so that the job stays in its first stage."""
    monkeypatch.setattr("hobbyhorse.cli.demo_run.MOST_JOB_SECONDS", 0.2)
    monkeypatch.setattr("hobbyhorse.clock.clock.RealClock.now", lambda clock: 1_767_225_600.0)
    done = run("demo", contract.key, "--out", tmp_path)
    assert done.status == 1
    assert "failed in" in done.out
    assert "not ended" in done.out


def test_the_other_jobs_are_run_after_a_failure(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = next(contract for contract in CONTRACTS if len(list(documented_jobs(contract))) > 1)
    rendered = []

    def fail_once(shot: VideoSpec, path: Path) -> None:
        rendered.append(path)
        if len(rendered) == 1:
            raise VideoError("the disk is full")
        film(shot, path)

    monkeypatch.setattr("hobbyhorse.server.files.renderer.film", fail_once)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("demo", contract.key, "--out", tmp_path / "videos")
    assert done.status == 1
    assert len(list((tmp_path / "videos").iterdir())) == len(list(documented_jobs(contract))) - 1


def test_an_invalid_contract_is_one_line_and_exit_status_2(tmp_path: Path, run: Run) -> None:
    edit(copy(CONTRACTS[0], tmp_path) / "lifecycle.json", lambda found: found.update(initial="nowhere"))
    done = run("demo", "--contracts", tmp_path, "--out", tmp_path / "videos")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "'nowhere'" in line
    assert not (tmp_path / "videos").exists()


def test_a_directory_that_cannot_be_created_is_one_line_and_exit_status_2(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        done = run("demo", CONTRACTS[0].key, "--out", out)
        assert (done.status, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert str(out) in line
