"""`hobbyhorse probe`: the properties of a video, as lines and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hobbyhorse.media.probe import probe
from tests.conftest import Run


@pytest.fixture
def video(tmp_path: Path, run: Run) -> Path:
    run("video", "--prompt", "a horse", "--duration", 1, "--resolution", "720P", "--out", tmp_path / "x.mp4")
    return tmp_path / "x.mp4"


def test_the_properties_of_a_video_are_lines_or_one_json_object(video: Path, run: Run) -> None:
    facts = probe(video)
    done = run("probe", video)
    assert (done.status, done.err) == (0, "")
    assert dict(line.split(maxsplit=1) for line in done.out.splitlines())["width"] == str(facts.width)
    done = run("probe", video, "--json")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["fps"], found["frames"], found["width"], found["height"]) == (24, 24, facts.width, facts.height)


@pytest.mark.parametrize("whole", [True, False])
def test_an_incomplete_mp4_is_one_line_and_exit_status_1(whole: bool, video: Path, run: Run) -> None:
    data = video.read_bytes()
    video.write_bytes(data if whole else data[: len(data) // 2])
    done = run("probe", video)
    assert done.status == (0 if whole else 1)
    if not whole:
        assert done.out == ""
        (line,) = done.err.splitlines()
        assert line.startswith(f"{video}: ")


@pytest.mark.parametrize("name", ["nothing.mp4", ""])
def test_a_path_that_cannot_be_read_is_one_line_and_exit_status_2(name: str, tmp_path: Path, run: Run) -> None:
    done = run("probe", tmp_path / name)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"hobbyhorse: {tmp_path / name}: ")
