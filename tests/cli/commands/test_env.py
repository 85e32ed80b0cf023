"""`hobbyhorse env`: the lines that it prints are valid in a shell, and name what each client reads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.front.authority import own_certificates
from hobbyhorse.server.front.variables import AUTHORITY_VARIABLES
from hobbyhorse.server.run import serving
from tests import specimen
from tests.conftest import Run


def test_a_shell_evaluates_the_lines_to_the_values(contract: Contract, run: Run) -> None:
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


def test_the_secret_of_signed_callbacks_is_always_printed(contract: Contract, run: Run) -> None:
    values = json.loads(run("env", contract.key, "--format", "json").out)
    signed = contract.callbacks is not None and contract.callbacks.signature is not None
    assert (DEFAULT_SECRET in values.values()) is signed


def test_the_key_has_the_form_that_the_contract_documents(run: Run) -> None:
    done = run("env", "acme", "--contracts", specimen.DIRECTORY, "--format", "json")
    assert json.loads(done.out)["ACME_API_KEY"] == "acme-0123abcd"
    assert json.loads(run("env", "hiapi", "--format", "json").out)["HIAPI_API_KEY"] == "test"


# ---- other syntaxes


def test_json_has_the_same_values(contract: Contract, run: Run) -> None:
    done = run("env", contract.key, "--key", "a 'b'", "--format", "json")
    assert json.loads(done.out) == contract.environment("http://127.0.0.1:8000", "a 'b'", DEFAULT_SECRET)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("plain-1", "HIAPI_API_KEY=plain-1"),
        ("a b", 'HIAPI_API_KEY="a b"'),
        ('q"$`\\', 'HIAPI_API_KEY="q\\"\\$\\`\\\\"'),
    ],
)
def test_a_file_of_variables_quotes_only_what_needs_it(key: str, line: str, run: Run) -> None:
    assert line in run("env", "hiapi", "--key", key, "--format", "dotenv").out.splitlines()


def test_powershell_doubles_quotes(run: Run) -> None:
    assert (
        "$env:HIAPI_API_KEY = 'a''b'" in run("env", "hiapi", "--key", "a'b", "--format", "powershell").out.splitlines()
    )


# ---- fixed hosts


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, bytes]]:
    """The URL of a server that gives its authority to clients, the port of its proxy, and the authority."""
    authority = own_certificates(tmp_path_factory.mktemp("authority"), ["localhost"]).authority
    assert authority is not None
    certificate = authority.read_bytes()
    with serving(Fake(options=Options(authority=certificate, connect_port=4711))) as url:
        yield url, 4711, certificate


def test_with_tls_the_client_stays_at_its_host_and_gets_a_proxy_and_an_authority(
    contract: Contract, secure: tuple[str, int, bytes], run: Run, tmp_path: Path
) -> None:
    url, port, certificate = secure
    file = tmp_path / "new" / "ca.pem"
    done = run("env", contract.key, "--url", f"{url}/", "--tls", "--ca-file", file, "--format", "json")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert found[f"{contract.key.upper()}_BASE_URL"] == f"https://{contract.hosts[0]}"
    assert found["HTTPS_PROXY"] == f"http://127.0.0.1:{port}"
    assert {found[name] for name in AUTHORITY_VARIABLES} == {str(file)}
    assert file.read_bytes() == certificate


def test_the_authority_is_kept_in_the_cache_under_a_name_of_its_own(
    secure: tuple[str, int, bytes], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines = run("env", "hiapi", "--url", secure[0], "--tls").out.splitlines()
    path = next(line.partition("=")[2] for line in lines if line.startswith("export SSL_CERT_FILE="))
    assert Path(path).is_relative_to(tmp_path)
    assert Path(path).read_bytes() == secure[2]
    # Lines for SDKs would set another base URL.
    assert not [line for line in lines if line.startswith("#")]


def test_the_proxy_may_have_another_address(secure: tuple[str, int, bytes], run: Run, tmp_path: Path) -> None:
    given = ("--proxy", "http://mock:9999", "--ca-file", tmp_path / "ca.pem", "--format", "json")
    found = json.loads(run("env", "hiapi", "--url", secure[0], "--tls", *given).out)
    assert found["HTTPS_PROXY"] == found["https_proxy"] == "http://mock:9999"


def test_with_a_certificate_of_its_own_a_server_gives_only_its_proxy(run: Run) -> None:
    with serving(Fake(options=Options(connect_port=4711))) as url:
        found = json.loads(run("env", "hiapi", "--url", url, "--tls", "--format", "json").out)
    assert found["HTTPS_PROXY"] == "http://127.0.0.1:4711"
    assert not set(AUTHORITY_VARIABLES) & set(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--format", "xml"], "--format is 'xml'; allowed: shell, powershell, dotenv, json"),
        (["--proxy", "http://x"], "--proxy needs --tls"),
        (["--ca-file", "x"], "--ca-file needs --tls"),
        (["--tls", "--url", "nonsense"], "--url is 'nonsense'; allowed: http:// or https:// and a host"),
        (["--tls", "--url", "http://127.0.0.1:1"], "no server at http://127.0.0.1:1: Connection refused"),
        (["--tls", "--url", "{secure}", "--ca-file", "/proc/nowhere/ca.pem"], "cannot be written to: "),
        (["--tls", "--url", "{plain}"], "serves no HTTPS; start it with `hobbyhorse serve --tls`"),
        (["--tls", "--url", "{other}"], "is not a hobbyhorse server with TLS"),
    ],
)
def test_a_mistake_is_one_line(
    given: list[str], said: str, run: Run, secure: tuple[str, int, bytes], httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/_mock/ca.pem").respond_with_data("<html>")
    with serving(Fake()) as plain:
        urls = {"secure": secure[0], "plain": plain, "other": httpserver.url_for("").rstrip("/")}
        done = run("env", "hiapi", *(one.format(**urls) for one in given))
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert said in done.err
