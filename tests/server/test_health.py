"""A health check returns one line for every kind of unhealthy server, within its timeout."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.health import HEALTH_PATH, MOST_HEALTH_BYTES, failure
from hobbyhorse.server.run import serving

# Real seconds; a healthy server on this machine needs a few milliseconds.
PATIENCE = 30.0


@contextmanager
def raw_server(*chunks: bytes, pause: float = 0.0) -> Iterator[str]:
    """Serve one connection: send the chunks with a pause between them, then close."""
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                for chunk in chunks:
                    connection.sendall(chunk)
                    if stopped.wait(pause):
                        break

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stopped.set()


def test_a_running_server_is_healthy_with_and_without_a_trailing_slash() -> None:
    with serving(Fake()) as url:
        assert failure(url, PATIENCE) is None
        assert failure(f"{url}/", PATIENCE) is None


def test_a_server_with_a_control_key_is_healthy_to_a_probe_without_one() -> None:
    with serving(Fake(options=Options(control_key="secret"))) as url:
        assert failure(url, PATIENCE) is None


def test_a_port_without_a_listener_is_reported_as_the_system_reports_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}", PATIENCE) == "Connection refused"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (503, '{"status": "ok"}', "responds 503"),
        (403, '{"error": {"message": "no", "hint": "send a key"}}', "responds 403: no; send a key"),
        (404, '{"error": "no"}', "responds 404"),
        (500, "not JSON", "responds 500"),
        (500, "[" * MOST_HEALTH_BYTES, "responds 500"),
        (200, '{"status": "starting"}', "responds 200, but is not a hobbyhorse server"),
        (200, '["ok"]', "responds 200, but is not a hobbyhorse server"),
        (201, '{"status": "ok"}', "responds 201, but is not a hobbyhorse server"),
    ],
)
def test_a_response_that_is_not_healthy_is_reported_with_its_status(
    status: int, body: str, expected: str, httpserver: HTTPServer
) -> None:
    httpserver.expect_request(HEALTH_PATH).respond_with_data(body, status)
    assert failure(httpserver.url_for(""), PATIENCE) == expected


def test_a_redirect_is_not_followed_to_another_server(httpserver: HTTPServer) -> None:
    with serving(Fake()) as url:
        location = {"location": url + HEALTH_PATH}
        httpserver.expect_request(HEALTH_PATH).respond_with_data("", 302, headers=location)
        assert failure(httpserver.url_for(""), PATIENCE) == "responds 302"


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(Fake()) as url:
        assert failure(url, PATIENCE) is None


def test_a_server_that_closes_without_a_response_is_reported() -> None:
    with raw_server() as url:
        assert failure(url, PATIENCE) == "Remote end closed connection without response"


def test_a_server_that_drips_cannot_extend_the_timeout() -> None:
    """Each byte arrives within the timeout, the response as a whole does not."""
    drips = [b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", *[b"x"] * 50]
    with raw_server(*drips, pause=0.05) as url:
        assert failure(url, 0.2) == "no response within 0.2 s"
