"""The command line, as its user meets it: what each command prints, and the exit status that it leaves."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse import MockServer
from hobbyhorse.clock.clock import Clock
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract
from hobbyhorse.media.mp4 import probe
from hobbyhorse.media.video import VideoError, VideoSpec, film
from hobbyhorse.scenarios.scenario import load_catalogue, misfits
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from hobbyhorse.worlds.limits import Limits
from tests.conftest import CONTRACTS, Done, Run

COMMAND = Path(sys.executable).with_name("hobbyhorse")


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


def test_a_provider_is_found_by_its_name_in_whatever_case_and_guessed_where_it_is_misspelt(run: Run) -> None:
    assert run("env", CONTRACTS[0].key.upper()).out == run("env", CONTRACTS[0].key).out
    done = run("env", CONTRACTS[0].key[:-1])
    assert done.status == 2
    assert f"{CONTRACTS[0].key}?" in done.err


def test_a_providers_name_shows_everything_of_it(contract: Contract, run: Run) -> None:
    done = run("providers", contract.key)
    assert (done.status, done.err) == (0, "")
    for operation in contract.operations.values():
        assert f"{operation.method} {operation.path}" in done.out
        for name, situation in operation.situations.items():
            assert f"{name} {situation.status}" in done.out
    if contract.idempotency.mode != "none":
        assert f"{contract.idempotency.mode} (Idempotency-Key, for " in done.out
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


@pytest.mark.parametrize("command", ["providers", "env", "demo", "scenarios --provider"])
def test_an_unknown_provider_is_one_line_that_names_those_there_are(command: str, run: Run) -> None:
    done = run(*command.split(), "nobody")
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


COMMANDS = ("serve", "demo", "providers", "scenarios", "env", "health", "video", "probe", "contracts")


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


# ---- scenarios


def test_scenarios_are_listed_with_the_providers_that_they_fit_and_the_bug_that_they_stand_for(run: Run) -> None:
    done = run("scenarios")
    assert (done.status, done.err) == (0, "")
    rows = {line.split()[0]: line for line in done.out.splitlines() if line.strip()}
    catalogue = load_catalogue()
    assert len(catalogue) >= 60
    for name, scenario in catalogue.items():
        fits = [contract.key for contract in CONTRACTS if not misfits(scenario, contract)]
        assert fits
        assert rows[name].split() == [name, *", ".join(fits).split(), *scenario.why.split()]


def test_the_list_of_scenarios_is_the_control_planes(run: Run) -> None:
    with MockServer() as server:
        headers = {"authorization": "Bearer k"}
        listed = httpx.get(f"{server.url}/_mock/scenarios", headers=headers, trust_env=False).json()
    done = run("scenarios", "--json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out) == listed


def test_with_a_provider_only_what_fits_it_is_listed(contract: Contract, run: Run) -> None:
    done = run("scenarios", "--provider", contract.key, "--json")
    listed = json.loads(done.out)["scenarios"]
    fitting = [name for name, scenario in load_catalogue().items() if not misfits(scenario, contract)]
    assert [one["name"] for one in listed] == fitting
    assert all(one["providers"] == [contract.key] for one in listed)


def test_a_scenarios_name_shows_its_json_and_why_a_provider_cannot_play_it(run: Run) -> None:
    catalogue = load_catalogue()
    name = next(name for name, found in catalogue.items() if {bool(misfits(found, one)) for one in CONTRACTS} == {0, 1})
    scenario = catalogue[name]
    done = run("scenarios", name)
    assert (done.status, done.err) == (0, "")
    assert scenario.why in done.out
    before, _, after = done.out.partition("{")
    shown, end = json.JSONDecoder().raw_decode("{" + after)
    assert {"why": scenario.why, **shown} == scenario.to_json()
    for contract in CONTRACTS:
        reasons = misfits(scenario, contract)
        assert f"  {contract.key}: {'; '.join(reasons) or 'fits'}" in done.out.splitlines()
    one = next(contract for contract in CONTRACTS if misfits(scenario, contract))
    found = json.loads(run("scenarios", name, "--json", "--provider", one.key).out)
    assert (found["name"], found["scenario"], found["providers"]) == (name, scenario.to_json(), [])
    assert found["misfits"] == {one.key: misfits(scenario, one)}


def test_an_unknown_scenario_is_one_line_with_the_three_nearest(run: Run) -> None:
    done = run("scenarios", "submit_rate_limted")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "'submit_rate_limted'" in line
    assert "submit_rate_limited" in line
    nearest = line.partition("the nearest are ")[2].partition(";")[0].split(", ")
    assert len(nearest) == 3
    assert set(nearest) <= set(load_catalogue())


def test_scenarios_of_ones_own_are_listed_too_and_a_broken_one_is_told(tmp_path: Path, run: Run) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, name in ((first, "mine"), (second, "yours")):
        directory.mkdir()
        (directory / f"{name}.json").write_text('{"why": "It happened.", "moves": {"submit": [{"move": "empty"}]}}')
    done = run("scenarios", "--json", "--scenarios", first, "--scenarios", second)
    names = [one["name"] for one in json.loads(done.out)["scenarios"]]
    assert {"mine", "yours", *load_catalogue()} == set(names)
    (second / "broken.json").write_text('{"moves": {"submit": [{"move": 7}]}}')
    for command in ("scenarios", "serve"):
        done = run(command, "--scenarios", second)
        assert (done.status, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert str(second / "broken.json") in line
        assert "/moves/submit/0/move" in line
        assert run(command, "--scenarios", tmp_path / "nowhere").status == 2


# ---- health


def test_a_server_that_is_up_is_well(run: Run) -> None:
    with MockServer() as server:
        for url in (server.url, f"{server.url}/"):
            assert run("health", url) == Done(0, f"{url}: ok\n", "")


def test_a_server_with_a_control_key_or_more_than_one_address_is_asked_without_the_key(run: Run) -> None:
    with serving(Fake(options=Options(control_key="secret", loopback=False))) as url:
        assert run("health", url).status == 0
    with serving(Fake(options=Options(loopback=False))) as url:
        assert run("health", url).status == 0


def test_neither_a_proxy_nor_a_redirect_is_followed(
    httpserver: HTTPServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MockServer() as server:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert run("health", server.url).status == 0
        to = {"location": f"{server.url}/_mock/health"}
        httpserver.expect_request("/_mock/health").respond_with_data(status=302, headers=to)
        done = run("health", httpserver.url_for(""))
    assert done.status == 1
    assert "answers 302" in done.err


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "all is well", "not as a server of hobbyhorse"),
        (200, "[]", "not as a server of hobbyhorse"),
        (200, "[" * 4096, "not as a server of hobbyhorse"),
        (200, '{"status": "starting"}', "not as a server of hobbyhorse"),
        (201, '{"status": "ok"}', "answers 201"),
        (503, '{"status": "ok"}', "answers 503"),
        (403, '{"error": {"message": "no", "hint": "say please"}}', "answers 403: no; say please"),
        (500, b"\xff\n\n\xfe", "answers 500"),
    ],
)
def test_another_answer_is_one_line_and_exit_status_1(
    status: int, body: str | bytes, words: str, httpserver: HTTPServer, run: Run
) -> None:
    httpserver.expect_request("/_mock/health").respond_with_data(body, status=status)
    done = run("health", httpserver.url_for(""))
    assert (done.status, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert words in line


@contextmanager
def answering(content: bytes, end: bool) -> Iterator[str]:
    """A server that sends bytes to whoever connects, and then closes the connection or leaves it open."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def answer() -> None:
            connection, _ = listening.accept()
            held.append(connection)
            connection.recv(4096)
            connection.sendall(content)
            if end:
                connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(30)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("content", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_what_is_no_answer_is_one_line_and_exit_status_1(content: bytes, run: Run) -> None:
    with answering(content, end=True) as url:
        done = run("health", url)
    assert (done.status, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith(f"{url}: ")


@pytest.mark.parametrize("content", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"])
def test_a_server_that_is_slower_than_the_timeout_is_not_well(content: bytes, run: Run) -> None:
    with answering(content, end=False) as url:
        done = run("health", url, "--timeout", "0.05")
    assert (done.status, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1, done.err


def test_nobody_who_listens_is_one_line_and_exit_status_1(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    done = run("health", url)
    assert (done.status, done.out) == (1, "")
    assert done.err == f"{url}: Connection refused\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["ftp://x"], ["http://"], ["http://x", "--timeout", "0"], ["http://x", "--timeout", "nan"]],
    ids=" ".join,
)
def test_a_mistake_about_health_is_one_line_and_exit_status_2(arguments: list[str], run: Run) -> None:
    done = run("health", *arguments)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1, done.err


def test_health_imports_little() -> None:
    slow = ["httpx", "starlette", "uvicorn", "rich", "asyncio", "hobbyhorse.server.app"]
    code = (
        "import sys, hobbyhorse.cli.main; sys.argv[1:] = ['health', 'http://127.0.0.1:1']\n"
        "try: hobbyhorse.cli.main.main()\n"
        f"except SystemExit as end: print(end.code, [name for name in {slow} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "1 []\n"


# ---- what serve passes on


@dataclass(frozen=True)
class Passed:
    """What `serve` would have served, and what it would have said."""

    options: Options
    said: str


@pytest.fixture
def passed(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Passed]:
    """Run `serve` up to the moment at which it would serve."""

    def passed(*arguments: object) -> Passed:
        found: list[Options] = []

        def serve(fake: Fake, bound: socket.socket, banner: Callable[[str], None]) -> None:
            with bound:
                banner("http://127.0.0.1:1")
            found.append(fake.options)

        monkeypatch.setattr("hobbyhorse.cli.commands.serve.serve", serve)
        done = run("serve", "--port", 0, *arguments)
        assert (done.status, done.out) == (0, "")
        return Passed(found[0], done.err)

    return passed


def test_limits_are_off_unless_they_are_given(passed: Callable[..., Passed]) -> None:
    assert passed().options.limits == Limits()
    found = passed(
        *("--requests-per-second", 2.5, "--concurrent-jobs", 3, "--workers", 2, "--rivals", 4, "--balance", "1.40")
    )
    assert found.options.limits == Limits(
        requests_per_second=2.5, concurrent_jobs=3, workers=2, rivals=4, balance=Decimal("1.40")
    )


def test_the_clock_runs_at_a_speed_or_stands(passed: Callable[..., Passed]) -> None:
    assert passed().options.make_clock().speed == 1
    assert passed("--speed", 60).options.make_clock().speed == 60
    assert passed("--clock", "manual").options.make_clock().speed == 0


def test_scenarios_and_the_control_key_are_passed_on(passed: Callable[..., Passed], tmp_path: Path) -> None:
    found = passed("--scenarios", tmp_path, "--control-key", "a secret").options
    assert (found.scenarios, found.control_key) == ((tmp_path,), "a secret")
    assert (passed().options.scenarios, passed().options.control_key) == ((), None)


def test_a_scenario_that_no_provider_can_play_is_told_before_the_server_is_ready(
    passed: Callable[..., Passed], tmp_path: Path
) -> None:
    (tmp_path / "good.json").write_text('{"moves": {"submit": [{"move": "rate_limited"}]}}')
    assert "can play" not in passed("--scenarios", tmp_path).said
    (tmp_path / "mistyped.json").write_text('{"moves": {"submit": [{"move": "ratelimited"}]}}')
    (line,) = [line for line in passed("--scenarios", tmp_path).said.splitlines() if "can play" in line]
    assert "no provider can play the scenario 'mistyped'" in line
    assert "the nearest are rate_limited" in line


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("127.0.0.2", True), ("0.0.0.0", False)]
)
def test_the_control_plane_is_told_to_be_off_where_others_reach_it(
    host: str, loopback: bool, passed: Callable[..., Passed]
) -> None:
    found = passed("--host", host)
    assert found.options.loopback is loopback
    assert ("control plane (/_mock) is off" in found.said) is not loopback
    assert "control plane" not in passed("--host", host, "--control-key", "secret").said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--requests-per-second", "0"], "--requests-per-second 0.0; it is a number greater than 0"),
        (["--requests-per-second", "nan"], "--requests-per-second nan"),
        (["--concurrent-jobs=-1"], "--concurrent-jobs -1; it is a whole number from 0"),
        (["--workers", "0"], "--workers 0; it is a whole number from 1"),
        (["--workers", "1.5"], "'--workers'"),
        (["--rivals=-1"], "--rivals -1; it is a whole number from 0"),
        (["--balance", "much"], "--balance 'much'; it is a sum in USD"),
        (["--balance=-1"], "--balance -1; it is a number from 0"),
        (["--balance", "nan"], "--balance NaN"),
        (["--clock", "sundial"], "--clock 'sundial'; allowed are real, manual"),
        (["--clock", "manual", "--speed", "2"], "--speed 2.0 is for a clock that runs"),
        (["--control-key", ""], "--control-key cannot be sent"),
        (["--control-key", " secret"], "--control-key cannot be sent"),
        (["--control-key", "se\ncret"], "--control-key cannot be sent"),
        (["--control-key", "geheimnisträger"], "--control-key cannot be sent"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_that_serve_cannot_take_is_one_line_and_exit_status_2(
    arguments: list[str], words: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.cli.commands.serve.serve", lambda *_: pytest.fail("the mistake is served"))
    done = run("serve", "--port", 0, *arguments)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert words in line
    assert "secret" not in line


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
        lambda found: found.update({"x-assumed": {"nowhere": next(iter(found["assumptions"]))}}),
        ["/x-assumed/nowhere", "not there"],
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
    assert [line for line in done.out.splitlines() if "not valid JSON" in line] == done.out.splitlines()
    assert all(contract.key in done.out for contract in CONTRACTS)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_directory_without_contracts_is_a_problem(name: str, tmp_path: Path, run: Run) -> None:
    done = run("contracts", "lint", tmp_path / name)
    assert done.status == 1
    assert "contains no contract" in done.out


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


def test_a_demo_shows_every_stage_however_busy_the_machine_is(
    contract: Contract, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second of the real clock is a thousand, as it is for a process that others keep waiting."""
    made = Clock.__init__

    def hasty(clock: Clock, start: float, speed: float = 0.0) -> None:
        made(clock, start, speed, tick=lambda: time.monotonic() * 1_000)

    monkeypatch.setattr("hobbyhorse.clock.clock.Clock.__init__", hasty)
    done = run("demo", contract.key, "--out", tmp_path)
    assert (done.status, done.err) == (0, "")
    if "stage" in contract.operations["status"].bindings:
        for stage in contract.graph.path(contract.graph.initial):
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
    def film(shot: VideoSpec, path: Path) -> None:
        raise VideoError("there is no film in the camera")

    monkeypatch.setattr("hobbyhorse.server.files.renderer.film", film)
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
    monkeypatch.setattr("hobbyhorse.cli.demo_run.MOST_DEMO_SECONDS", 0.2)
    monkeypatch.setattr("hobbyhorse.clock.clock.RealClock.now", lambda clock: 1_767_225_600.0)
    done = run("demo", contract.key, "--out", tmp_path)
    assert done.status == 1
    assert "failed in" in done.out
    assert "not ended" in done.out


def test_a_demo_goes_on_after_a_failure(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = next(contract for contract in CONTRACTS if len(list(documented_jobs(contract))) > 1)
    films = []

    def film_but_the_first(shot: VideoSpec, path: Path) -> None:
        films.append(path)
        if len(films) == 1:
            raise VideoError("there is no film in the camera")
        film(shot, path)

    monkeypatch.setattr("hobbyhorse.server.files.renderer.film", film_but_the_first)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("demo", contract.key, "--out", tmp_path / "videos")
    assert done.status == 1
    assert len(list((tmp_path / "videos").iterdir())) == len(list(documented_jobs(contract))) - 1


def test_a_demo_with_a_bad_contract_is_one_line_and_exit_status_2(tmp_path: Path, run: Run) -> None:
    edit(copy(CONTRACTS[0], tmp_path) / "lifecycle.json", lambda found: found.update(initial="nowhere"))
    done = run("demo", "--contracts", tmp_path, "--out", tmp_path / "videos")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "'nowhere' is not a stage" in line
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
