"""The command line, as its user meets it: what each command prints, and the exit status that it leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest

from hobbyhorse import cli
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.values import Contract
from hobbyhorse.demo import documented_jobs
from hobbyhorse.media.mp4 import probe
from hobbyhorse.media.video import FilmError, Shot, film
from hobbyhorse.signatures import DEFAULT_SECRET
from tests.conftest import CONTRACTS

COMMAND = Path(sys.executable).with_name("hobbyhorse")


@dataclass(frozen=True)
class Done:
    """What a command left."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, on a terminal wide enough to break no line."""
    monkeypatch.setenv("COLUMNS", "10000")

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["hobbyhorse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, printed.out, printed.err)

    return run


def copy(contract: Contract, directory: Path, name: str | None = None) -> Path:
    """Copy a provider's folder into a directory of contracts; return it."""
    folder = directory / (name or contract.key)
    shutil.copytree(data_directory("contracts") / contract.key, folder)
    return folder


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


# ---- showing


def test_providers_shows_a_line_for_each(run: Run) -> None:
    done = run("providers")
    assert (done.status, done.err) == (0, "")
    for contract in CONTRACTS:
        (line,) = [line for line in done.out.splitlines() if line.split()[:1] == [contract.key]]
        for word in (contract.name, contract.idempotency.mode, "signed" if contract.callbacks else "none"):
            assert word in line
        assert all(model.id in done.out for model in contract.models)


def test_a_providers_name_shows_everything_of_it(contract: Contract, run: Run) -> None:
    done = run("providers", contract.key)
    assert (done.status, done.err) == (0, "")
    for operation in contract.operations.values():
        assert f"{operation.method} {operation.path}" in done.out
        for name, situation in operation.situations.items():
            assert f"{name} {situation.status}" in done.out
    for word in (*contract.graph.stages, *contract.hosts, *contract.documents):
        assert word in done.out
    for model in contract.models:
        assert model.id in done.out
        assert all(f"{rate} at {tier}" in done.out for tier, rate in model.price.items())
    for assumption in contract.assumptions:
        assert assumption.why in done.out
        assert all(place in done.out for place in assumption.at)
    for variant in contract.variants:
        assert variant.name in done.out


def test_env_prints_what_a_shell_takes(contract: Contract, run: Run) -> None:
    done = run("env", contract.key, "--url", "http://127.0.0.1:8123/", "--key", "sk 1'\"$HOME`id`\\")
    assert (done.status, done.err) == (0, "")
    names = [line.split("=")[0].removeprefix("export ") for line in done.out.splitlines() if line.startswith("export ")]
    expected = {"BASE_URL": f"http://127.0.0.1:8123/{contract.key}", "API_KEY": "sk 1'\"$HOME`id`\\"}
    shell = subprocess.run(
        ["bash", "-c", 'eval "$1"; shift; for name; do printf "%s\\0" "${!name}"; done', "bash", done.out, *names],
        capture_output=True,
        text=True,
        check=True,
    )
    values = dict(zip(names, shell.stdout.split("\0"), strict=False))
    for name, value in expected.items():
        assert values[f"{contract.key.upper()}_{name}"] == value
    for client in contract.clients:
        for name, text in client.environment.items():
            assert values[name] == text.format(url=expected["BASE_URL"], key=expected["API_KEY"], secret=DEFAULT_SECRET)


@pytest.mark.parametrize("command", ["providers", "env", "demo"])
def test_an_unknown_provider_is_one_line_that_names_those_there_are(command: str, run: Run) -> None:
    done = run(command, "nobody")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("hobbyhorse: ")
    assert all(word in line for word in ("'nobody'", *(contract.key for contract in CONTRACTS)))


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["env"], ["providers", "--nope"], ["contracts"], ["contracts", "nonsense"], []], ids=str
)
def test_a_command_that_is_none_is_one_line_and_exit_status_2(arguments: list[str], run: Run) -> None:
    done = run(*arguments)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1, done.err


COMMANDS = ("serve", "demo", "providers", "env", "video", "probe", "contracts")


def test_help_names_every_command(run: Run) -> None:
    done = run("--help")
    assert (done.status, done.err) == (0, "")
    assert all(command in done.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, run: Run) -> None:
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert "Usage:" in done.out


def test_the_installed_command_is_this_one(run: Run) -> None:
    done = subprocess.run([COMMAND, "env", CONTRACTS[0].key], capture_output=True, text=True, check=False)
    assert Done(done.returncode, done.stdout, done.stderr) == run("env", CONTRACTS[0].key)


# ---- lint


def test_lint_finds_nothing_in_the_projects_contracts(run: Run) -> None:
    done = run("contracts", "lint")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{len(CONTRACTS)} contracts without a problem\n"


MISTAKES: dict[str, tuple[str, Callable[[Any], None], list[str]]] = {
    "a stage that nobody reaches": (
        "lifecycle.json",
        lambda found: found["stages"].update({"lost": {"class": "failure", "next": []}}),
        ["lifecycle.json#/stages/lost", "cannot be reached"],
    ),
    "a keyword that contracts do not use": (
        "openapi.json",
        lambda found: found["components"]["schemas"].update({"Odd": {"not": {}}}),
        ["openapi.json#/components/schemas/Odd/not", "'not'"],
    ),
    "an assumption about nothing": (
        "lifecycle.json",
        lambda found: found["assumptions"].append({"at": ["lifecycle.json#/nowhere"], "why": "It is not there."}),
        ["/assumptions/", "leads nowhere"],
    ),
    "a file that is no object": ("lifecycle.json", lambda found: found.clear(), ["lifecycle.json", "required"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_lint_names_the_file_and_the_place_of_what_is_wrong(
    name: str, contract: Contract, tmp_path: Path, run: Run
) -> None:
    file, change, words = MISTAKES[name]
    edit(copy(contract, tmp_path) / file, change)
    done = run("contracts", "lint", tmp_path)
    assert (done.status, done.err) == (1, "")
    line = next(line for line in done.out.splitlines() if words[0] in line)
    assert str(tmp_path / contract.key) in line
    assert all(word in line for word in words)


def test_lint_names_the_problems_of_every_folder(tmp_path: Path, run: Run) -> None:
    for contract in CONTRACTS:
        (copy(contract, tmp_path) / "lifecycle.json").write_text("{")
    done = run("contracts", "lint", tmp_path)
    assert done.status == 1
    assert [line for line in done.out.splitlines() if "no JSON" in line] == done.out.splitlines()
    assert all(contract.key in done.out for contract in CONTRACTS)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_directory_without_contracts_is_a_problem(name: str, tmp_path: Path, run: Run) -> None:
    done = run("contracts", "lint", tmp_path / name)
    assert done.status == 1
    assert "holds no contract" in done.out


# ---- demo


def test_a_demo_runs_every_documented_job_and_keeps_its_video(contract: Contract, tmp_path: Path, run: Run) -> None:
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


def test_the_demo_of_all_is_the_demo_of_each(tmp_path: Path, run: Run) -> None:
    """By another directory of contracts, so that it is short."""
    for name, contract in zip(("one", "two"), CONTRACTS, strict=False):
        copy(contract, tmp_path / "contracts", name)
    done = run("demo", "--contracts", tmp_path / "contracts", "--out", tmp_path / "videos")
    assert done.status == 0
    jobs = sum(len(list(documented_jobs(contract))) for contract in CONTRACTS[:2])
    assert {path.name.split("-")[0] for path in (tmp_path / "videos").iterdir()} == {"one", "two"}
    assert len(list((tmp_path / "videos").iterdir())) == jobs


def test_a_demo_whose_video_cannot_be_made_says_so_and_ends_with_status_1(
    contract: Contract, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def film(shot: Shot, path: Path) -> None:
        raise FilmError("there is no film in the camera")

    monkeypatch.setattr("hobbyhorse.studio.film", film)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("demo", contract.key, "--out", tmp_path / "videos")
    assert done.status == 1
    assert "failed in" in done.out
    assert done.out.count(" answers ") == len(list(documented_jobs(contract)))
    assert list((tmp_path / "videos").iterdir()) == []


def test_a_demo_whose_job_never_ends_says_so_and_ends_with_status_1(
    contract: Contract, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands, so that every status is the first one for ever."""
    monkeypatch.setattr("hobbyhorse.demo.MOST_SECONDS", 0.2)
    monkeypatch.setattr("hobbyhorse.clock.RealClock.now", lambda clock: 1_767_225_600.0)
    done = run("demo", contract.key, "--out", tmp_path)
    assert done.status == 1
    assert "failed in" in done.out
    assert "not ended" in done.out


def test_a_demo_goes_on_after_a_failure(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = next(contract for contract in CONTRACTS if len(list(documented_jobs(contract))) > 1)
    films = []

    def film_but_the_first(shot: Shot, path: Path) -> None:
        films.append(path)
        if len(films) == 1:
            raise FilmError("there is no film in the camera")
        film(shot, path)

    monkeypatch.setattr("hobbyhorse.studio.film", film_but_the_first)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("demo", contract.key, "--out", tmp_path / "videos")
    assert done.status == 1
    assert len(list((tmp_path / "videos").iterdir())) == len(list(documented_jobs(contract))) - 1


def test_a_demo_with_a_bad_contract_is_one_line_and_exit_status_2(tmp_path: Path, run: Run) -> None:
    edit(copy(CONTRACTS[0], tmp_path) / "lifecycle.json", lambda found: found.update(initial="nowhere"))
    done = run("demo", "--contracts", tmp_path, "--out", tmp_path / "videos")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "'nowhere' is no stage" in line
    assert not (tmp_path / "videos").exists()


def test_a_demo_that_cannot_write_is_one_line_and_exit_status_2(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        done = run("demo", CONTRACTS[0].key, "--out", out)
        assert (done.status, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert str(out) in line


# ---- videos


def test_a_video_is_made_without_a_server_and_the_same_twice(tmp_path: Path, run: Run) -> None:
    picture = data_directory("fixtures") / "images" / "landscape.jpg"
    arguments = ("--image", picture, "--prompt", "x", "--duration", 1, "--resolution", "720p", "--watermark")
    for name in ("one.mp4", "two.mp4"):
        done = run("video", *arguments, "--seed", 7, "--out", tmp_path / name)
        assert done == Done(0, f"{tmp_path / name}\n", "")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert probe(tmp_path / "one.mp4").frames == 24


def test_probe_says_what_is_in_a_video(tmp_path: Path, run: Run) -> None:
    run(
        "video",
        "--prompt",
        "a horse",
        "--duration",
        1,
        "--resolution",
        "720P",
        "--ratio",
        "1:1",
        "--out",
        tmp_path / "x",
    )
    facts = probe(tmp_path / "x")
    done = run("probe", tmp_path / "x")
    assert (done.status, done.err) == (0, "")
    assert dict(line.split(maxsplit=1) for line in done.out.splitlines())["width"] == str(facts.width)
    done = run("probe", tmp_path / "x", "--json")
    assert done.status == 0
    found = json.loads(done.out)
    assert (found["fps"], found["frames"], found["width"], found["height"]) == (24, 24, facts.width, facts.width)


def test_what_is_no_video_is_one_line_and_exit_status_1(tmp_path: Path, run: Run) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video")
    done = run("probe", tmp_path / "x.mp4")
    assert (done.status, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1
    assert str(tmp_path / "x.mp4") in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["video", "--out", "{tmp}/nowhere/x.mp4"],
        ["video", "--out", "{tmp}/x.mp4", "--image", "{tmp}/nothing.png"],
        ["video", "--out", "{tmp}/x.mp4", "--image", "{tmp}/file"],
        ["video", "--out", "{tmp}/x.mp4", "--resolution", "4K"],
        ["video", "--out", "{tmp}/x.mp4", "--ratio", "wide"],
        ["video", "--out", "{tmp}/x.mp4", "--ratio", "0:1"],
        ["video", "--out", "{tmp}/x.mp4", "--duration", "0"],
        ["video", "--out", "{tmp}"],
        ["video"],
        ["probe", "{tmp}/nothing.mp4"],
        ["probe", "{tmp}"],
        ["probe"],
    ],
    ids=" ".join,
)
def test_a_mistake_about_a_video_is_one_line_and_exit_status_2(arguments: list[str], tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("no picture")
    done = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
