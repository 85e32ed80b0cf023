"""The server as a process: started, used over its socket, and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hobbyhorse.cli import main as cli
from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.values import Contract
from hobbyhorse.media.probe import probe
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.front.authority import own_certificates
from hobbyhorse.server.run import _config, serving
from tests.conftest import CONTRACTS
from tests.world import ContractClient, documented

COMMAND = Path(sys.executable).with_name("hobbyhorse")
PATIENCE = 30.0
KEY = "a-key"


@dataclass
class Served:
    """A running `hobbyhorse serve`, and the first line that it printed."""

    process: subprocess.Popen[str]
    line: str

    @property
    def url(self) -> str:
        return str(json.loads(self.line)["url"])

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit status and the output after the first line."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def served(*options: str, env: dict[str, str] | None = None) -> Iterator[Served]:
    """Start `hobbyhorse serve` on a free port; kill it if it does not end by itself."""
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    deadline = threading.Timer(PATIENCE, process.kill)
    deadline.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        deadline.cancel()
        assert line, process.communicate()[1]
        yield Served(process, line)
    finally:
        deadline.cancel()
        process.kill()
        process.communicate()


@contextmanager
def talking(contract: Contract, url: str, key: str | None = KEY) -> Iterator[ContractClient]:
    """Yield a client of one provider of a server."""
    with httpx.Client(trust_env=False, timeout=PATIENCE) as http:
        yield ContractClient(contract, f"{url}/{contract.key}", key, http)


def submit(client: ContractClient) -> str:
    """Submit the documented job; return its id."""
    _, model, body = documented(client.contract)
    reply = client.submit(model.id, body)
    assert "accepted" in reply.reading.situations, reply.content
    return str(reply.reading.values["job"])


def find_video(client: ContractClient, job: str) -> str:
    """Return the URL of the video of a job that has ended."""
    role = "result" if "result" in client.contract.operations else "status"
    return str(client.call(role, path={"job": job}).reading.values["video_url"])


# ---- starting and stopping


def test_it_prints_one_json_line_when_it_is_ready_and_its_banner_on_stderr() -> None:
    with served() as server:
        ready = json.loads(server.line)
        assert set(ready) == {"url", "pid", "ui"}
        assert ready["ui"] == f"{ready['url']}/_mock/ui"
        assert ready["pid"] == server.process.pid
        response = httpx.get(server.url, trust_env=False)
        assert response.json()["providers"] == {contract.key: f"{server.url}/{contract.key}" for contract in CONTRACTS}
        status, out, err = server.stop()
    assert (status, out) == (0, "")
    assert "Traceback" not in err
    for contract in CONTRACTS:
        assert f"{ready['url']}/{contract.key}" in err
        assert contract.hosts[0] in err


def connect(url: str) -> socket.socket:
    """Open a connection to a server."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE)


HOLDING = [contract for contract in CONTRACTS if "run" in contract.operations]


def hold(contract: Contract, url: str) -> socket.socket:
    """Send a `run` that takes minutes; return its connection once the server has read the request."""
    operation, model, body = next(found for found in documented_jobs(contract) if found[0].role == "run")
    parts = urlsplit(url)
    path = operation.path
    for place in operation.bindings["model"].request:
        path = path.replace("{" + place.name + "}", model.id)
    content = json.dumps(body).encode()
    lines = (
        f"POST /{contract.key}{path} HTTP/1.1",
        f"host: {parts.netloc}",
        f"authorization: Bearer {KEY}",
        "content-type: application/json",
        f"content-length: {len(content)}",
        "expect: 100-continue",
    )
    connection = connect(url)
    connection.sendall("\r\n".join((*lines, "", "")).encode())
    assert connection.recv(1024).startswith(b"HTTP/1.1 100 ")
    connection.sendall(content)
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_with_status_0_whatever_is_open(number: int) -> None:
    """Open are an idle connection, half a request, and a job that holds its connection."""
    with served("--pace", "realistic") as server, httpx.Client(trust_env=False) as kept_alive, ExitStack() as stack:
        kept_alive.get(server.url)
        half = stack.enter_context(connect(server.url))
        half.sendall(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-le")
        held = [stack.enter_context(hold(contract, server.url)) for contract in HOLDING]
        kept_alive.get(server.url)
        status, out, err = server.stop(number)
        assert (status, out) == (0, "")
        assert "Traceback" not in err
        for connection in (half, *held):
            with suppress(ConnectionError):
                assert b"HTTP/1.1 200" not in connection.recv(65_536)


def test_a_second_signal_ends_it_too() -> None:
    with served("--pace", "realistic") as server, ExitStack() as stack:
        for contract in HOLDING:
            stack.enter_context(hold(contract, server.url))
        server.process.send_signal(signal.SIGINT)
        status, _, _ = server.stop(signal.SIGINT)
        assert status == 0


def test_nothing_is_left_in_the_temporary_directory_and_the_videos_in_the_cache(tmp_path: Path) -> None:
    contract, temporary, cache = CONTRACTS[0], tmp_path / "temporary", tmp_path / "cache"
    temporary.mkdir()
    options = ("--pace", "instant", "--cache", str(cache))
    with served(*options, env={"TMPDIR": str(temporary)}) as server, talking(contract, server.url) as client:
        video = httpx.get(find_video(client, submit(client)), trust_env=False, timeout=PATIENCE)
        assert probe(video.content).frames > 0
        assert list(temporary.iterdir()), "nothing is kept there; this test would see nothing"
        assert server.stop()[0] == 0
    assert list(temporary.iterdir()) == []
    assert [path.read_bytes() for path in cache.rglob("*.mp4")] == [video.content]


# ---- mistakes of a user


def copy(contract: Contract, directory: Path, name: str | None = None) -> Path:
    """Copy a provider's folder into a directory of contracts."""
    folder = directory / (name or contract.key)
    shutil.copytree(data_directory("contracts") / contract.key, folder)
    return folder


@dataclass(frozen=True)
class Mistake:
    """Invalid arguments of `serve`, and words of the error line."""

    arguments: Sequence[str]
    words: Sequence[str]


MISTAKES = {
    "an unknown option": Mistake(["--nope"], ["--nope"]),
    "an unknown pace": Mistake(["--pace", "leisurely"], ["'leisurely'", "instant", "fast", "realistic"]),
    "a speed of zero": Mistake(["--speed", "0"], ["--speed is 0.0", "greater than 0"]),
    "a negative speed": Mistake(["--speed=-1"], ["--speed is -1.0"]),
    "a speed that is not a number": Mistake(["--speed", "nan"], ["--speed is nan"]),
    "an endless speed": Mistake(["--speed", "inf"], ["--speed is inf"]),
    "a speed in words": Mistake(["--speed", "quick"], ["--speed"]),
    "a port that is none": Mistake(["--port", "70000"], ["--port", "65535"]),
    "an empty key": Mistake(["--api-key", ""], ["--api-key", "blank"]),
    "a blank key": Mistake(["--api-key", "right", "--api-key", "  "], ["--api-key", "blank"]),
    "a variant of nobody": Mistake(["--variant", "nobody:x"], ["'nobody'", CONTRACTS[0].key]),
    "a variant without a provider": Mistake(["--variant", "x"], ["'x'", "PROVIDER:NAME"]),
    "an unknown variant": Mistake(["--variant", f"{CONTRACTS[0].key}:nope"], ["'nope'"]),
    "a public address without a scheme": Mistake(["--public-url", "mock.test"], ["'mock.test'", "http://"]),
    "an address that is not ours": Mistake(["--host", "203.0.113.1"], ["203.0.113.1"]),
    "a port in use": Mistake(["--port", "{port}"], ["{port}", "--port 0"]),
    "no directory of contracts": Mistake(["--contracts", "{tmp}/nowhere"], ["nowhere", "no contract"]),
    "a contract that is not JSON": Mistake(
        ["--contracts", "{tmp}/garbled"], ["garbled", "lifecycle.json", "valid JSON"]
    ),
    "a contract with a mistake": Mistake(["--contracts", "{tmp}/mistaken"], ["mistaken", "unknown stage", "'nowhere'"]),
}


@pytest.fixture(scope="module")
def bad_contracts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with directories of invalid contracts."""
    directory = tmp_path_factory.mktemp("bad")
    garbled = copy(CONTRACTS[0], directory / "garbled")
    (garbled / "lifecycle.json").write_text('{"name": ')
    mistaken = copy(CONTRACTS[0], directory / "mistaken") / "lifecycle.json"
    lifecycle = json.loads(mistaken.read_text())
    mistaken.write_text(json.dumps({**lifecycle, "initial": "nowhere"}))
    return directory


@pytest.fixture
def mistaken(name: str, bad_contracts: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The arguments of a mistake, and the words of its error line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = {"port": str(taken.getsockname()[1]), "tmp": str(bad_contracts)}
        mistake = MISTAKES[name]
        yield (
            ["serve", "--port", "0", *(argument.format(**said) for argument in mistake.arguments)],
            [word.format(**said) for word in mistake.words],
        )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_on_stderr_and_exit_status_2(
    mistaken: tuple[list[str], list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, words = mistaken
    monkeypatch.setattr("hobbyhorse.cli.commands.serve.serve", lambda *_: pytest.fail("the mistake is served"))
    monkeypatch.setattr(sys, "argv", ["hobbyhorse", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert printed.err.startswith("hobbyhorse: ")
    assert len(printed.err.splitlines()) == 1, printed.err
    for word in words:
        assert word in printed.err


@pytest.mark.parametrize("name", ["an unknown option", "a port in use", "a contract with a mistake"])
def test_a_mistake_ends_the_process_with_one_line_on_stderr_and_exit_status_2(
    mistaken: tuple[list[str], list[str]],
) -> None:
    arguments, words = mistaken
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


# ---- options


def test_with_api_keys_every_other_key_is_refused() -> None:
    with served("--api-key", "first", "--api-key", "second") as server:
        for contract in CONTRACTS:
            for key, welcome in (("first", True), ("second", True), ("third", False), (None, False)):
                with talking(contract, server.url, key) as client:
                    _, model, body = documented(contract)
                    reply = client.submit(model.id, body)
                    assert ("accepted" in reply.reading.situations) is welcome
                    assert (reply.status < 300) is welcome


def test_a_variant_changes_the_response() -> None:
    """With the variant, a missing key is refused with 401."""
    contract = next(contract for contract in CONTRACTS if contract.key == "runcomfy")
    operation, model, body = documented(contract)
    with served("--variant", "runcomfy:unauthenticated-401") as server, talking(contract, server.url, None) as client:
        assert client.submit(model.id, body).status == 401
    assert operation.situations["unauthenticated"].status == 400


def test_with_a_public_url_every_link_names_it() -> None:
    with served("--public-url", "https://mock.example/base", "--pace", "instant") as server:
        for contract in CONTRACTS:
            with talking(contract, server.url) as client:
                assert find_video(client, submit(client)).startswith("https://mock.example/base/media/")


def test_with_a_directory_of_contracts_only_those_are_served(tmp_path: Path) -> None:
    copy(CONTRACTS[0], tmp_path, "acme")
    with served("--contracts", str(tmp_path)) as server:
        assert list(httpx.get(server.url, trust_env=False).json()["providers"]) == ["acme"]
        assert httpx.get(f"{server.url}/{CONTRACTS[0].key}/v1", trust_env=False).status_code == 404


def test_a_greater_speed_ends_a_realistic_job_immediately() -> None:
    with served("--pace", "realistic", "--speed", "1e8") as server:
        for contract in CONTRACTS:
            with talking(contract, server.url) as client:
                reply = client.call("status", path={"job": submit(client)})
                assert {contract.graph[stage].terminal for stage in reply.reading.stages} == {True}


def test_the_same_seed_gives_the_same_jobs_in_any_process_with_other_ids() -> None:
    contract = next(contract for contract in CONTRACTS if contract.job_id_form == "uuid4")

    def jobs(url: str) -> tuple[list[str], list[float]]:
        with talking(contract, url) as client:
            ids = [submit(client) for _ in range(3)]
            headers = {"Authorization": f"Bearer {KEY}"}
            found = httpx.get(f"{url}/_mock/jobs", headers=headers, trust_env=False).json()["jobs"]
            return ids, [round(job["timeline"][-1]["at"] - job["timeline"][0]["at"], 3) for job in found]

    ids, durations = [], []
    for _ in range(2):
        with served("--seed", "7") as server:
            made, lasted = jobs(server.url)
        ids += made
        durations.append(lasted)
    assert len(set(ids)) == 6, "a client that keeps its ids must not meet one again"
    assert durations[0] == durations[1]
    with serving(Fake(options=Options(seed=7))) as same, serving(Fake(options=Options(seed=7))) as again:
        assert jobs(same)[0] == jobs(again)[0]
    with serving(Fake(options=Options(seed=8))) as other:
        assert jobs(other)[1] != durations[0]


def test_it_listens_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    with served("--host", "::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert httpx.get(server.url, trust_env=False).json()["providers"]["hiapi"] == f"{server.url}/hiapi"


# ---- invalid requests


NO_REQUESTS = (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\x00" * 70_000, b"GET / HTTP/9.9\r\n\r\n")


def test_bytes_that_are_not_a_request_break_nothing() -> None:
    with served() as server:
        for data in NO_REQUESTS:
            with connect(server.url) as connection, suppress(ConnectionError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                assert b" 200 " not in connection.recv(65_536)
            assert httpx.get(server.url, trust_env=False).status_code == 200
        status, _, err = server.stop()
    assert status == 0
    assert "Traceback" not in err


def test_a_client_that_goes_away_breaks_nothing() -> None:
    with served("--pace", "realistic", "--strict") as server:
        for contract in HOLDING:
            hold(contract, server.url).close()
        for contract in CONTRACTS:
            with talking(contract, server.url) as client:
                assert submit(client)
        status, _, err = server.stop()
    assert status == 0
    assert "Traceback" not in err


# ---- TLS


TLS = ("--tls", "--tls-port", "0", "--connect-port", "0", "--pace", "instant")


def test_with_tls_the_ready_line_has_its_addresses_and_the_authority_is_gone_at_the_end() -> None:
    with served(*TLS) as server:
        ready = json.loads(server.line)
        assert set(ready) == {"url", "pid", "ui", "tls_url", "ca", "connect_proxy"}
        authority = httpx.get(f"{server.url}/_mock/ca.pem", trust_env=False)
        assert authority.text == Path(ready["ca"]).read_text()
        assert ready["connect_proxy"].endswith(":" + authority.headers["x-mock-connect-port"])
        trusted = ssl.create_default_context(cadata=authority.text)
        with httpx.Client(verify=trusted, trust_env=False) as idle:
            found = idle.get(ready["tls_url"]).json()["providers"]
            assert found == {contract.key: f"{ready['tls_url']}/{contract.key}" for contract in CONTRACTS}
            begun = time.monotonic()
            status, _, err = server.stop()
        assert (status, time.monotonic() - begun < PATIENCE / 2) == (0, True)
    # Nothing was cancelled, although the idle client has not confirmed the end of TLS.
    assert not re.search("Traceback|ERROR|Cancel", err), err
    assert not Path(ready["ca"]).exists()


def test_a_watched_certificate_is_renewed_and_health_tells_of_one_that_cannot_be(tmp_path: Path) -> None:
    pairs = [own_certificates(tmp_path / name, ["127.0.0.1"]) for name in ("old", "new")]
    chain, key = (str(shutil.copy(pairs[0].chain, tmp_path / name)) for name in ("tls.crt", "tls.key"))
    trusted = ssl.create_default_context(cafile=str(pairs[1].authority))
    options = ("--watch", "--tls-cert", chain, "--tls-key", key, "--tls-port", "0", "--connect-port", "0")
    with served(*options) as server, httpx.Client(verify=trusted, trust_env=False, timeout=PATIENCE) as client:
        tls_url = json.loads(server.line)["tls_url"]
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            client.get(tls_url)
        replace_file(pairs[1].chain, chain)
        until(lambda: "problems" in client.get(f"{server.url}/_mock/health").json())
        replace_file(pairs[1].chain, key)
        until(lambda: "problems" not in client.get(f"{server.url}/_mock/health").json())
        assert client.get(tls_url).status_code == 200
        err = server.stop()[2]
    assert "the old ones stay: 'tls.key' is the key of another certificate than 'tls.crt'" in err
    assert "the certificate files were read again" in err


def replace_file(source: Path, target: str) -> None:
    """Replace a file at once: a copy in place would be seen half written."""
    os.replace(shutil.copy(source, f"{target}.new"), target)


def test_bytes_of_any_kind_at_its_ports_break_nothing() -> None:
    with served(*TLS) as server:
        ready = json.loads(server.line)
        for name in ("tls_url", "connect_proxy"):
            for data in (*NO_REQUESTS, b"", b"CONNECT \r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\x00" * 70_000):
                # Not only ConnectionError: a socket that its peer has reset is not connected any more.
                with connect(ready[name]) as connection, suppress(OSError):
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    assert b" 200 " not in connection.recv(65_536)
        trusted = ssl.create_default_context(cafile=ready["ca"])
        assert httpx.get(ready["tls_url"], verify=trusted, trust_env=False).status_code == 200
        status, _, err = server.stop()
    assert status == 0
    assert "Traceback" not in err


def test_without_tls_nothing_of_it_is_imported() -> None:
    script = "import sys, hobbyhorse.cli.commands.serve; print(*sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    late = {
        "trustme",
        "cryptography",
        *(f"hobbyhorse.server.front.{name}" for name in ("gate", "opening", "protocols")),
    }
    assert late & set(found) == set()


FIRST_REQUESTS = """
import asyncio, json, sys, threading
from hobbyhorse.cli.commands import serve
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.front.authority import own_certificates

SLOW = ("starlette", "httpx", "httpcore", "prometheus_client", "jinja2", "hobbyhorse")
found = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if watching and name.partition(".")[0] in SLOW and threading.current_thread() is threading.main_thread():
            found.append(name)

async def main():
    fake, watching[:] = Fake(options=Options()), [True]
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(event):
        if event["type"] == "http.response.start":
            assert event["status"] == 200, event
    for path in sys.argv[1:]:
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "",
                 "query_string": b"", "scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1),
                 "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer k")]}
        await fake(scope, receive, send)
    await fake.close()

watching = []
sys.meta_path.insert(0, Watch())
asyncio.run(main())
print(*found)
"""


@pytest.mark.parametrize("path", ["/", "/metrics", "/_mock/callbacks", "/_mock/scenarios", "/_mock/ui"])
def test_the_first_request_of_a_kind_imports_nothing_on_the_event_loop(path: str) -> None:
    """An import of 40 ms there delays the requests of everybody."""
    argv = [sys.executable, "-c", FIRST_REQUESTS, path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


# ---- in process, with a manual clock


@dataclass
class Moved:
    """A server in this process with one clock for all worlds."""

    clock: ManualClock
    url: str

    def advance(self, seconds: float) -> None:
        """Advance the clock; nothing waits on it, so this thread may do it."""
        asyncio.run(self.clock.advance(seconds))


@pytest.fixture
def moved() -> Iterator[Moved]:
    clock = ManualClock()
    with serving(Fake(options=Options(pace="realistic", strict=True, make_clock=lambda: clock))) as url:
        yield Moved(clock, url)


def get(url: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Request media as a browser does: without a key."""
    return httpx.request(method, url, headers=headers, trust_env=False, timeout=PATIENCE)


def test_a_video_matches_its_order_and_needs_no_key(contract: Contract, moved: Moved) -> None:
    with talking(contract, moved.url) as client:
        job = submit(client)
        moved.advance(3_600)
        url = find_video(client, job)
    head, whole = get(url, "HEAD"), get(url)
    assert (head.status_code, whole.status_code) == (200, 200)
    for response in (head, whole):
        assert response.headers["content-type"] == "video/mp4"
        assert int(response.headers["content-length"]) == len(whole.content)
    assert head.content == b""
    assert whole.content[4:8] == b"ftyp"
    facts = probe(whole.content)
    assert facts.fps == 24
    assert facts.frames == 24 * ordered_seconds(contract)
    part = get(url, range="bytes=100-199")
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert get(url, "POST").status_code == 405


def ordered_seconds(contract: Contract) -> int:
    """Return the length of the documented job's video."""
    operation, model, body = documented(contract)
    (pointer,) = model.parameters["duration"]
    found: Any = body
    for step in (*operation.model_parameters.pointer, *pointer):
        found = found.get(step, {})
    return int(found or model.defaults["duration"])


def test_a_first_frame_is_a_jpeg(moved: Moved) -> None:
    showing = [one for one in CONTRACTS if "first_frame_url" in one.operations["status"].bindings]
    for contract in showing:
        with talking(contract, moved.url) as client:
            job = submit(client)
            moved.advance(3_600)
            url = client.call("status", path={"job": job}).reading.values["first_frame_url"]
        response = get(str(url))
        assert (response.status_code, response.headers["content-type"]) == (200, "image/jpeg")
        assert response.content.startswith(b"\xff\xd8\xff")


def test_a_link_expires_when_the_contract_documents_it(contract: Contract, moved: Moved) -> None:
    life = contract.retention.result_url
    with talking(contract, moved.url) as client:
        job = submit(client)
        moved.advance(3_600)
        url = find_video(client, job)
        if life is None:
            moved.advance(10 * 365 * 86_400)
            assert get(url, "HEAD").status_code == 200
            return
        moved.advance(life - 3_600)
        assert get(url, "HEAD").status_code == 200
        moved.advance(3_600)
    response = get(url)
    assert (response.status_code, response.headers["content-type"]) == (403, "application/xml")
    assert "<Code>AccessDenied</Code>" in response.text


def test_a_link_that_was_changed_is_refused_in_xml(contract: Contract, moved: Moved) -> None:
    with talking(contract, moved.url) as client:
        job = submit(client)
        moved.advance(3_600)
        url = find_video(client, job)
        other = submit(client)
    assert get(url, "HEAD").status_code == 200
    for changed in (
        url.replace("video.mp4", "another.mp4"),
        url.replace(job, "no-such-job"),
        url.replace(job, other),
        url.replace("/media/", "/media/x"),
        url.replace("Expires=", "Expires=9") if "Expires=" in url else f"{url}&Expires=9",
        url.partition("?")[0],
        url + "0",
    ):
        response = get(changed)
        assert (response.status_code, response.headers["content-type"]) == (403, "application/xml"), changed
        assert "<Code>SignatureDoesNotMatch</Code>" in response.text


def test_missing_media_are_refused_with_404_in_xml(contract: Contract, moved: Moved) -> None:
    """With a link from a stopped server, the signature is valid and the job is gone."""
    with talking(contract, moved.url) as client:
        job = submit(client)
        moved.advance(3_600)
        link = urlsplit(find_video(client, job))
    with serving(Fake()) as url:
        response = get(f"{url}{link.path}?{link.query}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/xml")
    assert "<Code>NoSuchKey</Code>" in response.text


@pytest.mark.parametrize("path", ["", "/", "/..%2f..%2fetc%2fpasswd", "/x/y/../../../etc/passwd", "/a/b/c/d"])
def test_an_invalid_link_is_refused(path: str, moved: Moved) -> None:
    assert get(f"{moved.url}/media{path}").status_code in (403, 404)


def test_a_served_fake_works_stops_and_can_be_served_again() -> None:
    contract = CONTRACTS[0]
    fake = Fake(options=Options(pace="instant", strict=True))
    for _ in range(2):
        with serving(fake) as url, talking(contract, url) as client:
            assert probe(get(find_video(client, submit(client))).content).frames > 0
        with pytest.raises(httpx.ConnectError):
            get(url)
        assert "hobbyhorse" not in {thread.name for thread in threading.enumerate()}


def test_several_fakes_are_served_concurrently_and_share_nothing() -> None:
    contract = CONTRACTS[0]
    with serving(Fake()) as one, serving(Fake()) as other:
        with talking(contract, one) as client:
            job = submit(client)
            assert client.call("status", path={"job": job}).status == 200
        with talking(contract, other) as client:
            assert "unknown_job" in client.call("status", path={"job": job}).reading.situations


def test_a_port_that_is_taken_is_an_error_immediately() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serving(Fake(), port=taken.getsockname()[1]).__enter__()


def test_an_error_inside_the_context_stops_the_server() -> None:
    with pytest.raises(ZeroDivisionError), serving(Fake()) as url:
        raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        get(url)


SLOW_FFMPEG = """
import hobbyhorse.media.video as video, subprocess, sys
video._ffmpeg = lambda *how: subprocess.run(["sleep", "60"])
from hobbyhorse.cli.main import main
sys.exit(main())
"""


def test_a_stop_takes_less_than_five_seconds_whatever_runs_and_leaves_no_directory(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen(
        (sys.executable, "-c", SLOW_FFMPEG, "serve", "--port", "0", "--pace", "instant"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    try:
        url = str(json.loads(process.stdout.readline())["url"])
        with talking(CONTRACTS[0], url) as client:
            link = find_video(client, submit(client))
        waiting = threading.Thread(target=_get_quietly, args=(link,), daemon=True)
        waiting.start()
        until(lambda: list(tmp_path.glob("hobbyhorse-*/film-*")))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 5
        waiting.join(PATIENCE)
        assert not list(tmp_path.glob("hobbyhorse-*"))
    finally:
        process.kill()
        process.wait()
        # Not to its end: the encoder that the server leaves behind has it too.
        process.stdout.close()


def _get_quietly(url: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.get(url, timeout=PATIENCE)


def until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    last = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < last
        time.sleep(0.05)


def test_the_directories_of_a_killed_server_are_removed_by_the_next_one(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path)}
    with served("--pace", "instant", env=environment) as first:
        with talking(CONTRACTS[0], first.url) as client:
            httpx.get(find_video(client, submit(client)), timeout=PATIENCE).raise_for_status()
        assert list(tmp_path.glob("hobbyhorse-*"))
        first.process.kill()
        first.process.wait()
    assert list(tmp_path.glob("hobbyhorse-*"))
    with served(env=environment):
        until(lambda: not list(tmp_path.glob("hobbyhorse-*")))


@pytest.mark.parametrize(("value", "colours"), [("1", False), ("", None)])
def test_the_log_of_the_server_has_no_colours_with_no_color(
    value: str, colours: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    assert _config(Fake()).use_colors is colours
