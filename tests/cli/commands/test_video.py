"""`hobbyhorse video`: the same options give the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.media.probe import probe
from tests.conftest import Done, Run

IMAGE = data_directory("fixtures") / "images" / "landscape.jpg"


def test_the_same_options_give_the_same_bytes(tmp_path: Path, run: Run) -> None:
    options = ("--image", IMAGE, "--prompt", "x", "--duration", 1, "--resolution", "720p", "--watermark")
    for name in ("one.mp4", "two.mp4"):
        done = run("video", *options, "--seed", 7, "--out", tmp_path / name)
        assert done == Done(0, f"{tmp_path / name}\n", "")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert probe(tmp_path / "one.mp4").frames == 24


@pytest.mark.parametrize(
    ("images", "task", "is_square"),
    [(0, "text-to-video", True), (1, "image-to-video", False), (2, "reference-to-video", True)],
)
def test_the_number_of_images_decides_the_task_and_a_first_frame_the_ratio(
    images: int, task: str, is_square: bool, tmp_path: Path, run: Run
) -> None:
    options = ("--duration", 1, "--resolution", "720P", "--ratio", "1:1", "--prompt", "a horse")
    assert run("video", *options, *("--image", IMAGE) * images, "--out", tmp_path / "x.mp4").status == 0
    facts = probe(tmp_path / "x.mp4")
    assert (facts.width == facts.height) is is_square
    assert f"{task}, 720P, 1 s, seed 0".encode() in (tmp_path / "x.mp4").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "{tmp}/nowhere/x.mp4"], "nowhere"),
        (["--out", "{tmp}/x.mp4", "--image", "{tmp}/nothing.png"], "nothing.png"),
        (["--out", "{tmp}/x.mp4", "--image", "{tmp}/file"], ""),
        (["--out", "{tmp}/x.mp4", "--resolution", "4K"], "--resolution is '4K'; allowed: 720P, 1080P"),
        (["--out", "{tmp}/x.mp4", "--ratio", "wide"], "--ratio is 'wide'; allowed: W:H, such as 16:9"),
        (["--out", "{tmp}/x.mp4", "--ratio", "0:1"], "--ratio is '0:1'"),
        (["--out", "{tmp}/x.mp4", "--duration", "0"], "--duration"),
        (["--out", "{tmp}"], ""),
        ([], "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_status_2_and_leaves_no_file(
    options: list[str], words: str, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "file").write_text("not an image")
    done = run("video", *(option.format(tmp=tmp_path) for option in options))
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
