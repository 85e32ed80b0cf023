"""`hobbyhorse proxy`: the mistakes before it listens, and a whole run from its ready line to its summary."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from hobbyhorse import MockServer
from hobbyhorse.server.run import bind
from tests.conftest import CONTRACTS, Run

CONTRACT = CONTRACTS[0]
COMMAND = (str(Path(sys.executable).with_name("hobbyhorse")), "proxy", "--provider", CONTRACT.key)
# Long enough for a machine that runs other tests at the same time; a proxy that hangs fails the test.
PATIENCE_SECONDS = 30.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--upstream", "ftp://x"],
            "--upstream is 'ftp://x'; allowed: http:// or https://, a host, and optionally a path",
        ),
        (["--upstream", "http://x/?q=1"], "--upstream is 'http://x/?q=1'; "),
        (["--upstream", "http://user:secret-word@x"], "--upstream is 'x'; "),
        (["--upstream", "http://x", "--public-url", "nonsense"], "--public-url is 'nonsense'; "),
        (["--upstream", "http://x", "--har", "/nowhere/at/all.har"], "--har: '/nowhere/at/all.har' cannot be written"),
        (["--upstream", "http://x", "--har", "/"], "--har: '/' cannot be written"),
        (["--upstream", "http://x", "--host", "203.0.113.1"], "cannot listen on 203.0.113.1:0: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_without_secrets_and_exit_status_2(options: list[str], message: str, run: Run) -> None:
    done = run("proxy", "--provider", CONTRACT.key, *options)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert message in line
    assert "secret-word" not in line


@pytest.mark.parametrize(("upstream", "host"), [("127.0.0.1", "127.0.0.1"), ("localhost", "0.0.0.0")])
def test_a_proxy_does_not_forward_to_itself(upstream: str, host: str, run: Run) -> None:
    with bind(host, 0) as free:
        port = free.getsockname()[1]
    url = f"http://{upstream}:{port}/v1"
    done = run("proxy", "--provider", CONTRACT.key, "--upstream", url, "--host", host, "--port", port)
    assert (done.status, done.out) == (2, "")
    assert f"--upstream is {url!r}, which is this proxy itself" in done.err


def test_traffic_is_forwarded_and_written_until_a_signal(tmp_path: Path) -> None:
    har = tmp_path / "traffic.har"
    with MockServer() as server:
        upstream = f"{server.url}/{CONTRACT.key}"
        command = [*COMMAND, "--upstream", upstream, "--har", str(har), "--strict"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as proxy:
            late = threading.Timer(PATIENCE_SECONDS, proxy.kill)
            late.start()
            assert proxy.stdout is not None
            ready = json.loads(proxy.stdout.readline())
            path = CONTRACT.operations["status"].path.replace("{", "").replace("}", "")
            found = httpx.get(f"{ready['url']}{path}", trust_env=False)
            proxy.send_signal(signal.SIGINT)
            _, err = proxy.communicate(timeout=PATIENCE_SECONDS)
            late.cancel()
    assert found.status_code == CONTRACT.operations["status"].situations["unauthenticated"].status
    assert ready == {"url": ready["url"], "pid": proxy.pid}
    assert proxy.returncode == 0
    lines = err.splitlines()
    assert lines[0].startswith(
        f"hobbyhorse: {ready['url']} forwards to {upstream}, and checks {CONTRACT.name}'s contract"
    )
    assert lines[-1] == "hobbyhorse: 1 exchanges, 0 findings"
    assert len(json.loads(har.read_text())["log"]["entries"]) == 1
    assert stat.S_IMODE(har.stat().st_mode) == 0o600
