"""`hobbyhorse health`: exit status 0 for a healthy server, and 1 with one line for everything else."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse import MockServer
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from tests.conftest import Done, Run


def test_a_server_that_is_up_is_healthy(run: Run) -> None:
    with MockServer() as server:
        for url in (server.url, f"{server.url}/"):
            assert run("health", url) == Done(0, f"{url}: ok\n", "")


def test_the_control_key_is_not_needed(run: Run) -> None:
    with serving(Fake(options=Options(control_key="secret", loopback=False))) as url:
        assert run("health", url).status == 0
    with serving(Fake(options=Options(loopback=False))) as url:
        assert run("health", url).status == 0


def test_neither_proxy_nor_redirect_is_used(httpserver: HTTPServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with MockServer() as server:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert run("health", server.url).status == 0
        to = {"location": f"{server.url}/_mock/health"}
        httpserver.expect_request("/_mock/health").respond_with_data(status=302, headers=to)
        done = run("health", httpserver.url_for(""))
    assert done.status == 1
    assert "302" in done.err


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "all is well", "hobbyhorse"),
        (200, "[]", "hobbyhorse"),
        (200, "[" * 4096, "hobbyhorse"),
        (200, '{"status": "starting"}', "hobbyhorse"),
        (201, '{"status": "ok"}', "201"),
        (503, '{"status": "ok"}', "503"),
        (403, '{"error": {"message": "no", "hint": "say please"}}', "403: no; say please"),
        (500, b"\xff\n\n\xfe", "500"),
    ],
)
def test_any_other_response_is_one_line_and_exit_status_1(
    status: int, body: str | bytes, words: str, httpserver: HTTPServer, run: Run
) -> None:
    httpserver.expect_request("/_mock/health").respond_with_data(body, status=status)
    done = run("health", httpserver.url_for(""))
    assert (done.status, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert words in line


@contextmanager
def sending(content: bytes, end: bool) -> Iterator[str]:
    """Yield the URL of a server that sends bytes to its first client, and then may close the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def send() -> None:
            connection, _ = listening.accept()
            held.append(connection)
            connection.recv(4096)
            connection.sendall(content)
            if end:
                connection.close()

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(30)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("content", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_bytes_that_are_not_a_response_are_one_line_and_exit_status_1(content: bytes, run: Run) -> None:
    with sending(content, end=True) as url:
        done = run("health", url)
    assert (done.status, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith(f"{url}: ")


@pytest.mark.parametrize("content", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"])
def test_a_server_that_is_slower_than_the_timeout_is_not_healthy(content: bytes, run: Run) -> None:
    with sending(content, end=False) as url:
        done = run("health", url, "--timeout", "0.05")
    assert (done.status, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1, done.err


def test_a_refused_connection_is_one_line_and_exit_status_1(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    done = run("health", url)
    assert (done.status, done.out) == (1, "")
    assert done.err == f"{url}: Connection refused\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "'nonsense' is not a server URL; allowed: http:// or https:// and a host"),
        (["ftp://x"], "'ftp://x' is not a server URL"),
        (["http://"], "'http://' is not a server URL"),
        (["http://x", "--timeout", "0"], "--timeout is 0.0; allowed: greater than 0, and at most 3600 seconds"),
        (["http://x", "--timeout", "nan"], "--timeout is nan"),
        (["http://x", "--timeout", "inf"], "--timeout is inf"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_the_options_is_one_line_and_exit_status_2(arguments: list[str], words: str, run: Run) -> None:
    done = run("health", *arguments)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert words in line


def test_without_a_url_the_server_of_this_machine_is_checked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with MockServer() as server:
        monkeypatch.setenv("HOBBYHORSE_SERVE_PORT", server.url.rpartition(":")[2])
        assert run("health") == Done(0, f"{server.url}: ok\n", "")
    monkeypatch.setattr("hobbyhorse.cli.commands.health.failure", lambda url, timeout: f"asked {url}")
    monkeypatch.delenv("HOBBYHORSE_SERVE_PORT")
    assert "asked http://127.0.0.1:8000" in run("health").err


def test_health_imports_little() -> None:
    slow = ["httpx", "starlette", "uvicorn", "rich", "asyncio", "hobbyhorse.server.app"]
    code = (
        "import sys, hobbyhorse.cli.main; sys.argv[1:] = ['health', 'http://127.0.0.1:1']\n"
        "try: hobbyhorse.cli.main.main()\n"
        f"except SystemExit as end: print(end.code, [name for name in {slow} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "1 []\n"
