"""The example clients: each works without faults, and under the faults that cost money."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hobbyhorse import MockServer
from hobbyhorse.testing.local import MockWorld

ROOT = Path(__file__).resolve().parent.parent / "examples"
# The factor by which the clock of the server runs faster: a job of two minutes takes seconds.
SPEED = 50.0
PICTURE = "https://example.com/horse.png"
FLAT = {"prompt": "run", "image_url": PICTURE, "duration": 3, "seed": 7}
REQUESTS: dict[str, dict[str, Any]] = {
    "hiapi": {
        "model": "happyhorse-1.1/image-to-video",
        "input": {"image_urls": [PICTURE], "duration": 3, "resolution": "720p"},
    },
    "runcomfy": {**FLAT, "resolution": "720P"},
    "runflow": {**FLAT, "resolution": "720p"},
    "vtrix": {
        "model": "happyhorse_1.0_i2v",
        "input": {"prompt": "run", "media": [{"type": "first_frame", "url": PICTURE}]},
        "parameters": {"duration": 3, "resolution": "720P", "seed": 7},
    },
}
CLIENTS = sorted(path.stem for path in (ROOT / "python").glob("*.py"))
POLLERS = [name for name in CLIENTS if not name.endswith("_callbacks")]
CALLED_BACK = [name for name in CLIENTS if name not in POLLERS]
# The most lines of an example. It is one file to copy, and must be readable in one sitting.
LINES = 336
NUMBERS = itertools.count(1)
# Scenarios that end with a video, and the number of submissions on the way.
VIDEO = {
    "happy": 1,
    "submit_rate_limited": 2,
    "status_html_page": 1,
    "status_unknown_job": 1,
    "media_truncate": 1,
    "media_expired": 1,
}
# Scenarios that end without a video, and the error that is raised.
NO_VIDEO = {
    "job_fails": "Failed",
    "submit_invalid_request": "Failed",
    "status_error_envelope": "Lost",
    "media_truncated_always": "Lost",
}
COMMANDS = {
    "hiapi.py": ("hiapi", [sys.executable, "python/hiapi.py"]),
    "runcomfy.py": ("runcomfy", [sys.executable, "python/runcomfy.py"]),
    "runflow_callbacks.py": ("runflow", [sys.executable, "python/runflow_callbacks.py"]),
    "vtrix.py": ("vtrix", [sys.executable, "python/vtrix.py"]),
    "hiapi.mjs": ("hiapi", ["node", "javascript/hiapi.mjs"]),
    "vtrix.sh": ("vtrix", ["bash", "bash/vtrix.sh"]),
    "hiapi.php": ("hiapi", ["php", "php/hiapi.php"]),
    "hiapi.rb": ("hiapi", ["ruby", "ruby/hiapi.rb"]),
}
NEEDS = {
    "hiapi.mjs": ("node",),
    "hiapi.php": ("php",),
    "hiapi.rb": ("ruby",),
    "vtrix.sh": ("bash", "curl", "getent", "sha256sum"),
}


def load(name: str) -> ModuleType:
    """Import a client as its user would: from one file, without modules beside it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "python" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.SPEED = SPEED  # type: ignore[attr-defined]
    return module


MODULES = {name: load(name) for name in CLIENTS}


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(pace="fast", speed=SPEED) as mock:
        yield mock


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def callback_of(server: MockServer) -> SimpleNamespace:
    secret = server.asgi.options.callback_secret
    return SimpleNamespace(url=f"http://127.0.0.1:{free_port()}/done", secret=secret)


def generate(server: MockServer, world: MockWorld, name: str) -> bytes:
    provider = name.partition("_")[0]
    more = {"callback": callback_of(server)} if name.endswith("_callbacks") else {}
    video: bytes = MODULES[name].generate(world.url(provider), world.api_key, REQUESTS[provider], **more)
    return video


def open_world(server: MockServer) -> MockWorld:
    """Open a world with a key that occurs nowhere else, such as in the name of a directory."""
    return server.world(f"key-of-example-{next(NUMBERS)}-only")


def armed(server: MockServer, scenario: str) -> MockWorld:
    world = open_world(server)
    if scenario != "happy":
        world.arm(scenario)
    return world


def count(world: MockWorld, role: str) -> int:
    return sum(exchange.role == role for exchange in world.journal)


@pytest.mark.parametrize(
    ("name", "scenario"),
    [(name, scenario) for name in POLLERS for scenario in VIDEO]
    + [(name, "status_unknown_job") for name in CALLED_BACK],
)
def test_a_client_survives_transient_faults_and_gets_the_video(server: MockServer, name: str, scenario: str) -> None:
    world = armed(server, scenario)
    video = generate(server, world, name)
    assert MODULES[name].is_mp4(video)
    assert count(world, "submit") == VIDEO[scenario]
    assert (world.ledger.billable, list(world.unmet)) == (1, [])
    if scenario == "happy":
        assert count(world, "media") == 1


@pytest.mark.parametrize(
    ("name", "scenario"),
    [(name, scenario) for name in POLLERS for scenario in NO_VIDEO] + [(name, "job_fails") for name in CALLED_BACK],
)
def test_an_error_has_the_right_type_and_the_id_of_the_job(server: MockServer, name: str, scenario: str) -> None:
    world = armed(server, scenario)
    with pytest.raises(MODULES[name].Failed) as raised:
        generate(server, world, name)
    jobs: list[str | None] = [job.id for job in world.jobs]
    assert type(raised.value).__name__ == NO_VIDEO[scenario]
    assert [raised.value.job] == (jobs or [None])
    assert all(str(job) in str(raised.value) for job in jobs)
    assert count(world, "submit") == 1


@pytest.mark.parametrize("scenario", ["submit_accept_then_drop", "submit_malformed_json"])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_lost_response_does_not_buy_a_second_video(server: MockServer, name: str, scenario: str) -> None:
    world = armed(server, scenario)
    if name.startswith("hiapi"):
        assert MODULES[name].is_mp4(generate(server, world, name))
        assert count(world, "submit") == 2
    else:
        with pytest.raises(MODULES[name].Lost):
            generate(server, world, name)
        assert count(world, "submit") == 1
    assert world.ledger.billable == 1


@pytest.mark.parametrize("name", CLIENTS)
def test_the_error_at_the_deadline_has_the_id_of_the_job(
    server: MockServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULES[name], "LONGEST_WAIT", 20.0)
    world = armed(server, "job_stuck_running")
    with pytest.raises(TimeoutError) as raised:
        generate(server, world, name)
    assert world.jobs[0].id in str(raised.value)
    assert count(world, "cancel") == (1 if name == "runcomfy" else 0)


@pytest.mark.parametrize("name", CALLED_BACK)
def test_a_genuine_callback_is_acknowledged_and_a_forged_one_is_not(
    server: MockServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, callback, module = name.partition("_")[0], callback_of(server), MODULES[name]
    for scenario, refusals in (("happy", set[int | None]()), ("callback_forged", {401})):
        world = armed(server, scenario)
        started = (time.time() * SPEED - world.clock.now()) / (SPEED - 1)  # the moment at which both clocks agree
        monkeypatch.setattr(module, "STARTED", started, raising=False)
        with module.listening(callback) as heard:
            note = module.new(world.url(provider), REQUESTS[provider], callback)
            module.collect(world.api_key, note, lambda note: None, heard)
        assert {attempt.status for attempt in world.callbacks if attempt.false} == refusals
        assert {attempt.status for attempt in world.callbacks if not attempt.false} == {204}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_file_that_is_cut_or_of_another_kind_is_not_a_video(server: MockServer, name: str) -> None:
    whole = generate(server, open_world(server), name)
    check = MODULES[name].is_mp4
    assert check(whole)
    assert not any(
        check(data) for data in (b"", whole[:-1], whole[: len(whole) // 2], b"<html></html>", whole + b"more")
    )


@pytest.mark.parametrize("name", CLIENTS)
def test_videos_are_fetched_only_from_public_hosts_and_the_api_host(name: str) -> None:
    public = MODULES[name].public
    home = "http://127.0.0.1:8000/provider"
    assert public("http://127.0.0.1:9000/video.mp4", home)
    assert public("https://8.8.8.8/video.mp4", home)
    refused = [
        "http://127.0.0.2/",
        "http://[::1]/",
        "http://localhost/",
        "http://169.254.169.254/",
        "file:///etc/passwd",
    ]
    refused += [
        "http://10.0.0.1/",
        "http://2130706433/",
        "http://[::ffff:10.0.0.1]/",
        "http://0/",
        "http://[",
        "//x",
        "",
    ]
    assert not [url for url in refused if public(url, home)]


def test_each_example_is_short() -> None:
    files = [path for path in ROOT.rglob("*") if path.suffix in (".py", ".mjs", ".sh", ".go", ".java", ".php", ".rb")]
    # Go and Java spell out what the other languages have in one expression.
    longer = {".go": LINES + 130, ".java": LINES + 130}
    lines = {path: len(path.read_text().splitlines()) for path in files}
    assert not {path.name: n for path, n in lines.items() if n > longer.get(path.suffix, LINES)}
    readme = (ROOT / "README.md").read_text()
    assert not [path.name for path in files if f"/{path.name}]" not in readme]


class Command:
    """An example run as a command, in a directory of its own."""

    def __init__(self, server: MockServer, world: MockWorld, name: str, directory: Path) -> None:
        missing = [program for program in NEEDS.get(name, ()) if shutil.which(program) is None]
        if missing:
            pytest.skip(f"{name} needs {', '.join(missing)}, which this machine does not have")
        self.provider, self.line = COMMANDS[name]
        self.output = directory / "horse.mp4"
        self.note = directory / "horse.mp4.job"
        request = directory / "order.json"
        request.write_text(json.dumps(REQUESTS[self.provider]))
        callback = callback_of(server)
        self.env = {
            **os.environ,
            "HOBBYHORSE_BASE_URL": world.url(self.provider),
            "HOBBYHORSE_API_KEY": world.api_key,
            "HOBBYHORSE_REQUEST": str(request),
            "HOBBYHORSE_OUTPUT": str(self.output),
            "HOBBYHORSE_SPEED": str(SPEED),
            "HOBBYHORSE_CALLBACK_URL": callback.url,
            "HOBBYHORSE_CALLBACK_SECRET": callback.secret,
        }

    def run(self, *more: str, **env: str) -> dict[str, Any]:
        line = [*self.line[:1], str(ROOT / self.line[1]), *more]
        done = subprocess.run(line, env={**self.env, **env}, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        reported: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == (0 if reported["class"] == "success" else 1)
        assert self.output.exists() == (reported["class"] == "success")
        assert self.env["HOBBYHORSE_API_KEY"] not in done.stdout + done.stderr
        return reported


@pytest.mark.parametrize("scenario", ["happy", "media_expired"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_saves_the_video(server: MockServer, name: str, scenario: str, tmp_path: Path) -> None:
    world = armed(server, scenario)
    command = Command(server, world, name, tmp_path)
    reported = command.run()
    assert (reported["job"], reported["class"]) == (world.jobs[0].id, "success")
    assert MODULES["vtrix"].is_mp4(command.output.read_bytes())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["horse.mp4", "order.json"]
    assert (world.ledger.billable, list(world.unmet)) == (1, [])


@pytest.mark.parametrize("scenario", ["job_fails", "submit_invalid_request"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_fails_saves_no_video(server: MockServer, name: str, scenario: str, tmp_path: Path) -> None:
    world = armed(server, scenario)
    command = Command(server, world, name, tmp_path)
    reported = command.run()
    assert reported["class"] == "failed"
    assert reported["job"] == (world.jobs[0].id if world.jobs else None)
    assert not command.note.exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_resumed_job_is_polled_at_the_url_of_its_submission(server: MockServer, name: str, tmp_path: Path) -> None:
    world = open_world(server)
    world.arm({"moves": {"media": [{"move": "truncated", "times": 5}]}})
    command = Command(server, world, name, tmp_path)
    assert command.run()["class"] == "error"
    reported = command.run("--resume", HOBBYHORSE_BASE_URL="http://127.0.0.1:9/nowhere")
    assert (reported["job"], reported["class"]) == (world.jobs[0].id, "success")
    assert (count(world, "submit"), len(world.jobs)) == (1, 1)
    assert not command.note.exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_submission_of_unknown_outcome_is_not_repeated_by_a_resumed_command(
    server: MockServer, name: str, tmp_path: Path
) -> None:
    world = armed(server, "submit_accept_then_drop_three_times")
    command = Command(server, world, name, tmp_path)
    first = command.run()
    if command.provider == "hiapi":
        assert first["class"] == "success"
    else:
        assert (first["class"], command.run("--resume")["class"]) == ("error", "error")
        assert count(world, "submit") == 1
    assert world.ledger.billable == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_resuming_without_a_submission_fails_without_a_request(server: MockServer, name: str, tmp_path: Path) -> None:
    world = open_world(server)
    assert Command(server, world, name, tmp_path).run("--resume")["class"] == "failed"
    assert not world.journal
